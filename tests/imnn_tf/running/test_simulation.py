import logging
import os
import signal
import subprocess
import sys
import textwrap
import threading
import time
from concurrent.futures import BrokenExecutor, ProcessPoolExecutor, ThreadPoolExecutor
from multiprocessing import active_children, get_context

import numpy as np
import pytest

from imnn_tf.lfi import SimulationError, simulate
from imnn_tf.running.executors import Pool, check_executor
from imnn_tf.running.tasks import Task, random_argument

THETA = np.random.default_rng(0).normal(size=(60, 2))


@pytest.fixture
def noisy():
    """A simulator that takes a generator. It is a closure, as users' simulators often are."""
    offset = 3.0

    def simulator(theta, rng):
        return theta[:, :1] + offset + rng.normal(size=(len(theta), 4))

    return simulator


def run(simulator, theta=THETA, **options):
    return simulate(simulator, theta, **{"seed": 1, "progress": False, **options})


def test_what_a_simulator_takes_as_its_random_argument():
    class Noise:
        def simulator(self, parameters, seed=None, simulator_args=None):
            return parameters

    assert random_argument(lambda theta: theta) == "nothing"
    assert random_argument(Noise().simulator) == "nothing"
    assert random_argument(np.exp) == "nothing"
    assert random_argument(lambda theta, *, rng: theta) == "nothing"
    assert random_argument(lambda theta, generator: theta) == "rng"
    assert random_argument(lambda theta, seed: theta) == "seeds"
    assert random_argument(lambda theta, seeds: theta) == "seeds"


@pytest.mark.parametrize("executor", [None, ThreadPoolExecutor])
def test_a_simulator_may_work_in_place(noisy, executor):
    def in_place(theta, rng):
        theta -= 3
        theta *= 2
        return noisy(theta / 2 + 3, rng)

    theta = THETA.copy()
    result = run(in_place, theta, batch_size=20, executor=executor)
    np.testing.assert_array_equal(theta, THETA)
    np.testing.assert_array_equal(result.theta, THETA)
    expected = run(noisy, batch_size=20)
    np.testing.assert_allclose(result.x, expected.x, rtol=1e-12, atol=1e-12)


def test_masked_simulations_have_failed():
    def masked(theta, rng):
        return np.ma.masked_less(theta, THETA.min() + 1e-6)

    with pytest.raises(SimulationError, match="`simulator` must not have masked values, got 1 of"):
        run(masked)
    result = run(masked, on_error="skip", batch_size=60)
    lowest = THETA.min(axis=1) == THETA.min()
    np.testing.assert_array_equal(result.x, np.where(lowest[:, np.newaxis], np.nan, THETA))


def test_seeds_differ_between_simulations_and_belong_to_them():
    result = run(lambda theta, seeds: seeds, batch_size=7)
    np.testing.assert_array_equal(result.x, result.seeds)
    assert len(set(result.seeds)) == 60
    assert (result.seeds >= 0).all()
    np.testing.assert_array_equal(run(lambda theta, seeds: seeds, batch_size=60).x, result.x)
    children = [np.random.SeedSequence(1, spawn_key=(i,)) for i in range(60)]
    first = [child.generate_state(1, np.uint64)[0] >> np.uint64(1) for child in children]
    np.testing.assert_array_equal(result.seeds, first)


def test_generator_is_made_from_the_child_of_the_first_simulation(noisy):
    result = run(noisy)
    rng = np.random.default_rng(np.random.SeedSequence(1, spawn_key=(17,)))
    np.testing.assert_array_equal(result.x[17:18], noisy(THETA[17:18], rng))
    assert (run(noisy, seed=2).x != result.x).all()
    assert (run(noisy, seed=None).x != run(noisy, seed=None).x).all()


