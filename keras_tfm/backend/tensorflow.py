"""TensorFlow: loops as one XLA program. No fused attention kernel: XLA fuses what it can of the reference."""

import tensorflow as tf

from keras_tfm.backend.functional import while_loop, write_rows, write_slice
from keras_tfm.backend.tensorflow_cross_entropy import linear_cross_entropy
from keras_tfm.backend.tensorflow_rematerialization import rematerialize
from keras_tfm.backend.tensorflow_scan import scan

__all__ = [
    "KERNELS",
    "compile_loop",
    "is_traced",
    "linear_cross_entropy",
    "rematerialize",
    "scan",
    "value_range",
    "while_loop",
    "write_rows",
    "write_slice",
]

KERNELS = ()


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


def is_traced():
    """Whether what runs now becomes part of a graph."""
    return not tf.executing_eagerly()
