"""The gate's logic, on times that are made up."""

import itertools

import gate
import pytest


def contest(updates, yardsticks):
    """Gives the times one after the other, for ever."""
    return gate.Contest(itertools.cycle(updates).__next__, itertools.cycle(yardsticks).__next__)


def test_the_least_of_each_side_counts():
    assert gate.ratio([9.0, 3.0, 5.0], [2.0, 1.5, 7.0]) == 2.0


@pytest.mark.parametrize(("slower", "passes"), [(0.7, True), (1.19, True), (1.21, False)])
def test_a_fifth_slower_than_recorded_is_too_slow(slower, passes):
    found = gate.verdict([2.0 * slower], [1.0], recorded=2.0)
    assert found.limit == pytest.approx(2.4)
    assert found.measured == pytest.approx(2.0 * slower)
    assert found.passes is passes


def test_noise_alone_does_not_fail():
    # Only in the last attempt does the machine leave one piece of each side alone.
    quiet = gate.ATTEMPTS * gate.PIECES - 1
    noisy = contest([5.0] * quiet + [2.0], [1.1] * quiet + [1.0])
    assert gate.judge(noisy, recorded=2.0).passes


def test_it_stops_when_an_update_passes():
    calls = itertools.count()
    steady = gate.Contest(lambda: 2.0 + 0 * next(calls), lambda: 1.0)
    assert gate.judge(steady, recorded=2.0).passes
    assert next(calls) == gate.PIECES


def test_a_slower_update_fails_after_all_attempts():
    calls = itertools.count()
    slow = gate.Contest(lambda: 2.5 + 0 * next(calls), lambda: 1.0)
    assert not gate.judge(slow, recorded=2.0).passes
    assert next(calls) == gate.ATTEMPTS * gate.PIECES


def test_every_contest_is_recorded_for_every_processor():
    records = gate.json.loads(gate.RECORD.read_text())
    assert len(records) > 1
    for each in records.values():
        assert set(each["ratios"]) == set(gate.CONTESTS)
        assert all(value > 0.5 for value in each["ratios"].values())


def test_a_processor_has_its_record_and_others_the_largest():
    records = {
        "one": {"ratios": {"IMNN": 1.5, "RIM": 3.0}},
        "two": {"ratios": {"IMNN": 2.0, "RIM": 2.5}},
    }
    assert gate.recorded_ratios(records, "one") == {"IMNN": 1.5, "RIM": 3.0}
    assert gate.recorded_ratios(records, "three") == {"IMNN": 2.0, "RIM": 3.0}
