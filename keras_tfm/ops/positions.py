"""Positions as numbers: exact angles, sinusoid tables and rotary turns, float32 inside."""

import math

import keras
import numpy as np
from keras import ops

_STEP = 4096  # a position is `coarse · 4096 + fine`: 12 bits times 12 bits are exact in float32


def frequencies(dim, max_wavelength=10_000, endpoint=False):
    """Angular frequencies of D features that come in pairs of sine and cosine, in float64.

    Args:
        dim: D, the number of features.
        max_wavelength: longest wavelength, in positions over 2π.
        endpoint: `False` spaces the wavelengths as `max_wavelength ** (2i / D)`, which ends one step before
            `max_wavelength`; `True` as `max_wavelength ** (i / (D/2 - 1))`, which ends at it.

    Returns:
        numpy float64 `[ceil(D / 2)]`, or `[floor(D / 2)]` with `endpoint`, from 1 downwards.

    Reference:
        Vaswani et al. 2017, section 3.5; with `endpoint` the authors' code in tensor2tensor.

    Example:

    >>> [round(float(x), 4) for x in frequencies(4)], [round(float(x), 4) for x in frequencies(4, endpoint=True)]
    ([1.0, 0.01], [1.0, 0.0001])
    """
    if endpoint:
        return float(max_wavelength) ** (-np.arange(dim // 2) / max(dim // 2 - 1, 1))
    return float(max_wavelength) ** (-2.0 * np.arange((dim + 1) // 2) / dim)


def sine_and_cosine(positions, frequencies):
    """Sines and cosines of `position · frequency`, exact to float32 however far the position.

    Args:
        positions: int or float, any shape `[...]`.
        frequencies: numpy float64 `[F]`, or a float32 tensor that broadcasts to `[..., F]`.

    Returns:
        `(sine, cosine)`, each float32 `[..., F]`.

    Numerics:
        A float32 product of position and frequency would be wrong by 0.004 at position 100,000. Here each factor is
        split so that the products are exact, and whole turns are taken off before anything is rounded. This holds for
        whole positions below 16 million.

    Example:

    >>> import keras, numpy
    >>> sine, _ = sine_and_cosine(keras.ops.convert_to_tensor([100_003]), numpy.array([0.7]))
    >>> bool(abs(float(sine[0, 0]) - numpy.sin(0.7 * 100_003)) < 1e-6)
    True
    """
    xp = np if isinstance(frequencies, np.ndarray) else ops
    turns = frequencies * (1 / (2 * math.pi))
    coarse, fine = (ops.expand_dims(part, -1) for part in _coarse_and_fine(positions))
    turns_high, turns_low = _split(turns, xp)
    step_high, step_low = _split(_off_whole(_STEP * turns, xp), xp)
    whole = _off_whole(coarse * step_high, ops) + _off_whole(fine * turns_high, ops)
    angles = (2 * math.pi) * _off_whole(whole + (coarse * step_low + fine * turns_low), ops)
    return ops.sin(angles), ops.cos(angles)


def sinusoid(positions, dim, max_wavelength=10_000, layout="interleaved", endpoint=False):
    """Sinusoidal encodings of positions.

    Args:
        positions: int or float, any shape `[...]`.
        dim: D, the number of features.
        max_wavelength: longest wavelength, in positions over 2π.
        layout: `"interleaved"` has sines at even and cosines at odd features; `"concatenated"` has all sines, then all
            cosines.
        endpoint: see `frequencies`. With an odd D the last feature is then zero.

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
    sine, cosine = sine_and_cosine(positions, frequencies(dim, max_wavelength, endpoint))
    if layout == "concatenated":
        table = ops.concatenate([sine, cosine[..., : dim // 2]], axis=-1)
    else:
        table = _interleave(sine, cosine)[..., :dim]
    missing = dim - table.shape[-1]
    return ops.pad(table, [(0, 0)] * (len(table.shape) - 1) + [(0, missing)]) if missing else table


def rotate(heads, positions, max_wavelength=10_000, *, rotary_dim=None, pairing="half", scaling=None):
    """Turns each pair of features by an angle that grows with the position.

    Args:
        heads: float `[B, T, N, H]`.
        positions: int `[T]` or `[B, T]`.
        max_wavelength: longest wavelength, in positions over 2π.
        rotary_dim: R, even: the first R features of each head turn, the others stay. `None` means H.
        pairing: `"half"` pairs feature i with `i + R/2`; `"interleaved"` pairs 2i with `2i + 1`.
        scaling: `None`, or one of `keras_tfm.ops.rotary_scaling`.

    Returns:
        `[B, T, N, H]` in the dtype of `heads`; the angles and the turn are computed in float32.

    Reference:
        Su et al. 2021, "RoFormer", equation 34, which interleaves.
    """
    width = heads.shape[-1] if rotary_dim is None else rotary_dim
    if scaling is None:
        speeds, magnitude = frequencies(width, max_wavelength), 1.0
    else:
        speeds, magnitude = scaling.frequencies(width, max_wavelength, positions), scaling.magnitude
    sine, cosine = (_across_heads(part) * magnitude for part in sine_and_cosine(positions, speeds))
    first, second = (ops.cast(part, "float32") for part in _pairs(heads[..., :width], pairing))
    turned = first * cosine - second * sine, second * cosine + first * sine
    turned = ops.concatenate(turned, axis=-1) if pairing == "half" else _interleave(*turned)
    turned = ops.cast(turned, heads.dtype)
    return turned if width == heads.shape[-1] else ops.concatenate([turned, heads[..., width:]], axis=-1)


def _pairs(features, pairing):
    if pairing == "interleaved":
        return features[..., 0::2], features[..., 1::2]
    half = features.shape[-1] // 2
    return features[..., :half], features[..., half:]


def _interleave(first, second):
    shape = (*ops.shape(first)[:-1], 2 * first.shape[-1])
    return ops.reshape(ops.stack([first, second], axis=-1), shape)


def _across_heads(angles):
    """`[T, F]` or `[B, T, F]` to `[1 or B, T, 1, F]`."""
    return ops.expand_dims(angles if len(angles.shape) == 3 else ops.expand_dims(angles, 0), -2)


def _coarse_and_fine(positions):
    positions = ops.convert_to_tensor(positions)
    if "float" in keras.backend.standardize_dtype(positions.dtype):
        positions = ops.cast(positions, "float32")
        coarse = ops.floor(positions / _STEP)
        return coarse, positions - _STEP * coarse
    positions = ops.cast(positions, "int32")
    coarse = ops.floor_divide(positions, _STEP)
    return ops.cast(coarse, "float32"), ops.cast(positions - _STEP * coarse, "float32")


def _off_whole(turns, xp):
    return turns - xp.round(turns)


def _split(turns, xp):
    """The first 12 binary places, by which 12 bit numbers multiply exactly, and the rest."""
    high = xp.round(turns * _STEP) / _STEP
    return ops.convert_to_tensor(high, dtype="float32"), ops.convert_to_tensor(turns - high, dtype="float32")
