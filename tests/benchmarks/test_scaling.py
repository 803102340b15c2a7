"""The benchmark of exponents runs, and fits what it should."""

import numpy as np
import pytest

from benchmarks import scaling, steps

TINY = steps.Setting(1, 8, 32, 2, batch_size=1, length=5)


def test_a_tiny_run_gives_a_row_for_each_axis():
    table = scaling.report(TINY, {"depth": [1, 2]}, training=False, rounds=1)
    (row,) = [line.split(" | ") for line in table.splitlines() if line.startswith("| depth")]
    assert row[1] == "1, 2"
    assert row[-2] == "1.00"


def test_the_exponent_of_a_power_is_its_exponent():
    sizes = np.array([2, 4, 8])
    assert scaling.exponent(sizes, 3 * sizes**1.7) == pytest.approx(1.7)


def test_operations_grow_from_linear_to_square():
    def slope(axis, sizes):
        return scaling.exponent(sizes, [scaling.flops(scaling.resized(TINY, axis, size)) for size in sizes])

    assert slope("length", [10**6, 2 * 10**6]) == pytest.approx(2, abs=1e-3)
    assert slope("width", [8, 16]) > 1.5
    assert slope("depth", [1, 2, 4]) == pytest.approx(1)
