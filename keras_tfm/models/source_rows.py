"""Sources of any lengths as one array of few lengths."""

import math

import numpy as np

from keras_tfm.models.token_ids import check_token_ids


def pad_sources(source_ids, vocabulary_size, max_positions=None):
    """Pads sources with 0 to a multiple of 8 tokens: few lengths, so that few programs are compiled.

    Args:
        source_ids: int `[B, S]`, padded with 0, or B sequences of ids.
        vocabulary_size: V; ids outside are refused.
        max_positions: the most tokens that a source may have, or `None`.

    Returns:
        int32 numpy `[B, S]`.

    Raises:
        ValueError: ids outside the vocabulary, or sources that are too long.

    Example:

    >>> from keras_tfm.models.source_rows import pad_sources
    >>> pad_sources([[5, 6], [7]], vocabulary_size=10).shape
    (2, 8)
    """
    if not isinstance(source_ids, np.ndarray) and len({len(row) for row in source_ids}) > 1:
        longest = max(len(row) for row in source_ids)
        source_ids = [[*row, *[0] * (longest - len(row))] for row in source_ids]
    source_ids = np.asarray(source_ids, "int32")
    if source_ids.ndim != 2:
        raise ValueError(f"`source_ids` must be [B, S]. Received: source_ids.shape={source_ids.shape}")
    check_token_ids("source_ids", source_ids, vocabulary_size)
    length = source_ids.shape[1]
    if max_positions is not None and length > max_positions:
        raise ValueError(
            f"Sources must be within the {max_positions} learned positions. "
            f"Received: source_ids.shape={source_ids.shape}"
        )
    padded_length = min(length + -length % 8, max_positions or math.inf)
    return np.pad(source_ids, ((0, 0), (0, padded_length - length)))
