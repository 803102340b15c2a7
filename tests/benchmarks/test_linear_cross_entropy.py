"""The benchmark of the linear cross-entropy runs."""

import numpy as np
from keras import ops

from benchmarks import linear_cross_entropy

TINY = linear_cross_entropy.Setting(num_tokens=11, width=3)


def test_a_tiny_run_gives_a_row_for_each_contestant():
    table = linear_cross_entropy.report(TINY, [7, 5], rounds=1, memory=False)
    rows = [line for line in table.splitlines() if line.startswith(("| 7", "| 5"))]
    names = list(linear_cross_entropy.contestants())
    assert [row.split(" | ")[1] for row in rows] == [*names, *names]


def test_the_contestants_agree():
    arrays = [ops.convert_to_tensor(array) for array in TINY.arrays(7)]
    ours, dense = (float(loss(*arrays)) for loss in (linear_cross_entropy.ours, linear_cross_entropy.dense))
    np.testing.assert_allclose(ours, dense, rtol=1e-5)


def test_peak_memory_is_measured_in_a_process(capsys):
    name = next(iter(linear_cross_entropy.contestants()))
    linear_cross_entropy.print_peak(TINY, 7, name)
    assert np.isfinite(float(capsys.readouterr().out))
