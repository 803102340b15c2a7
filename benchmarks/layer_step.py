"""One layer forward and backward on any backend, and the gradient of a function."""

import ctypes
import gc
import pathlib

import keras

from benchmarks.contest import peak_memory


def make_step(layer, x):
    """A function that runs a layer forward and backward, down to its input and weights, and waits for the result.

    Args:
        layer: a built layer.
        x: the input, an array; the program, where the backend compiles one, is compiled for its shape at once.
    """
    x = keras.ops.convert_to_tensor(x)
    backend = keras.backend.backend()
    if backend == "torch":
        x = x.detach().requires_grad_(True)
        return lambda: layer(x).square().sum().backward()
    weights, others = ([variable.value for variable in each] for each in _variables(layer))
    if backend == "jax":
        import jax

        step = jax.grad(lambda x, weights: (layer.stateless_call(weights, others, x)[0] ** 2).sum(), argnums=(0, 1))
        compiled = jax.jit(step).lower(x, weights).compile()
        return lambda: jax.block_until_ready(compiled(x, weights))
    import tensorflow as tf

    @tf.function
    def step(x):
        with tf.GradientTape() as tape:
            tape.watch(x)
            loss = tf.reduce_sum(layer(x) ** 2)
        return tape.gradient(loss, [x, *weights])

    program = step.get_concrete_function(x)
    return lambda: [each.numpy() for each in program(x)]


def _variables(layer):
    return layer.trainable_variables, layer.non_trainable_variables


def gradient(function, x):
    """The gradient of the sum of `function(x)` with respect to the array `x`, as an array."""
    x = keras.ops.convert_to_tensor(x)
    backend = keras.backend.backend()
    if backend == "torch":
        x = x.detach().requires_grad_(True)
        function(x).sum().backward()
        return x.grad.numpy()
    if backend == "jax":
        import jax

        return keras.ops.convert_to_numpy(jax.grad(lambda x: function(x).sum())(x))
    import tensorflow as tf

    with tf.GradientTape() as tape:
        tape.watch(x)
        total = tf.reduce_sum(function(x))
    return keras.ops.convert_to_numpy(tape.gradient(total, x))


def peak_of(step):
    """Bytes that a step needs beyond what the process holds, after freed memory went back and the peak was forgotten.

    In a process of its own, on Linux; elsewhere as `peak_memory`.
    """
    gc.collect()
    library = ctypes.CDLL(None)
    if hasattr(library, "malloc_trim"):
        library.malloc_trim(0)
    forget = pathlib.Path("/proc/self/clear_refs")
    if forget.exists():
        forget.write_text("5")
    return peak_memory(step)