def test_same_numbers_wherever_simulations_run(noisy):
    here = run(noisy, batch_size=4).x
    with ThreadPoolExecutor(3) as threads:
        np.testing.assert_array_equal(run(noisy, batch_size=4, executor=threads).x, here)
    for workers in (1, 2, 4):
        there = run(noisy, batch_size=4, executor=workers).x
        np.testing.assert_array_equal(there, here)


def test_a_process_pool_of_the_users_own_is_left_open(noisy):
    with ProcessPoolExecutor(2, mp_context=get_context("spawn")) as executor:
        first = run(noisy, executor=executor).x
        np.testing.assert_array_equal(run(noisy, executor=executor).x, first)
        assert executor.submit(abs, -1).result() == 1
    np.testing.assert_array_equal(run(noisy).x, first)


def test_loky(noisy):
    import loky

    def executor():
        return loky.get_reusable_executor(2)

    np.testing.assert_array_equal(run(noisy, executor=executor).x, run(noisy).x)


@pytest.fixture
def picky():
    """A simulator that fails where the first parameter is large."""
    largest = 1

    def simulator(theta):
        if (theta[:, 0] > largest).any():
            raise RuntimeError("picky")
        return theta

    return simulator


def test_what_a_worker_raises_says_where(picky):
    with pytest.raises(SimulationError, match="picky") as caught:
        run(picky, executor=2)
    assert "in simulator" in "".join(caught.value.__cause__.__notes__)


@pytest.mark.filterwarnings("ignore")  # the cluster warns for reasons of its own
def test_dask_on_workers_of_their_own(noisy, picky):
    from distributed import Client, LocalCluster

    here = run(noisy, batch_size=5).x
    with (
        LocalCluster(n_workers=2, threads_per_worker=1, dashboard_address=None) as cluster,
        Client(cluster) as client,
    ):
        for executor in (client, client.get_executor(), client.get_executor):
            there = run(noisy, batch_size=5, executor=executor, max_pending=4).x
            np.testing.assert_array_equal(there, here)
        with Pool(noisy, check_executor(client)) as pool:
            assert pool.workers == 2
        some = run(picky, batch_size=4, executor=client, on_error="skip")
        logs = str(client.get_worker_logs())
    np.testing.assert_array_equal(~some.ok, THETA[:, 0] > 1)
    assert "picky" not in logs, "a failing simulation must not be logged by the workers"


def test_the_simulator_travels_once_to_each_worker_started_here():
    class Counted:
        pickled = 0

        def __reduce__(self):
            Counted.pickled += 1
            return float, (1.0,)

    heavy = Counted()

    def simulator(theta):
        return theta * float(isinstance(heavy, float))

    assert (run(simulator, executor=2).x == THETA).all()
    assert Counted.pickled == 1


def test_order_is_that_of_the_parameters_whatever_finishes_first():
    def slow_first(theta):
        time.sleep(0.05 * (theta[0, 0] < 3))
        return theta

    theta = np.arange(12.0)[:, np.newaxis]
    with ThreadPoolExecutor(4) as threads:
        np.testing.assert_array_equal(run(slow_first, theta, executor=threads).x, theta)


def failing(theta, seeds):
    if theta[0, 0] > 1:
        raise RuntimeError("too large")
    return theta


@pytest.mark.parametrize("executor", [None, 2])
def test_raise_stops_and_keeps_what_had_finished(executor):
    theta = np.array([[0.0], [0.5], [2.0], [0.1]])
    with pytest.raises(SimulationError, match="Simulation 2 of 4 failed: too large") as caught:
        run(failing, theta, executor=executor, max_pending=1)
    assert isinstance(caught.value.__cause__, RuntimeError)
    result = caught.value.result
    np.testing.assert_array_equal(result.ok, [True, True, False, False])
    np.testing.assert_array_equal(result.x[:2], theta[:2])


