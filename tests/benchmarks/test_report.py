"""The report, from results that are made up and from those that are there."""

import json
from pathlib import Path

import report

BENCHMARKS = Path(report.__file__).parent


def test_what_was_not_run_is_said_so(tmp_path):
    text = report.report(tmp_path)
    for name in report.SECTIONS:
        assert f"`benchmarks/{name}.py`: not run." in text


def test_medians_ratios_and_missing_peers(tmp_path):
    rates = {"ours": {"arrays": [10.0, 40.0, 20.0], "simulator": [5.0, 4.0, 10.0]}}
    found = {
        "machine": {"processor": "P", "cores": 2, "memory_gb": 1.0, "system": "S"},
        "measured": "today",
        "versions": {"ours": {"a": "1"}, "others": {"a": "1"}},
    }
    for peer, row in (
        ({}, "| arrays | 20 (10 to 40) | 1.00 | not run |  |"),
        # Rounds are compared one by one: 2, 4 and 8.
        (
            {report.PREDECESSOR: {"arrays": [5.0, 10.0, 2.5]}},
            "| arrays | 20 (10 to 40) | 1.00 | 5 (2.5 to 10) | 4.00 |",
        ),
    ):
        result = {"updates_per_second": rates | peer}
        (tmp_path / "imnn_sources.json").write_text(json.dumps({**found, "result": result}))
        text = report.report(tmp_path)
        assert row in text
        assert "| simulator | 5 (4 to 10) | 0.50 |" in text
        assert "today, P, 2 cores, 1.0 GB, S. Versions: ours and others: a 1." in text


def test_fits_that_were_not_run_are_said_so():
    fits = [
        {"share": 0.5, "updates": 10, "processor_seconds": 2.0},
        {"share": 0.25, "updates": 20, "processor_seconds": 1.5},
    ]
    problems = {"one": {"default": fits}, "two": {"old": fits[:1], "default": fits[1:]}}
    limits = {"n_iterations": 500, "patience": 50}
    shown, note = report.imnn_defaults({"limits": limits, "problems": problems})
    assert "| problem | default | old |" in shown
    assert "| one | 0.500, 0.250 (30; 3.5) | not run |" in shown
    assert "| two | 0.250 (20; 1.5) | 0.500 (10; 2) |" in shown
    assert "at most 500 updates and a patience of 50" in note


def test_the_report_is_that_of_the_results():
    assert (BENCHMARKS / "results.md").read_text() == report.report(BENCHMARKS / "results")


def test_what_a_cluster_lost_and_how_busy_it_was():
    counts = {"killed": 3, "failed": 50, "lost": 0, "doubled": 1, "different": 2000}
    settings = {"simulations": 4000, "milliseconds": 10.0, "batch_size": 20, "failing": 0.05}
    settings |= {"workers": 4, "kill_every": 5.0, "seconds": 59.7}
    shares = {"busy": 0.866, "busy between the first and the last call of a process": 0.964}
    lost, busy, note = report.cluster({**settings, **counts, **shares})
    assert "| 4 workers | 59.7 | 3 | 50 | 0 | 1 | 2,000 |" in lost
    assert "| of all the time | 86.6 % |" in busy
    assert "| but for starting successors | 96.4 % |" in busy
    assert "waits 10 ms, 20 are a task, 5 % fail, and a worker is killed every 5 s" in note
