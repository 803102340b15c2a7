"""What the benchmarks share measures what it says."""

import pathlib
import subprocess
import sys

import pytest

from benchmarks import contest

HUGE_PAGES = pathlib.Path("/sys/kernel/mm/transparent_hugepage/enabled")
HAS_SMALL_PAGES = HUGE_PAGES.exists() and "[always]" not in HUGE_PAGES.read_text()

PROGRAM = """
import numpy as np
from benchmarks import contest
print(contest.peak_memory(lambda: np.ones(8_000_000).sum()))
"""


def test_the_peak_is_what_the_function_takes_whatever_its_parent_holds():
    held = bytearray(b"x") * 200_000_000  # a child's ru_maxrss begins with it
    output = subprocess.run([sys.executable, "-c", PROGRAM], capture_output=True, text=True, check=True).stdout
    assert len(held) == 200_000_000
    assert 60e6 < float(output.split()[-1]) < 90e6


def test_contestants_take_turns():
    calls = []
    seconds = contest.take_turns({name: lambda name=name: calls.append(name) for name in "ab"}, rounds=2)
    assert calls == ["a", "b", *"abab"]
    assert [len(values) for values in seconds.values()] == [2, 2]


@pytest.mark.skipif(not HAS_SMALL_PAGES, reason="pages are counted where Linux gives small ones")
def test_memory_that_is_taken_anew_is_counted_and_what_was_there_is_not():
    size = 1 << 26  # given back to the system as soon as it is not needed
    assert 0.9 * size < contest.fresh_memory(lambda: b"x" * size) < 1.5 * size
    there = bytearray(b"x") * size
    assert contest.fresh_memory(lambda: there.count(b"y")) < size / 100