def test_skip_leaves_failures_out_and_says_so(caplog):
    theta = np.array([[0.0], [2.0], [0.1]])
    result = run(failing, theta, on_error="skip")
    np.testing.assert_array_equal(result.ok, [True, False, True])
    assert np.isnan(result.x[1])
    (failure,) = result.failures
    assert (failure.index, failure.theta.tolist(), failure.attempts) == (1, [2.0], 1)
    assert failure.seed == result.seeds[1]
    assert failure.error == "RuntimeError: too large"
    assert "1 of 3 simulations failed" in caplog.text
    assert "biased" in caplog.text


@pytest.mark.parametrize("executor", [None, 2])
def test_retry_uses_other_seeds(executor):
    def flaky(theta, seeds):
        if seeds[0] % 2:
            raise RuntimeError("odd")
        return seeds

    result = run(flaky, on_error="retry", retries=30, executor=executor)
    assert result.ok.all()
    first = result.seeds
    np.testing.assert_array_equal(result.x[first % 2 == 0], first[first % 2 == 0])
    assert (result.x[first % 2 == 1] != first[first % 2 == 1]).all()
    gone = run(flaky, on_error="retry", retries=1, executor=executor)
    assert {failure.attempts for failure in gone.failures} == {2}


def test_what_reduces_to_nan_has_failed():
    def log(x):
        with np.errstate(invalid="ignore"):
            return np.log(x)

    result = run(lambda theta: theta, reduce=log, batch_size=8, on_error="skip")
    positive = (THETA > 0).all(axis=1)
    np.testing.assert_array_equal(result.ok, positive)
    np.testing.assert_allclose(result.x[positive], np.log(THETA[positive]))
    assert len(result.failures) == (~positive).sum()
    with pytest.raises(SimulationError, match="infinite or NaN"):
        run(lambda theta: theta, reduce=log)


@pytest.mark.parametrize("executor", [None, 2])
@pytest.mark.parametrize("batch_size", [7, 500])
def test_failures_are_of_rows_not_of_batches(batch_size, executor):
    def failing(theta, seeds):
        if (theta > 98).any():
            raise RuntimeError("too large")
        return seeds

    theta = np.random.default_rng(5).permutation(np.arange(500.0) % 100)[:, np.newaxis]
    for options in ({"on_error": "skip"}, {"on_error": "retry", "retries": 2}):
        result = run(failing, theta, batch_size=batch_size, executor=executor, **options)
        np.testing.assert_array_equal(result.ok, theta[:, 0] < 99)
        np.testing.assert_array_equal(result.x[result.ok], result.seeds[result.ok])
        assert [failure.index for failure in result.failures] == np.flatnonzero(~result.ok).tolist()
        assert {failure.attempts for failure in result.failures} == {1 + options.get("retries", 0)}


@pytest.mark.parametrize("argument", ["nothing", "rng", "seeds"])
def test_a_worker_finds_the_rows_that_fail_in_one_task(argument):
    class Counting(ThreadPoolExecutor):
        tasks = 0

        def submit(self, *args):
            self.tasks += 1
            return super().submit(*args)

    def failing(theta, noise=None):
        if (theta % 1 < 0.1).any():
            raise RuntimeError("too small")
        if noise is None:
            return theta
        return theta + (noise[:, None] if argument == "seeds" else noise.normal(size=theta.shape))

    simulator = {
        "nothing": lambda theta: failing(theta),
        "rng": lambda theta, rng: failing(theta, rng),
        "seeds": lambda theta, seeds: failing(theta, seeds),
    }[argument]
    theta = np.random.default_rng(0).uniform(size=(230, 1))
    here = run(simulator, theta, batch_size=20, on_error="skip")
    assert 10 < len(here.failures) < 40
    with Counting(2) as executor:
        there = run(simulator, theta, batch_size=20, on_error="skip", executor=executor)
    assert executor.tasks == 12
    np.testing.assert_array_equal(there.x, here.x)
    np.testing.assert_array_equal(there.ok, here.ok)
    for got, expected in zip(there.failures, here.failures, strict=True):
        assert (got.index, got.seed, got.error) == (expected.index, expected.seed, expected.error)


