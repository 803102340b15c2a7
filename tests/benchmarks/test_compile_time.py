"""The benchmark runs."""

from benchmarks import compile_time


def test_a_tiny_run_gives_a_row_for_each_contestant():
    table = compile_time.compile_table([1, 2], ["unrolled", "scan"], steps=1, run=compile_time.measure)
    rows = table.splitlines()[4:]
    assert [row.split("|")[1].strip() for row in rows] == ["unrolled", "scan"] * 2


def test_a_tiny_run_compares_memory():
    size = {"width": 8, "heads": 2, "batch": 2, "length": 5}
    names = ["unrolled", "unrolled, full", "scan, full"]
    table = compile_time.memory_table(2, names, steps=1, run=compile_time.measure, size=size)
    assert [row.split("|")[1].strip() for row in table.splitlines()[4:]] == names
