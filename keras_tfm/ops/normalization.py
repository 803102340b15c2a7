"""Layer and RMS normalization of the last axis, their gradient written down: it keeps their input and little else."""

import keras
from keras import ops

from keras_tfm import backend


def layer_normalization(x, gain=None, shift=None, epsilon=1e-5):
    """Computes `(x - mean) / sqrt(variance + epsilon) · gain + shift` of the last axis.

    Args:
        x: float `[..., D]`.
        gain: float `[D]`, or `None` for ones.
        shift: float `[D]`, or `None` for zeros.
        epsilon: added to the variance. Defaults to 1e-5.

    Returns:
        As `x`.

    Numerics:
        In float32, or in float64 where `x` is. Where there is a compiler, the gradient keeps `x` and two numbers a row:
        what it needs besides it computes again, after the gradient of the result is there.

    Reference:
        Ba et al. 2016, "Layer Normalization", equation 3.

    Example:

    >>> import keras
    >>> [round(float(value), 3) for value in layer_normalization(keras.ops.convert_to_tensor([1.0, 2.0, 3.0]))]
    [-1.225, 0.0, 1.225]
    """
    return _normalize(x, gain, shift, epsilon, is_centered=True)


def rms_normalization(x, gain=None, epsilon=1e-5):
    """Computes `x / sqrt(mean(x²) + epsilon) · gain` of the last axis.

    Args:
        x: float `[..., D]`.
        gain: float `[D]`, or `None` for ones.
        epsilon: added to the mean of the squares. Defaults to 1e-5.

    Returns:
        As `x`.

    Numerics:
        As `layer_normalization`.

    Reference:
        Zhang and Sennrich 2019, "Root Mean Square Layer Normalization", equation 4.

    Example:

    >>> import keras
    >>> [round(float(value), 3) for value in rms_normalization(keras.ops.convert_to_tensor([1.0, 2.0, 2.0]))]
    [0.577, 1.155, 1.155]
    """
    return _normalize(x, gain, None, epsilon, is_centered=False)


def _normalize(x, gain, shift, epsilon, is_centered):
    wide = keras.backend.result_type(x.dtype, "float32")

    def center(x, mean):
        x = ops.cast(x, wide)
        return x - mean if is_centered else x

    def forward(x, gain, shift):
        mean = ops.mean(ops.cast(x, wide), axis=-1, keepdims=True) if is_centered else None
        inverse = ops.rsqrt(ops.mean(ops.square(center(x, mean)), axis=-1, keepdims=True) + epsilon)
        output = center(x, mean) * inverse
        output = output if gain is None else output * ops.cast(gain, wide)
        output = output if shift is None else output + ops.cast(shift, wide)
        return ops.cast(output, x.dtype), (x, mean, inverse, gain, shift)

    def backward(saved, upstream):
        x, mean, inverse, gain, shift = saved
        normalized = center(backend.not_before(x, upstream), mean) * inverse
        of_output = ops.cast(upstream, wide)
        weight = None if gain is None else ops.cast(gain, wide)
        products = of_output * normalized
        of_x = of_output if gain is None else of_output * weight
        of_x = of_x - normalized * _weighted_mean(products, weight)
        of_x = of_x - _weighted_mean(of_output, weight) if is_centered else of_x
        of_gain = None if gain is None else _sum_of_tokens(products, gain)
        of_shift = None if shift is None else _sum_of_tokens(of_output, shift)
        return ops.cast(of_x * inverse, x.dtype), of_gain, of_shift

    x, gain, shift = (None if each is None else ops.convert_to_tensor(each) for each in (x, gain, shift))
    return backend.custom_gradient(forward, backward)(x, gain, shift)


def _weighted_mean(x, weight):
    """The mean of `x [..., D]` times `weight [D]`, `[..., 1]`."""
    if weight is None or keras.backend.backend() != "tensorflow":
        return ops.mean(x if weight is None else x * weight, axis=-1, keepdims=True)
    # One pass where nothing is fused.
    return ops.matmul(x, ops.expand_dims(weight, -1) / x.shape[-1])


def _sum_of_tokens(x, like):
    return ops.cast(ops.sum(x, axis=tuple(range(len(x.shape) - 1))), like.dtype)