def test_a_time_limit_and_a_dying_worker_cost_only_the_rows_to_blame():
    def bad(theta):
        if (theta == 3).any():
            time.sleep(60)
        if (theta == 17).any():
            os.kill(os.getpid(), signal.SIGKILL)
        return theta

    theta = np.arange(20.0)[:, np.newaxis]
    result = run(bad, theta, batch_size=4, executor=2, timeout=2.0, on_error="skip")
    np.testing.assert_array_equal(np.flatnonzero(~result.ok), [3, 17])
    np.testing.assert_array_equal(result.x[result.ok], theta[result.ok])


def test_all_processes_start_with_the_first_task():
    # A process that starts while another one dies breaks the executor of Python 3.11, so none
    # may start later than this. Whether the two meet is a matter of luck.
    theta = np.zeros((1, 1))
    task = Task(theta, random_argument="nothing", entropy=0, spawn_keys=[])
    before = len(active_children())
    with Pool(np.abs, 3) as pool:
        pool.submit(task).result()
        assert len(active_children()) == before + 3


def test_retry_repeats_what_reduces_to_nan():
    def log(x):
        with np.errstate(invalid="ignore"):
            return np.log(x)

    def noise(theta, rng):
        return rng.normal(size=len(theta))

    for batch_size in (1, 20):
        result = run(noise, reduce=log, batch_size=batch_size, on_error="retry", retries=40)
        assert result.ok.all()
        assert np.isfinite(result.x).all()
    gone = run(lambda theta: -abs(theta), reduce=log, batch_size=20, on_error="retry", retries=2)
    assert {failure.attempts for failure in gone.failures} == {3}
    assert not gone.ok.any()


def test_time_limit_takes_late_batches_out_and_spares_the_others(caplog):
    def stuck(theta):
        time.sleep(60 * (theta[0, 0] == 5))
        return theta

    theta = np.arange(10.0)[:, np.newaxis]
    start = time.monotonic()
    result = run(stuck, theta, executor=2, timeout=4.0, on_error="skip")
    assert time.monotonic() - start < 30
    np.testing.assert_array_equal(np.flatnonzero(~result.ok), [5])
    assert "TimeoutError" in result.failures[0].error


def test_time_limit_with_an_executor_of_the_users_own():
    release = threading.Event()

    def stuck(theta):
        if theta[0, 0] == 1:
            release.wait(60)
        return theta

    theta = np.arange(6.0)[:, np.newaxis]
    with ThreadPoolExecutor(2) as threads:
        result = run(stuck, theta, executor=threads, timeout=0.5, on_error="skip")
        release.set()
    np.testing.assert_array_equal(np.flatnonzero(~result.ok), [1])


@pytest.mark.parametrize("kind", ["own", "factory"])
def test_a_killed_worker_is_replaced_and_nothing_finished_is_lost(kind, tmp_path):
    marker = str(tmp_path / "killed")

    def once(theta):
        if theta[0, 0] == 20 and not os.path.exists(marker):
            open(marker, "w").close()
            os.kill(os.getpid(), signal.SIGKILL)
        return theta

    def factory():
        return ProcessPoolExecutor(2, mp_context=get_context("spawn"))

    theta = np.arange(40.0)[:, np.newaxis]
    result = run(once, theta, executor=2 if kind == "own" else factory)
    assert os.path.exists(marker)
    np.testing.assert_array_equal(result.x, theta)


@pytest.mark.parametrize("after", [0, 5])
def test_workers_found_dead_when_the_next_task_is_sent_are_replaced(after):
    made = []

    class Dying(ThreadPoolExecutor):
        def submit(self, *args):
            if len(made) == 1 and self.sent >= after:
                raise BrokenExecutor("the workers are dead")
            self.sent += 1
            return super().submit(*args)

    def factory():
        made.append(Dying(2))
        made[-1].sent = 0
        return made[-1]

    theta = np.arange(20.0)[:, np.newaxis]
    result = run(lambda theta: theta, theta, executor=factory)
    np.testing.assert_array_equal(result.x, theta)
    assert len(made) == 2
    made.clear()
    with pytest.raises(SimulationError, match="A worker of `executor` died"):
        run(lambda theta: theta, theta, executor=factory())


