"""Products of matrices, beside those of numpy."""

import keras
import numpy as np
import pytest
from keras import ops

from keras_tfm import backend
from keras_tfm.ops.linear import linear
from tests.numerics import assert_close, to_numpy, value_and_gradients


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


@pytest.mark.parametrize("sizes", [(5, 3, 4), (256, 128, 160)])  # the second is large enough for oneDNN
@pytest.mark.parametrize("name", ["relu", "gelu", "tanh", None])
def test_a_linear_map_is_activated(sizes, name):
    tokens, inner, outputs = sizes
    x, kernel, upstream = _draw(tokens, inner), _draw(inner, outputs) / inner**0.5, _draw(tokens, outputs)
    bias, activation = _draw(outputs), keras.activations.get(name) if name else None
    together = value_and_gradients(lambda *x: linear(*x, activation=activation), [x, kernel, bias], upstream)
    apart = value_and_gradients(lambda x: activation(x) if name else x, [x @ kernel + bias], upstream)
    assert_close(together[0], apart[0])
    slopes = to_numpy(apart[1][0])
    assert_close(together[1], [slopes @ kernel.T, x.T @ slopes, slopes.sum(0)])


def test_an_activation_hides_no_nan():
    x = _draw(256, 128)
    x[3, 5] = np.nan
    result = linear(ops.convert_to_tensor(x), ops.ones((128, 160)), ops.zeros(160), activation=keras.activations.relu)
    assert np.isnan(to_numpy(result)[3]).all()
    assert not np.isnan(np.delete(to_numpy(result), 3, axis=0)).any()
