"""Tensors of any backend to numpy and back: comparison, random weights, repeated dropout, gradients."""

import functools

import keras
import numpy as np
from keras import ops

from keras_tfm.backend import compile_loop

# What rounding to a dtype may move in a result of about 1 after a few products: some units in its last place.
TOLERANCE = {"float32": 2e-5, "float16": 1e-2, "bfloat16": 8e-2}


def to_numpy(tensor):
    """One tensor as float64, bool or int64."""
    if not hasattr(tensor, "dtype"):
        return np.asarray(tensor)
    dtype = keras.backend.standardize_dtype(tensor.dtype)
    if "float" in dtype:
        return ops.convert_to_numpy(ops.cast(tensor, "float32")).astype("float64")
    return ops.convert_to_numpy(tensor)


def assert_close(received, expected, dtype="float32", factor=1.0, message=""):
    """All tensors of two structures are as close as `dtype` allows, relative to the largest number among them."""
    received, expected = ([to_numpy(x) for x in keras.tree.flatten(each)] for each in (received, expected))
    assert len(received) == len(expected), message
    for x, y in zip(received, expected, strict=True):
        assert x.shape == y.shape, f"{x.shape} is not {y.shape} {message}"
        largest = max(1.0, float(np.abs(y).max())) if y.size else 1.0
        np.testing.assert_allclose(x, y, rtol=0, atol=factor * TOLERANCE[dtype] * largest, err_msg=str(message))


def randomize(layer, seed=0, scale=0.5):
    """Gives every trainable weight random values, biases and gains too: at their initial values they hide mistakes."""
    rng = np.random.default_rng(seed)
    for variable in layer.trainable_variables:
        values = rng.normal(size=tuple(variable.shape)) * scale
        variable.assign(1 + values / 2 if "gamma" in variable.path or "scale" in variable.path else values)
    return layer


def repeated_dropout(layer):
    """The layer as a function that draws the same at every call: all seeds are put back before."""
    states = [variable for variable in layer.variables if "seed" in variable.path]
    kept = [ops.convert_to_numpy(variable.value) for variable in states]

    def call(*args, **kwargs):
        keras.utils.set_random_seed(1)  # PyTorch draws from its own generator where a layer was given no seed
        for variable, value in zip(states, kept, strict=True):
            variable.assign(value)
        return layer(*args, **kwargs)

    return call


def with_mask(array, mask, dtype=None):
    """A tensor that carries an implicit mask, as an embedding would give it."""
    tensor = ops.convert_to_tensor(array, dtype=dtype)
    if mask is not None:
        tensor._keras_mask = ops.convert_to_tensor(mask, dtype="bool")
    return tensor


def mask_of(tensor):
    """The implicit mask of a tensor, as numpy, or `None`."""
    mask = getattr(tensor, "_keras_mask", None)
    return None if mask is None else ops.convert_to_numpy(mask)


def compiled_on_jax(function, variables=()):
    """On JAX one program of `function`, the values of `variables` among its inputs; elsewhere `function` itself.

    For what holds loops: outside a program JAX compiles each of them at every call.
    """
    return compile_loop(function, variables) if keras.backend.backend() == "jax" else function


def value_and_gradients(function, arrays, upstream, dtype="float32", is_compiled=False):
    """`function(*arrays)` and the gradients of its sum weighed by `upstream`, all as numpy float64.

    With `is_compiled` JAX makes one program of both, which serves further calls with the same function.
    """
    tensors = [ops.convert_to_tensor(array, dtype=dtype) for array in arrays]
    upstream = ops.convert_to_tensor(upstream, dtype=dtype)
    backend = keras.backend.backend()
    if backend == "jax":
        compute = _jax_program() if is_compiled else _jax_value_and_gradients
        value, gradients = compute(function, tensors, upstream)
    elif backend == "torch":
        tensors = [tensor.detach().requires_grad_(True) for tensor in tensors]
        value = function(*tensors)
        value.backward(upstream)
        gradients = [tensor.grad for tensor in tensors]
    else:
        import tensorflow as tf

        with tf.GradientTape() as tape:
            tape.watch(tensors)
            value = function(*tensors)
        gradients = tape.gradient(value, tensors, output_gradients=upstream)
    return to_numpy(value), [to_numpy(gradient) for gradient in gradients]


def _jax_value_and_gradients(function, tensors, upstream):
    import jax

    value, pull_back = jax.vjp(function, *tensors)
    return value, pull_back(upstream)


@functools.cache
def _jax_program():
    import jax

    return jax.jit(_jax_value_and_gradients, static_argnums=0)


def layer_gradients(layer, call, arrays, upstream):
    """`call(*arrays)` and the gradients of its sum weighed by `upstream`.

    Args:
        layer: a built layer, which `call` uses.
        call: a function of tensors.
        arrays: the inputs.
        upstream: an array like the output.

    Returns:
        The output, the gradients of the inputs, and those of `layer.trainable_variables`, as numpy float64.
    """
    dtype, variables = layer.compute_dtype, layer.trainable_variables
    tensors = [ops.convert_to_tensor(array, dtype=dtype) for array in arrays]
    upstream = ops.convert_to_tensor(upstream, dtype=dtype)
    backend = keras.backend.backend()
    if backend == "jax":
        value, gradients = _jax_gradients(call, tensors, variables, upstream)
    elif backend == "torch":
        tensors = [tensor.detach().requires_grad_(True) for tensor in tensors]
        layer.zero_grad()
        value = call(*tensors)
        value.backward(upstream)
        gradients = [tensor.grad for tensor in [*tensors, *(variable.value for variable in variables)]]
    else:
        import tensorflow as tf

        with tf.GradientTape() as tape:
            tape.watch(tensors)
            value = call(*tensors)
        sources = [*tensors, *(variable.value for variable in variables)]
        gradients = tape.gradient(value, sources, output_gradients=upstream)
        gradients = [tf.convert_to_tensor(x) if isinstance(x, tf.IndexedSlices) else x for x in gradients]
    gradients = [0.0 if gradient is None else to_numpy(gradient) for gradient in gradients]
    return to_numpy(value), gradients[: len(arrays)], gradients[len(arrays) :]


def _jax_gradients(call, tensors, variables, upstream):
    import jax

    def with_weights(tensors, values):
        with keras.StatelessScope(state_mapping=list(zip(variables, values, strict=True))):
            return call(*tensors)

    value, pull_back = jax.vjp(with_weights, tensors, [variable.value for variable in variables])
    of_tensors, of_values = pull_back(upstream)
    return value, [*of_tensors, *of_values]