def test_a_simulation_that_always_kills_its_worker_is_found_out():
    def deadly(theta):
        if theta[0, 0] == 7:
            os.kill(os.getpid(), signal.SIGKILL)
        return theta

    theta = np.arange(12.0)[:, np.newaxis]
    result = run(deadly, theta, executor=2, on_error="skip")
    np.testing.assert_array_equal(np.flatnonzero(~result.ok), [7])
    with (
        ProcessPoolExecutor(1, mp_context=get_context("spawn")) as executor,
        pytest.raises(SimulationError, match="A worker of `executor` died") as caught,
    ):
        run(deadly, theta, executor=executor)
    assert caught.value.result.ok[:6].all()


def test_progress_counts_finished_simulations():
    class Bar:
        counts = ()

        def update(self, n):
            self.counts += (n,)

    bar = Bar()
    simulate(lambda theta: theta, THETA, batch_size=25, progress=bar)
    assert bar.counts == (25, 25, 10)


def test_ctrl_c_returns_what_has_finished(caplog):
    def interrupts(theta):
        if theta[0, 0] == 5:
            signal.raise_signal(signal.SIGINT)
        return theta

    theta = np.arange(9.0)[:, np.newaxis]
    with caplog.at_level(logging.INFO):
        result = run(interrupts, theta)
    assert result.interrupted
    assert result.ok.sum() == 6
    assert "Stopped after 6 of 9" in caplog.text
    with ThreadPoolExecutor(1) as threads:
        timer = threading.Timer(0.5, signal.raise_signal, [signal.SIGINT])
        timer.start()
        pooled = run(lambda t: time.sleep(0.1) or t, theta, executor=threads, max_pending=1)
    assert pooled.interrupted
    assert 0 < pooled.ok.sum() < 9


def test_store_resumes_after_kill_9(tmp_path):
    script = textwrap.dedent(
        """
        import os, signal, sys
        import numpy as np
        from imnn_tf.lfi import simulate

        theta = np.arange(20.0)[:, np.newaxis]
        def simulator(theta, rng):
            if theta[0, 0] == 12:
                os.kill(os.getpid(), signal.SIGKILL)
            import time
            time.sleep(0.05)
            return theta + rng.normal(size=theta.shape)
        simulate(simulator, theta, seed=3, store=sys.argv[1], progress=False)
        """
    )
    code = subprocess.run([sys.executable, "-c", script, str(tmp_path)]).returncode
    assert code == -signal.SIGKILL
    calls = []

    def simulator(theta, rng):
        calls.append(theta[0, 0])
        return theta + rng.normal(size=theta.shape)

    theta = np.arange(20.0)[:, np.newaxis]
    resumed = simulate(simulator, theta, seed=3, store=tmp_path, progress=False)
    # The first simulation is written at once. The last ones before the kill may be lost.
    assert 1 <= calls[0] <= 12
    assert calls == list(range(int(calls[0]), 20))
    afresh = simulate(simulator, theta, seed=3, progress=False)
    np.testing.assert_array_equal(resumed.x, afresh.x)
    with pytest.raises(ValueError, match="`store` must be a new folder or the same run's"):
        simulate(simulator, theta, seed=4, store=tmp_path, progress=False)


