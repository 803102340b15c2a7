"""Products of matrices, beside those of numpy."""

import numpy as np
import pytest
from keras import ops

from keras_tfm import backend
from tests.numerics import assert_close, value_and_gradients


def _draw(*shape):
    return np.random.default_rng(len(shape)).normal(size=shape).astype("float32")


@pytest.mark.parametrize("sizes", [(7, 5, 3), (7, 3, 5), (1, 4, 4)])
@pytest.mark.parametrize("batch", [(), (2,), (2, 3)])
def test_the_first_is_transposed(sizes, batch):
    rows, of_x, of_y = sizes
    x, y, upstream = _draw(*batch, rows, of_x), _draw(*batch, rows, of_y) + 1, _draw(*batch, of_x, of_y)
    value, (slope_of_x, slope_of_y) = value_and_gradients(backend.transposed_product, [x, y], upstream)
    assert_close(value, np.swapaxes(x, -1, -2) @ y)
    assert_close(slope_of_x, y @ np.swapaxes(upstream, -1, -2))
    assert_close(slope_of_y, x @ upstream)


@pytest.mark.parametrize("sizes", [(7, 5, 3), (7, 3, 5), (1, 4, 4)])
def test_two_are_multiplied_with_their_gradients(sizes):
    rows, inner, columns = sizes
    x, y, upstream = _draw(rows, inner), _draw(inner, columns) + 1, _draw(rows, columns)
    value, (slope_of_x, slope_of_y) = value_and_gradients(backend.product, [x, y], upstream)
    assert_close(value, x @ y)
    assert_close(slope_of_x, upstream @ y.T)
    assert_close(slope_of_y, x.T @ upstream)


def test_what_is_not_before_another_is_what_it_was():
    x = _draw(2, 3)
    assert_close(backend.not_before(ops.convert_to_tensor(x), ops.full((2, 2), np.nan)), x)
