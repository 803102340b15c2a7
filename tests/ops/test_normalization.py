"""Layer and RMS normalization: the equations, their gradients, and what the gradients hold."""

import keras
import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from keras import ops

from keras_tfm.layers.normalization import LayerNormalization, RMSNormalization
from keras_tfm.ops.normalization import layer_normalization, rms_normalization
from tests.numerics import compiled_on_jax, to_numpy, value_and_gradients

EPSILON = 1e-3


def _draw(shape, seed):
    return np.random.default_rng(seed).normal(1.0, 2.0, shape).astype("float32")


def _oracle(x, gain, shift, upstream, is_centered):
    """The equation in float64, and its gradient through the Jacobian of each row."""
    x, gain, upstream = np.float64(x), np.float64(gain), np.float64(upstream)
    width = x.shape[-1]
    center = np.eye(width) - is_centered / width
    centered = x @ center
    norm = np.sqrt(np.mean(centered**2, axis=-1, keepdims=True) + EPSILON)
    hat = centered / norm
    slopes = upstream * gain
    through_norm = centered * np.sum(slopes * centered, axis=-1, keepdims=True) / (width * norm**3)
    of_x = (slopes / norm - through_norm) @ center
    rows = tuple(range(x.ndim - 1))
    return hat * gain + shift, of_x, np.sum(upstream * hat, rows), np.sum(upstream, rows)


@settings(max_examples=15)
@given(
    shape=st.sampled_from([(3, 5), (2, 1, 7), (2, 3, 4, 8), (6, 2)]),
    seed=st.integers(0, 9),
    is_centered=st.booleans(),
    is_compiled=st.booleans(),
)
def test_value_and_gradients_are_those_of_the_equation(shape, seed, is_centered, is_compiled):
    x, upstream = _draw(shape, seed), _draw(shape, seed + 1)
    gain, shift = _draw(shape[-1:], seed + 2), _draw(shape[-1:], seed + 3) * is_centered
    arrays = [x, gain, shift] if is_centered else [x, gain]
    function = layer_normalization if is_centered else rms_normalization
    value, gradients = value_and_gradients(
        lambda *tensors: function(*tensors, epsilon=EPSILON), arrays, upstream, is_compiled=is_compiled
    )
    expected, *slopes = _oracle(x, gain, shift, upstream, is_centered)
    np.testing.assert_allclose(value, expected, rtol=2e-4, atol=2e-4)
    for gradient, slope in zip(gradients, slopes, strict=False):
        np.testing.assert_allclose(gradient, slope, rtol=2e-3, atol=2e-3)


@pytest.mark.parametrize("function", [layer_normalization, rms_normalization])
def test_weights_may_be_left_out(function):
    x = _draw((2, 3, 8), 0)
    ones = np.ones(8, "float32")
    np.testing.assert_allclose(
        to_numpy(function(ops.convert_to_tensor(x))), to_numpy(function(ops.convert_to_tensor(x), ones)), rtol=1e-6
    )


@pytest.mark.parametrize("function", [layer_normalization, rms_normalization])
def test_half_precision_is_computed_in_single(function):
    x = 100 + _draw((4, 512), 0)
    half = ops.cast(ops.convert_to_tensor(x), "bfloat16")
    result = function(half)
    assert keras.backend.standardize_dtype(result.dtype) == "bfloat16"
    expected = function(ops.cast(half, "float32"))
    np.testing.assert_allclose(to_numpy(ops.cast(result, "float32")), to_numpy(expected), rtol=1e-2, atol=1e-2)


@pytest.mark.parametrize("function", [layer_normalization, rms_normalization])
def test_a_row_of_nan_stays_alone(function):
    x, upstream = _draw((2, 3, 8), 0), _draw((2, 3, 8), 1)
    x[0, 0] = upstream[0, 0] = np.nan  # the first element is what the order of the gradient is tied to
    value, (gradient,) = value_and_gradients(lambda x: function(x), [x], upstream)
    for array in (value, gradient):
        assert np.isnan(array[0, 0]).any() and np.isfinite(array[0, 1:]).all() and np.isfinite(array[1]).all()


@pytest.mark.parametrize(
    "ours, theirs",
    [
        (LayerNormalization, keras.layers.LayerNormalization),
        (RMSNormalization, keras.layers.RMSNormalization),
    ],
)
@pytest.mark.parametrize("options", [{}, {"axis": (1, 2)}, {"epsilon": 0.5}])
def test_the_layers_are_those_of_keras(ours, theirs, options):
    x = _draw((3, 4, 6), 5)
    layers = [ours(**options), theirs(**options)]
    weights = None
    for layer in layers:
        layer.build(x.shape)
        weights = weights or [_draw(weight.shape, 7) for weight in layer.weights]
        layer.set_weights(weights)
    results = [to_numpy(compiled_on_jax(layer, layer.variables)(ops.convert_to_tensor(x))) for layer in layers]
    np.testing.assert_allclose(*results, rtol=1e-4, atol=1e-5)
    again = keras.saving.deserialize_keras_object(keras.saving.serialize_keras_object(layers[0]))
    assert type(again) is ours and again.get_config() == layers[0].get_config()


@pytest.mark.skipif(keras.backend.backend() != "jax", reason="a compiler's report of memory is read on JAX")
def test_the_gradient_of_a_block_holds_less_than_keras_own_parts():
    """A network between norms: its hidden layer is held once, the normalized tokens not at all."""
    import jax

    from keras_tfm.layers import FeedForward

    ours = [layer for _ in range(4) for layer in (FeedForward(256), LayerNormalization())]
    dense = keras.layers.Dense
    theirs = [layer for _ in range(4) for layer in (dense(256, "relu"), dense(64), keras.layers.LayerNormalization())]

    def bytes_held(layers):
        x = np.ones((16, 32, 64), "float32")
        for layer in layers:
            layer.build(x.shape)
            x = np.zeros(layer.compute_output_shape(x.shape), "float32")
        variables = [weight for layer in layers for weight in layer.trainable_variables]

        def loss(values, x):
            with keras.StatelessScope(state_mapping=list(zip(variables, values, strict=True))):
                for layer in layers:
                    x = layer(x)
            return jax.numpy.sum(x**2)

        values = [variable.value for variable in variables]
        compiled = jax.jit(jax.grad(loss)).lower(values, np.ones((16, 32, 64), "float32")).compile()
        return compiled.memory_analysis().temp_size_in_bytes

    assert bytes_held(ours) < 0.7 * bytes_held(theirs)