@pytest.mark.parametrize(
    ("change", "error", "message"),
    [
        ({"theta": np.zeros(3)}, ValueError, r"`theta` must have shape \(any, any\)"),
        ({"simulator": 3}, TypeError, "`simulator` must be callable"),
        ({"batch_size": 0}, ValueError, "`batch_size` must be at least 1"),
        ({"timeout": 1.0}, ValueError, "`timeout` must come with an `executor`"),
        ({"on_error": "ignore"}, ValueError, "`on_error` must be one of"),
        ({"retries": -1}, ValueError, "`retries` must be at least 0"),
        ({"store": "x"}, ValueError, "`seed` must be given with a `store`"),
        ({"executor": "many"}, TypeError, "`executor` must be an integer"),
        ({"executor": 0}, ValueError, "`executor` must be at least 1"),
        ({"executor": lambda: 3}, TypeError, "must return an executor, got int"),
        ({"simulator": lambda theta: theta[:1]}, ValueError, "one simulation for each row"),
        ({"simulator": lambda theta: 3.0}, ValueError, "one simulation for each row"),
    ],
)
def test_wrong_arguments_are_named(change, error, message):
    arguments = {"simulator": lambda theta: theta, "theta": THETA, "batch_size": 2}
    with pytest.raises(error, match=message):
        simulate(**{**arguments, "progress": False, **change})


def test_shapes_must_agree():
    def ragged(theta):
        return np.zeros((1, 1 + int(theta[0, 0] > 0)))

    with pytest.raises(ValueError, match="simulations of one shape"):
        run(ragged)


def test_integers_stay_integers_until_they_cannot():
    theta = np.arange(4.0)[:, np.newaxis]
    assert run(lambda t: t.astype(int), theta).x.dtype.kind == "i"
    mixed = run(lambda t: t.astype(int) if t[0, 0] < 2 else t + 0.5, theta)
    np.testing.assert_array_equal(mixed.x[:, 0], [0, 1, 2.5, 3.5])


def test_a_pool_may_serve_several_runs(noisy):
    with Pool(noisy, 1) as pool:
        first, second = (run(noisy, executor=pool).x for _ in range(2))
    np.testing.assert_array_equal(first, second)


def noise(theta, rng):
    return theta + rng.normal(size=theta.shape)


@pytest.mark.parametrize("executor", [None, 2])
@pytest.mark.parametrize("batch_size", [1, 20])
@pytest.mark.parametrize("finished", [True, False])
def test_a_store_of_another_simulator_or_estimator_is_refused(
    batch_size, executor, finished, tmp_path
):
    def first(theta, rng):
        if not finished and theta[-1, 0] == THETA[-1, 0]:
            raise RuntimeError("stopped")
        return noise(theta, rng)

    options = {"store": tmp_path, "batch_size": batch_size, "executor": executor}
    if finished:
        run(first, reduce=np.tanh, **options)
    else:
        with pytest.raises(SimulationError):
            run(first, reduce=np.tanh, **options)
    with pytest.raises(ValueError, match="`get_estimate` must be the one that `store` was written"):
        run(noise, reduce=lambda x: 1.01 * np.tanh(x), **options)
    with pytest.raises(ValueError, match="must be the one that `store` was written"):
        run(lambda theta, rng: noise(theta, rng) + 0.01, reduce=np.tanh, **options)
    again = run(noise, reduce=np.tanh, **options)
    np.testing.assert_array_equal(again.x, run(noise, reduce=np.tanh, batch_size=batch_size).x)


def test_a_simulator_with_its_own_generator_is_not_refused(tmp_path, caplog):
    rng = np.random.default_rng(0)

    def own(theta):
        return noise(theta, rng)

    first = run(own, store=tmp_path)
    np.testing.assert_array_equal(run(own, store=tmp_path).x, first.x)
    fixed = tmp_path / "fixed"
    run(lambda theta: theta, store=fixed)
    with pytest.raises(ValueError, match="`simulator` must be the one"):
        run(lambda theta: 2 * theta, store=fixed)
    assert not caplog.text


def test_a_damaged_probe_is_reported(tmp_path, caplog):
    run(noise, store=tmp_path, batch_size=5)
    (probe,) = tmp_path.glob("probe-*.npz")
    probe.unlink()
    run(noise, store=tmp_path, batch_size=5)
    assert "used as it is" in caplog.text
