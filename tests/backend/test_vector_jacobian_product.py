"""The gradient of inputs, beside one by finite differences and one by hand."""

import keras
import numpy as np
import pytest
from keras import ops

from keras_tfm import backend

X, Y = (np.random.default_rng(seed).normal(size=(2, 3)).astype("float32") for seed in (0, 1))
COTANGENT = np.array([[1.0, 0.0, -2.0], [0.5, 3.0, 0.0]], "float32")


def run(function, inputs, cotangent):
    result, gradients = backend.vector_jacobian_product(function, inputs, cotangent)
    return ops.convert_to_numpy(result), [ops.convert_to_numpy(gradient) for gradient in gradients]


def test_it_is_the_slope_of_the_weighted_sum():
    result, (of_x, of_y) = run(lambda x, y: ops.tanh(x) * y, [X, Y], COTANGENT)
    np.testing.assert_allclose(result, np.tanh(X) * Y, rtol=1e-5)
    x, y, step = np.float64(X), np.float64(Y), 1e-6
    slopes = (np.tanh(x + step) * y - np.tanh(x - step) * y) / (2 * step)
    np.testing.assert_allclose(of_x, COTANGENT * slopes, rtol=1e-4, atol=1e-6)
    np.testing.assert_allclose(of_y, COTANGENT * np.tanh(x), rtol=1e-4, atol=1e-6)


def test_the_weights_may_follow_from_the_result():
    _, (gradient,) = run(lambda x: x * x, [X], lambda result: ops.cast(result > 1.0, "float32"))
    np.testing.assert_allclose(gradient, 2 * X * (X * X > 1), rtol=1e-5)


def test_what_nothing_depends_on_has_zeros():
    _, gradients = run(lambda x, y: 3 * x, [X, Y], COTANGENT)
    np.testing.assert_allclose(gradients, [3 * COTANGENT, 0 * Y], rtol=1e-5)
    _, gradients = run(lambda x: ops.ones((2, 3)), [X], COTANGENT)
    np.testing.assert_array_equal(gradients, [0 * X])


def test_weights_of_a_layer_get_no_gradient():
    layer = keras.layers.Dense(3)
    layer.build((2, 3))
    _, (gradient,) = run(layer, [X], COTANGENT)
    np.testing.assert_allclose(gradient, COTANGENT @ ops.convert_to_numpy(layer.kernel).T, rtol=1e-4, atol=1e-5)
    assert getattr(layer.kernel.value, "grad", None) is None


def test_a_backend_without_gradients_says_so():
    from keras_tfm.backend import functional

    with pytest.raises(NotImplementedError, match="has no gradients"):
        functional.vector_jacobian_product(ops.tanh, [X], COTANGENT)
