import json

import numpy as np
import pytest

from imnn_tf.running.store import Store, folder_of, save_simulations
from imnn_tf.utils.checkpoint import CorruptFileError

IDENTITY = {"seed": ["1", 2], "theta": "abc"}


def contents(directory):
    store = Store(directory, IDENTITY)
    shards = list(store.load())
    store.close()
    return {int(i): x for indices, rows in shards for i, x in zip(indices, rows, strict=True)}


def test_what_was_added_is_found_again(tmp_path):
    store = Store(tmp_path / "new" / "run", IDENTITY)
    for i in range(5):
        store.add(np.array([2 * i, 2 * i + 1]), np.full((2, 3), float(i)))
    store.close()
    found = contents(tmp_path / "new" / "run")
    assert sorted(found) == list(range(10))
    np.testing.assert_array_equal(found[7], [3, 3, 3])
    store = Store(tmp_path / "new" / "run", IDENTITY)
    store.add(np.array([10]), np.zeros((1, 3)))
    store.close()
    assert len(contents(tmp_path / "new" / "run")) == 11


def test_slow_simulations_are_written_at_once_and_fast_ones_together(tmp_path, monkeypatch):
    clock = [0.0]
    monkeypatch.setattr("imnn_tf.running.store.time.monotonic", lambda: clock[0])
    store = Store(tmp_path, IDENTITY)
    store._cost = 1.0
    for step, written in ((5.0, 0), (4.0, 0), (2.0, 1)):
        clock[0] += step
        store.add(np.array([0]), np.zeros((1, 1)))
        assert len(list(tmp_path.glob("*.npz"))) == written
    store.close()


def test_a_line_cut_off_by_a_kill_does_not_count(tmp_path):
    store = Store(tmp_path, IDENTITY)
    store.add(np.array([0]), np.zeros((1, 1)))
    store.close()
    manifest = tmp_path / "manifest.jsonl"
    whole = manifest.read_bytes()
    manifest.write_bytes(whole + b'{"shard": "shard-0000')
    assert sorted(contents(tmp_path)) == [0]
    assert manifest.read_bytes() == whole


def test_a_damaged_shard_does_not_count(tmp_path, caplog):
    store = Store(tmp_path, IDENTITY)
    for i in range(2):
        store.add(np.array([i]), np.zeros((1, 1)))
        store.flush()
    store.close()
    shard = tmp_path / "shard-000000.npz"
    content = bytearray(shard.read_bytes())
    content[len(content) // 2] ^= 1
    shard.write_bytes(content)
    assert sorted(contents(tmp_path)) == [1]
    assert "damaged" in caplog.text
    (tmp_path / "shard-000001.npz").unlink()
    assert contents(tmp_path) == {}


def test_a_shard_outside_the_folder_does_not_count(tmp_path, caplog):
    for place in ("a", "b"):
        store = Store(tmp_path / place, IDENTITY)
        store.add(np.arange(2), np.ones((2, 3)))
        store.close()
    manifest = tmp_path / "a" / "manifest.jsonl"
    for path in ("../b/shard-000000.npz", str(tmp_path / "b" / "shard-000000.npz")):
        first, line = manifest.read_text().splitlines()
        entry = {**json.loads(line), "shard": path}
        manifest.write_text(f"{first}\n{json.dumps(entry)}\n")
        caplog.clear()
        assert contents(tmp_path / "a") == {}
        assert "is damaged; its simulations are run again" in caplog.text


def test_another_run_is_refused(tmp_path):
    Store(tmp_path, IDENTITY).close()
    with pytest.raises(ValueError, match="`store` must be a new folder or the same run's"):
        Store(tmp_path, {"seed": ["2"]})
    assert json.loads((tmp_path / "manifest.jsonl").read_text())["identity"] == IDENTITY


def test_only_one_writer_at_a_time(tmp_path):
    store = Store(tmp_path, IDENTITY)
    with pytest.raises(RuntimeError, match="`store` is in use by another process"):
        Store(tmp_path, IDENTITY)
    store.close()
    Store(tmp_path, IDENTITY).close()


def test_saved_simulations_never_overwrite(tmp_path):
    names = [save_simulations(tmp_path / "sims", np.full(3, i)).name for i in range(3)]
    assert names == ["sims.npy", "sims_1.npy", "sims_2.npy"]
    assert save_simulations(tmp_path / "v0.2.npy", np.zeros(1)).name == "v0.2.npy"
    np.testing.assert_array_equal(np.load(tmp_path / "sims_1.npy"), 1)


@pytest.mark.parametrize("line", [b'{"identity": {"the', b"[]", b'{"something": 1}', b"\xff\xfe"])
def test_a_damaged_list_of_shards_is_named(tmp_path, line):
    store = Store(tmp_path, IDENTITY)
    store.add(np.arange(2), np.zeros((2, 1)))
    store.close()
    path = tmp_path / "manifest.jsonl"
    path.write_bytes(line + b"\n" + path.read_bytes())
    with pytest.raises(CorruptFileError, match=r"manifest\.jsonl is damaged"):
        Store(tmp_path, IDENTITY)
    with pytest.raises(CorruptFileError, match=r"manifest\.jsonl is damaged"):
        folder_of(tmp_path, np.zeros((2, 1)))
