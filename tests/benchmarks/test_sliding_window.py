"""The benchmark runs."""

from benchmarks import sliding_window


def test_a_tiny_run_gives_a_row_for_each_contestant():
    table = sliding_window.report([130], window=8, rounds=1)
    rows = [line for line in table.splitlines() if line.startswith("| 130 |")]
    assert len(rows) == 5
    assert "ours, sliding_window" in rows[-1]
