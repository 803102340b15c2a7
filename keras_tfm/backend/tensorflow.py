"""TensorFlow: loops as one graph. It has no fused attention kernel, so the reference runs and XLA fuses what it can."""

import tensorflow as tf

KERNELS = ()


def compile_loop(function, variables):
    """Compiles `function` into one graph for each set of shapes; variables stay variables."""
    del variables
    return tf.function(function, reduce_retracing=True)


def value_range(tensor):
    """The smallest and largest value of a tensor in host memory; `None` if in a graph, elsewhere or empty."""
    if not tf.executing_eagerly() or not hasattr(tensor, "numpy") or "CPU" not in tensor.device:
        return None
    values = tensor.numpy()
    return (int(values.min()), int(values.max())) if values.size else None
