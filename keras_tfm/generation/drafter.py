"""Drafter: who guesses the next tokens that a model then checks at once; a smaller model, for one."""

import dataclasses
from collections.abc import Callable
from typing import Any, NamedTuple

from keras import ops

from keras_tfm.generation.step_protocol import LOWEST
from keras_tfm.ops.counter_random import gumbel

DRAFT_STREAM = 1  # of random numbers; the target's own draws are stream 0


class Known(NamedTuple):
    """What is decided when a drafter is asked.

    Args:
        tokens: int32 `[B]`, the last token of each row, at position `places - 1`.
        places: int32 `[B]`, how many tokens each row has.
        sequences: int32 `[B, L]`, of which the first `places` are decided.
        keys: int32 `[B]`, the random keys of the rows.
    """

    tokens: Any
    places: Any
    sequences: Any
    keys: Any


class Drafter:
    """Base of those who guess. A drafter is a frozen dataclass of its settings; what changes is in its state."""

    def start(self, tokens, prompt, state):
        """The state before the first draft.

        Args:
            tokens: int32 `[B]`, the start tokens.
            prompt: int32 `[B, P]`, what was read before them, -1 where there is nothing; P may be 0.
            state: pytree of tensors `[B, ...]`, what the caller gave.
        """
        return state

    def draft(self, known, num_tokens, sampling, state):
        """Guesses the next tokens of each row.

        Args:
            known: `Known`.
            num_tokens: Python integer G, how many.
            sampling: `Sampling`, whose temperature and filters the guesses follow.
            state: of the last draft, which may have gone further than `known`.

        Returns:
            `(tokens int32 [B, G], probabilities, state)`: probabilities float32 `[B, G, V]` that the tokens were drawn
            from, or `None` if they were not drawn.
        """
        raise NotImplementedError


@dataclasses.dataclass(frozen=True)
class DraftModel(Drafter):
    """A smaller model of the same vocabulary guesses, one token after the other.

    Args:
        extend: callable `(tokens int32 [B, 1], index int32 [B], state) -> (logits [B, 1, V], state)`, as that of
            `speculative_search` with one token. Its state needs room for the same positions.

    Reference:
        Leviathan, Kalman and Matias 2023, https://arxiv.org/abs/2211.17192, section 2.

    Example:

    >>> import numpy as np
    >>> follows = ops.convert_to_tensor([[0.0, 9.0], [9.0, 0.0]])
    >>> drafter = DraftModel(lambda tokens, index, state: (ops.take(follows, tokens, axis=0), state))
    >>> start = ops.convert_to_tensor([0], dtype="int32")
    >>> from keras_tfm.generation.sampling import Sampling
    >>> known = Known(start, start, ops.zeros((1, 4), "int32"), start)
    >>> tokens, _, _ = drafter.draft(known, 3, Sampling(temperature=0), ())
    >>> print(ops.convert_to_numpy(tokens))
    [[1 0 1]]
    """

    extend: Callable

    def draft(self, known, num_tokens, sampling, state):
        """Guesses the next tokens of each row."""
        tokens, drafted, chances = known.tokens, [], []
        for offset in range(num_tokens):
            logits, state = self.extend(tokens[:, None], known.places + offset, state)
            logits = ops.cast(logits, "float32")[:, 0]
            tokens, probabilities = _choose(logits, known.keys, known.places + offset, sampling)
            drafted.append(tokens)
            chances.append(probabilities)
        # The last token is read too: if it stands, the next draft begins behind it.
        _, state = self.extend(tokens[:, None], known.places + num_tokens, state)
        chances = None if sampling.temperature == 0 else ops.stack(chances, axis=1)
        return ops.stack(drafted, axis=1), chances, state


def _choose(logits, keys, index, sampling):
    """The token of each row, and the probabilities that it was drawn from."""
    if sampling.temperature == 0:
        return ops.cast(ops.argmax(logits, axis=-1), "int32"), None
    probabilities = filtered_probabilities(logits, sampling)
    return draw_from(probabilities, keys, index, DRAFT_STREAM), probabilities


def filtered_probabilities(logits, sampling):
    """float32 `[R, V]`, the probabilities that `sampling` draws from, of float32 `logits [R, V]`.

    A row of which every logit is -inf is zeros.
    """
    for each in sampling.filters:
        logits = each.filter(logits)
    shift = ops.maximum(ops.max(logits, axis=-1, keepdims=True), LOWEST)
    weights = ops.exp(logits - shift)
    return weights / ops.maximum(ops.sum(weights, axis=-1, keepdims=True), 1.0)  # only a row of -inf has less


def draw_from(weights, keys, index, stream=0):
    """int32 `[R]`, a draw from each row of float32 `weights [R, V]` >= 0, whatever they sum to."""
    logits = ops.where(weights > 0, ops.log(ops.where(weights > 0, weights, 1.0)), -float("inf"))
    # Not argmax: XLA would compute the noise inside its reduction, one number at a time (JAX 0.10 on CPU).
    _, places = ops.top_k(logits + gumbel(keys, index, weights.shape[-1], stream), 1)
    return ops.cast(ops.squeeze(places, axis=-1), "int32")
