"""What the benchmarks share measures what it says."""

import subprocess
import sys

from benchmarks import contest

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
