"""Prompt look-up: the guess that what followed the same words before follows them again."""

import dataclasses

from keras import ops

from keras_tfm.generation.drafter import Drafter
from keras_tfm.generation.step_protocol import check_integer

NOTHING = -1


@dataclasses.dataclass(frozen=True)
class PromptLookup(Drafter):
    """Guesses the tokens that followed the latest earlier occurrence of the last n tokens, in prompt or output.

    The longest n that occurs is taken, the latest among equals. It costs no model, and helps where output repeats its
    input: summaries, corrections, code, quotations. Where the copied text ends it starts over. Nothing found, the last
    token is guessed again, which costs nothing but the check.

    Args:
        ngram_size: the greatest n, a Python integer >= 1. Default 3.

    Raises:
        ValueError: `ngram_size` is no integer of at least 1.

    Reference:
        Saxena 2023, "Prompt Lookup Decoding", https://github.com/apoorvumang/prompt-lookup-decoding.

    Example:

    >>> import numpy as np
    >>> history = ops.convert_to_tensor([[4, 5, 6, 7, 2, 5, 6, 0, 0]])
    >>> print(ops.convert_to_numpy(look_up(history, ops.convert_to_tensor([7]), num_tokens=3, ngram_size=2)))
    [[7 2 5]]
    """

    ngram_size: int = 3

    def __post_init__(self):
        """Checks the setting."""
        check_integer("ngram_size", self.ngram_size, minimum=1)

    def start(self, tokens, prompt, state):
        """What was read before the output: int32 `[B, P + 1]`."""
        return ops.concatenate([prompt, tokens[:, None]], axis=1)

    def draft(self, known, num_tokens, sampling, state):
        """Guesses the next tokens of each row."""
        history = ops.concatenate([state, known.sequences], axis=1)
        ends = ops.shape(state)[1] + known.places
        return look_up(history, ends, num_tokens, self.ngram_size), None, state


def look_up(history, ends, num_tokens, ngram_size):
    """The tokens that followed the latest earlier occurrence of the last ones.

    Args:
        history: int32 `[B, M]`; negative where there is nothing.
        ends: int32 `[B]`, how many of them are known, at least 1.
        num_tokens: G, how many to return.
        ngram_size: how many of the last tokens to compare at most.

    Returns:
        int32 `[B, G]`, none negative.
    """
    last = ops.cast(ends, "int32")[:, None] - 1
    places = ops.arange(ops.shape(history)[1], dtype="int32")
    lengths = _common_lengths(history, last, ngram_size)
    is_earlier = ops.logical_and(places < last, lengths > 0)
    # The longest first, of those the latest.
    merit = ops.where(is_earlier, lengths * ops.shape(history)[1] + places, NOTHING)
    found = ops.cast(ops.argmax(merit, axis=1), "int32")[:, None]
    found = ops.where(ops.max(merit, axis=1, keepdims=True) < 0, last - 1, found)
    period = last - found
    copied = found + 1 + ops.arange(num_tokens, dtype="int32") % period
    return ops.maximum(ops.take_along_axis(history, ops.maximum(copied, 0), axis=1), 0)


def _common_lengths(history, last, ngram_size):
    """int32 `[B, M]`: how many tokens up to each place are those up to place `last [B, 1]`, at most `ngram_size`."""
    lengths = ops.zeros_like(history)
    is_same = ops.ones_like(history, dtype="bool")
    for back in range(ngram_size):
        token = ops.take_along_axis(history, ops.maximum(last - back, 0), axis=1)
        token = ops.where(ops.logical_and(last >= back, token >= 0), token, NOTHING - 1)
        shifted = ops.pad(history, ((0, 0), (back, 0)), constant_values=NOTHING)[:, : ops.shape(history)[1]]
        is_same = ops.logical_and(is_same, shifted == token)
        lengths = lengths + ops.cast(is_same, lengths.dtype)
    return lengths
