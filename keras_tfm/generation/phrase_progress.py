"""How much of each required phrase a hypothesis has said: Knuth-Morris-Pratt automata as tensors."""

from typing import Any, NamedTuple

import numpy as np
from keras import ops


class Phrases(NamedTuple):
    """The phrases of each sentence; C of them, at most M tokens each, padded with -1."""

    tokens: Any  # int32 [B, C, M]
    lengths: Any  # int32 [B, C], 0: no phrase
    borders: Any  # float32 [B, C, M, M], 1 where the first j tokens are also the last j of the first p

    @classmethod
    def create(cls, tokens):
        """The phrases of int `tokens` `[B, C, M]`."""
        tokens = ops.cast(tokens, "int32")
        lengths = ops.sum(ops.cast(tokens >= 0, "int32"), axis=-1)
        return cls(tokens, lengths, ops.cast(borders(tokens), "float32"))


def borders(tokens):
    """bool `[B, C, M, M]`, True at p, j where the first j tokens are also the last j of the first p.

    Args:
        tokens: int32 `[B, C, M]`.
    """
    size = tokens.shape[-1]
    matched, prefix, place = np.ogrid[:size, :size, :size]  # p, j and a place i < j
    shifted = np.clip(matched - prefix + place, 0, size - 1)
    shifted = ops.take(tokens, ops.convert_to_tensor(shifted.astype("int32")), axis=-1)  # [B, C, p, j, i]
    is_same = ops.logical_or(tokens[:, :, None, None, :] == shifted, ops.convert_to_tensor(place >= prefix))
    return ops.logical_and(ops.all(is_same, axis=-1), ops.convert_to_tensor((prefix <= matched)[..., 0]))


def advance(progress, tokens, phrases):
    """The progress after one more token each: how many tokens of each phrase the hypothesis ends with.

    A phrase that has been said stays said.

    Args:
        progress: int32 `[B, X, C]`, of X hypotheses a sentence.
        tokens: int32 `[B, X]`.
        phrases: `Phrases`.

    Returns:
        int32 `[B, X, C]`.
    """
    size = phrases.tokens.shape[-1]
    places = ops.arange(size, dtype="int32")
    here = ops.cast(ops.expand_dims(progress, -1) == places, "float32")
    may_extend = ops.einsum("bxcp,bcpj->bxcj", here, phrases.borders) > 0.5
    fits = ops.logical_and(may_extend, phrases.tokens[:, None] == tokens[:, :, None, None])
    following = ops.max(ops.where(fits, places + 1, 0), axis=-1)
    return ops.where(is_said(progress, phrases), progress, following)


def is_said(progress, phrases):
    """bool `[B, X, C]`, which phrases are complete; where there is no phrase, True."""
    return progress >= ops.expand_dims(phrases.lengths, 1)


def next_tokens(progress, phrases):
    """int32 `[B, X, C]`, the token that each phrase needs next; -1 if it is complete."""
    size = phrases.tokens.shape[-1]
    here = ops.expand_dims(progress, -1) == ops.arange(size, dtype="int32")
    tokens = ops.max(ops.where(here, ops.expand_dims(phrases.tokens, 1), -1), axis=-1)
    return ops.where(is_said(progress, phrases), -1, tokens)


def num_missing(progress, phrases):
    """int32 `[B, X]`, how many tokens are missing: those of incomplete phrases, less the most that one has begun."""
    said = is_said(progress, phrases)
    missing = ops.sum(ops.where(said, 0, ops.expand_dims(phrases.lengths, 1)), axis=-1)
    return missing - ops.max(ops.where(said, 0, progress), axis=-1)
