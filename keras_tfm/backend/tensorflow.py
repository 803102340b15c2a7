"""TensorFlow: loops as one XLA program. No fused attention kernel: XLA fuses what it can of the reference."""

import functools

import tensorflow as tf

from keras_tfm.backend import functional
from keras_tfm.backend.tensorflow_blocks import map_blocks
from keras_tfm.backend.tensorflow_cross_entropy import linear_cross_entropy
from keras_tfm.backend.tensorflow_rematerialization import rematerialize
from keras_tfm.backend.tensorflow_scan import scan

__all__ = [
    "as_one_program",
    "compile_loop",
    "custom_gradient",
    "is_traced",
    "keep_mask",
    "linear_cross_entropy",
    "map_blocks",
    "multiply_no_nan",
    "rematerialize",
    "scan",
    "value_range",
    "vector_jacobian_product",
    "zeroed",
]

keep_mask = None  # a hash, which XLA fuses into its use


@functools.cache
def as_one_program(function):
    """`function` of int32 scalars, compiled by XLA whatever it is called in, once for each set of sizes.

    Where only a CPU is there, Keras has models compiled by XLA if it is told to; else each operation on a whole mask
    goes over the memory (a mask of 2 million elements: 4.2 ms, as one program 1.9).
    """
    program = tf.function(function, jit_compile=True)
    return lambda *numbers: program(*(tf.convert_to_tensor(number, tf.int32) for number in numbers))


def compile_loop(function, variables):
    """Compiles `function` by XLA, once for each set of shapes; variables stay variables."""
    del variables
    return tf.function(function, jit_compile=True)


def value_range(tensor):
    """The smallest and largest value of a tensor in host memory; `None` if in a graph, elsewhere or empty."""
    if not tf.executing_eagerly() or not hasattr(tensor, "numpy") or "CPU" not in tensor.device:
        return None
    values = tensor.numpy()
    return (int(values.min()), int(values.max())) if values.size else None


def custom_gradient(forward, backward):
    """`forward` with the gradient `backward`; see `keras_tfm.backend.functional.custom_gradient`."""

    def run(*args):
        given = [tf.convert_to_tensor(x) for x in args if x is not None]

        @tf.custom_gradient
        def function(*given):
            given = iter(given)
            result, saved = forward(*(None if x is None else next(given) for x in args))

            def gradients(upstream):
                return [g for x, g in zip(args, backward(saved, upstream), strict=True) if x is not None]

            return result, gradients

        return function(*given)

    return run


def zeroed(x, keep):
    """`x` where `keep`, else zero; see `functional.zeroed`."""
    if not tf.is_tensor(x) or not x.dtype.is_floating:
        return functional.zeroed(x, keep)
    return multiply_no_nan(x, keep)


def multiply_no_nan(x, factors):
    """`x` times `factors`, and zero where they are, whatever `x` is there; they get no gradient.

    Where XLA does not compile, this is one pass by vectors; a choice goes element by element.
    """
    factors = tf.cast(factors, x.dtype)

    @tf.custom_gradient
    def product(x):
        return tf.math.multiply_no_nan(x, factors), product

    return product(x)


def vector_jacobian_product(function, inputs, cotangent):
    """The gradient of `sum(cotangent * function(*inputs))`; see `functional.vector_jacobian_product`."""
    inputs = [tf.convert_to_tensor(x) for x in inputs]
    with tf.GradientTape(watch_accessed_variables=False) as tape:
        tape.watch(inputs)
        result = function(*inputs)
    cotangent = cotangent(result) if callable(cotangent) else cotangent
    cotangent = tf.cast(tf.convert_to_tensor(cotangent), result.dtype)
    return result, tape.gradient(result, inputs, cotangent, unconnected_gradients=tf.UnconnectedGradients.ZERO)


def is_traced():
    """Whether what runs now becomes part of a graph."""
    return not tf.executing_eagerly()
