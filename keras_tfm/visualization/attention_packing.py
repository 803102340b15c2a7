"""Attention scores and vectors as compressed bytes in base64, as the page of `attention_page` unpacks them."""

import base64
import zlib

import numpy as np

LEVELS = 255
EFFORT = 7  # of zlib: 9 takes ten times as long for a tenth less on long inputs


def pack_scores(scores):
    """Packs scores as one byte each, compressed, in base64.

    Args:
        scores: Floats in 0 to 1, of any shape; what lies outside, as talking heads may give, becomes 0 or 1.

    Returns:
        String: base64 of the zlib stream of the bytes in C order.

    Numerics:
        A byte is the score times 255, rounded: the error is at most 1/510.

    Example:

    >>> unpack_scores(pack_scores([[1.0, 0.0], [0.6, 0.4]]), (2, 2)).tolist()
    [[1.0, 0.0], [0.6000000238418579, 0.4000000059604645]]
    """
    levels = np.rint(np.clip(np.asarray(scores, dtype="float32"), 0.0, 1.0) * LEVELS)
    return _pack(levels.astype("uint8"))


def unpack_scores(packed, shape):
    """Reads what `pack_scores` wrote, as float32 of the shape."""
    return _unpack(packed, "uint8").reshape(shape).astype("float32") / np.float32(LEVELS)


def pack_vectors(vectors):
    """Packs vectors as one signed byte each, with one scale for each head.

    Args:
        vectors: Floats `[T, N, H]`.

    Returns:
        Pair of a base64 string, of the bytes in the order `[N, T, H]`, and a list of N floats: a byte times the scale
        of its head is the number.

    Numerics:
        The error is at most the largest magnitude of the head divided by 254.

    Example:

    >>> packed, scales = pack_vectors(np.array([[[127.0, -50.0]]]))
    >>> unpack_vectors(packed, scales, (1, 1, 2)).tolist()
    [[[127.0, -50.0]]]
    """
    by_head = np.asarray(vectors, dtype="float32").transpose(1, 0, 2)
    scales = np.abs(by_head).max(axis=(1, 2), initial=0.0) / 127
    levels = np.rint(by_head / np.where(scales > 0, scales, 1.0)[:, None, None])
    return _pack(levels.astype("int8")), [float(scale) for scale in scales]


def unpack_vectors(packed, scales, shape):
    """Reads what `pack_vectors` wrote, as float32 of the shape `[T, N, H]`."""
    length, heads, width = shape
    by_head = _unpack(packed, "int8").reshape(heads, length, width) * np.asarray(scales, "float32")[:, None, None]
    return by_head.transpose(1, 0, 2)


def _pack(array):
    return base64.b64encode(zlib.compress(array.tobytes(), EFFORT)).decode("ascii")


def _unpack(packed, dtype):
    return np.frombuffer(zlib.decompress(base64.b64decode(packed)), dtype)
