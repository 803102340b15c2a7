"""Positions as numbers: sinusoid tables and rotary turns, float32 inside."""

from keras import ops


def sinusoid(positions, dim, max_wavelength=10_000):
    """Sinusoidal encodings, sine at even and cosine at odd features.

    Args:
        positions: int or float, any shape `[...]`.
        dim: D, the number of features.
        max_wavelength: longest wavelength, in positions over 2π.

    Returns:
        float32 `[..., D]`.

    Reference:
        Vaswani et al. 2017, section 3.5.

    Example:

    >>> import keras
    >>> table = sinusoid(keras.ops.arange(3), dim=4)
    >>> [round(float(x), 4) for x in table[1]]
    [0.8415, 0.5403, 0.01, 0.9999]
    """
    feature = ops.arange(dim, dtype="int32")
    exponent = ops.cast(2 * (feature // 2), "float32") / dim
    angles = ops.expand_dims(ops.cast(positions, "float32"), -1) * ops.power(1.0 / max_wavelength, exponent)
    return ops.where(feature % 2 == 0, ops.sin(angles), ops.cos(angles))


def rotate(heads, positions, max_wavelength=10_000):
    """Turns each pair of features `(i, i + H/2)` by an angle that grows with the position.

    Args:
        heads: float `[B, T, N, H]`, H even.
        positions: int `[T]` or `[B, T]`.
        max_wavelength: longest wavelength, in positions over 2π.

    Returns:
        `[B, T, N, H]` in the dtype of `heads`; the angles and the turn are computed in float32.

    Reference:
        Su et al. 2021, "RoFormer", equation 34, with the halves of the head paired.
    """
    half = heads.shape[-1] // 2
    inverse_wavelength = ops.power(1.0 / max_wavelength, ops.arange(half, dtype="float32") / half)
    angles = ops.expand_dims(ops.cast(positions, "float32"), -1) * inverse_wavelength
    if len(angles.shape) == 2:
        angles = ops.expand_dims(angles, 0)
    sine, cosine = ops.expand_dims(ops.sin(angles), -2), ops.expand_dims(ops.cos(angles), -2)
    first, second = heads[..., :half], heads[..., half:]
    first, second = ops.cast(first, "float32"), ops.cast(second, "float32")
    turned = ops.concatenate([first * cosine - second * sine, second * cosine + first * sine], axis=-1)
    return ops.cast(turned, heads.dtype)
