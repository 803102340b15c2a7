"""The benchmark of dropout runs, and its contestants drop."""

import keras
import numpy as np

from benchmarks import dropout

SHAPE = (2, 3, 5)


def test_a_tiny_run_gives_a_row_for_each_contestant():
    report = dropout.report(SHAPE, 0.5, rounds=1)
    rows = [line.split(" | ")[0].strip("| ") for line in report.splitlines() if line.startswith("| ")]
    tables = 4 if keras.backend.backend() == "tensorflow" else 2
    assert rows == ["contestant", *dropout.contestants(0.5)] * tables


def test_contestants_drop_and_scale():
    for name, drop in dropout.contestants(0.5).items():
        outputs, _ = drop(keras.ops.ones((1, 7, 11)), keras.ops.convert_to_tensor(np.array([1, 0], "uint32")))
        expected = {0.5} if name == "a product" else {0, 2}
        assert set(keras.ops.convert_to_numpy(outputs).ravel()) == expected, name
