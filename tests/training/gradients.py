"""The gradient of a scalar function of one tensor, on the backend in use."""

import keras
import numpy as np


def gradient(function, x):
    """Returns the value and the gradient of `function` at `x`, both as float32 numpy arrays."""
    backend = keras.backend.backend()
    if backend == "jax":
        import jax

        value, slope = jax.jit(jax.value_and_grad(function))(keras.ops.convert_to_tensor(x))
    elif backend == "torch":
        x = keras.ops.convert_to_tensor(x).detach().clone().requires_grad_(True)
        value = function(x)
        value.backward()
        value, slope = value.detach(), x.grad
    else:
        import tensorflow as tf

        x = tf.convert_to_tensor(x)
        with tf.GradientTape() as tape:
            tape.watch(x)
            value = function(x)
        slope = tf.convert_to_tensor(tape.gradient(value, x))
    return tuple(np.asarray(keras.ops.convert_to_numpy(keras.ops.cast(t, "float32"))) for t in (value, slope))
