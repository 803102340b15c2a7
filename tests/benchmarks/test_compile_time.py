"""The benchmark runs."""

from benchmarks import compile_time

SIZE = {"width": 8, "heads": 2, "batch": 2, "length": 5}


def names_of(table):
    return [row.split("|")[1].strip() for row in table.splitlines()[4:]]


def test_one_block_is_measured():
    table = compile_time.compile_table([1], ["unrolled"], steps=1, run=compile_time.measure)
    assert names_of(table) == ["unrolled"]


def test_memory_of_a_loop_is_measured():
    table = compile_time.memory_table(2, ["scan, full"], steps=1, run=compile_time.measure, size=SIZE)
    assert names_of(table) == ["scan, full"]


def test_tables_compare_with_the_first():
    def seconds(contestant, depth, size, steps):
        return depth * 2.0, depth * 3.0, {"unrolled": 4.0, "scan": 6.0}[contestant], 8.0

    table = compile_time.compile_table([1, 2], ["unrolled", "scan"], run=seconds)
    assert names_of(table) == ["unrolled", "scan"] * 2
    assert table.splitlines()[-1] == "| scan | 2 | 4.0 | 2.00 | 6.0 | 2.00 | 6.0 |"
    table = compile_time.compile_table([1, 2], ["scan"], steps=0, run=seconds, rounds=3)
    assert table.splitlines()[-1] == "| scan | 2 | 4.0 (4.0-4.0) | 2.00 | | | |"
    table = compile_time.memory_table(2, ["unrolled", "scan"], run=seconds, size=SIZE)
    assert table.splitlines()[-1] == "| scan | 6 | 1.50 | 8 | 1.00 |"
