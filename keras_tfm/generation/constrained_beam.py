"""Constrained beam search: every hypothesis contains the given phrases."""

import dataclasses
from collections.abc import Callable
from typing import Any, NamedTuple

import numpy as np
from keras import ops

from keras_tfm.generation import phrase_progress
from keras_tfm.generation.beam import Beam
from keras_tfm.generation.beam_pool import Candidates, num_candidates, start_loop
from keras_tfm.generation.length_penalty import length_divisors
from keras_tfm.generation.step_protocol import log_probabilities


class ConstraintMemory(NamedTuple):
    """The phrases and what the alive hypotheses have said of them."""

    progress: Any  # int32 [B, K, C]
    phrases: phrase_progress.Phrases


@dataclasses.dataclass(frozen=True)
class ConstrainedBeam(Beam):
    """Beam search whose hypotheses contain all phrases of their sentence.

    A phrase is said where its tokens follow each other; phrases may overlap. END is forbidden until all are said, and
    at `max_length` only hypotheses that have said all enter the pool: what is returned satisfies all constraints.

    A hypothesis is in the bank of the tokens that its phrases still miss: all tokens of incomplete phrases, less the
    most that one of them has begun. The banks take turns to fill the beam, the one that misses least first, each with
    its best hypothesis first. Beside the best continuations of each hypothesis, the next token of each incomplete
    phrase is tried. So the fullest bank gains a token at each step: if no token is forbidden and `max_length` is at
    least the number of tokens of all phrases, there is a result. Without phrases this is `Beam`.

    Args:
        constraints: ids of the phrases, `[B, C, M]` integers, each phrase padded with -1 at its end, a phrase of -1
            alone is none. Nested sequences and numpy arrays are kept as tuples, so that the strategy is hashable. Or a
            callable from the `state` given to `search` to such a tensor, so that one program serves all phrases; with
            logit rules it is given `(state, memories)`.
        num_beams, length_penalty, penalty, early_stopping, num_results, coverage: as `Beam` has them.

    Returns:
        As `Beam`.

    Raises:
        ValueError: on a setting that is not as said above, if the constraints are not for B sentences, or if a phrase
            contains END or an id outside the vocabulary (this is not looked at where they come from a callable).

    Reference:
        Post and Vilar 2018, https://arxiv.org/abs/1804.06609: the banks; the automata and the turns are simpler.

    Example:

    >>> import numpy as np
    >>> from keras_tfm.generation import search
    >>> follows = ops.convert_to_tensor(np.log([[0.5, 0.1, 0.4], [0.3, 0.4, 0.3], [0.2, 0.3, 0.5]]))
    >>> def step(tokens, index, state):
    ...     return ops.take(follows, tokens, axis=0), state
    >>> strategy = ConstrainedBeam(constraints=[[[2, 0]]], num_beams=2, num_results=1)
    >>> sequences, scores, lengths = search(strategy, step, (), np.array([0]), max_length=3, end_id=1)
    >>> print(ops.convert_to_numpy(sequences[0]))
    [[2 0 0]]
    """

    constraints: tuple | Callable = ()

    def __post_init__(self):
        super().__post_init__()
        if not callable(self.constraints):
            # Frozen: the settings are a key, so that they are tuples all the way down.
            object.__setattr__(self, "constraints", as_tuples(self.constraints))

    @property
    def is_greedy(self):
        """Constraints are always ranked."""
        return False

    def start(self, tokens, state, limits, seed):
        """The loop before the first step."""
        divisors = length_divisors(self.penalty, self.length_penalty, limits.max_length)
        phrases = phrase_progress.Phrases.create(self._constraints(tokens, state, limits))
        batch_size, count = ops.shape(tokens)[0], phrases.tokens.shape[1]
        memory = ConstraintMemory(ops.zeros((batch_size, self.num_beams, count), "int32"), phrases)
        return start_loop(tokens, state, self.num_beams, divisors, limits, memory)

    def _constraints(self, tokens, state, limits):
        if callable(self.constraints):
            return self.constraints(state)
        constraints = np.array(self.constraints, "int32")
        if tokens.shape[0] not in (None, len(constraints)):
            raise ValueError(
                f"`constraints` must be of {tokens.shape[0]} sentences, as many as `start_tokens`. "
                f"Received: constraints of shape {constraints.shape}"
            )
        if np.isin(constraints, limits.end_ids).any():
            raise ValueError(
                "`constraints` must not contain END: nothing may follow it. "
                f"Received: constraints={self.constraints}, end_id={limits.end_ids}"
            )
        return ops.convert_to_tensor(constraints)

    def candidates(self, logits, loop, limits):
        """The `Candidates` of a step: the banks take turns."""
        self._check_vocabulary(logits.shape[-1])
        phrases = loop.memory.phrases
        gains = ops.reshape(log_probabilities(logits, logits), (-1, self.num_beams, logits.shape[-1]))
        is_complete = ops.all(phrase_progress.is_said(loop.memory.progress, phrases), axis=-1, keepdims=True)
        is_end = limits.is_end(ops.arange(logits.shape[-1], dtype="int32"))
        gains = ops.where(ops.logical_and(is_end, ops.logical_not(is_complete)), -np.inf, gains)
        count = num_candidates(self.num_beams, limits)
        tokens, gains = continuations(gains, phrase_progress.next_tokens(loop.memory.progress, phrases), count)

        totals = ops.expand_dims(loop.alive_scores, -1) + gains
        width = totals.shape[-1]
        flat = (-1, self.num_beams * width)
        parents = ops.repeat(ops.arange(self.num_beams, dtype="int32"), width)
        progress = ops.repeat(loop.memory.progress, width, axis=1)
        progress = phrase_progress.advance(progress, ops.reshape(tokens, flat), phrases)
        missing = phrase_progress.num_missing(progress, phrases)
        parents = parents + ops.zeros_like(missing)
        return in_turns(ops.reshape(totals, flat), parents, ops.reshape(tokens, flat), missing, count)

    def remember(self, memory, parents, tokens):
        """The memory of the hypotheses that go on."""
        progress = ops.take_along_axis(memory.progress, ops.expand_dims(parents, -1), axis=1)
        tokens = ops.reshape(tokens, (-1, self.num_beams))
        return memory._replace(progress=phrase_progress.advance(progress, tokens, memory.phrases))

    def _check_vocabulary(self, size):
        if not callable(self.constraints) and np.max(self.constraints, initial=-1) >= size:
            raise ValueError(
                f"`constraints` must be smaller than the vocabulary size {size}. "
                f"Received: constraints={self.constraints}"
            )


def as_tuples(constraints):
    """Integers `[B, C, M]`, each row padded with -1 at its end, as nested tuples.

    Raises:
        ValueError: if they are something else.
    """
    try:
        array = np.asarray(constraints)
    except ValueError:  # ragged
        array = np.zeros(())
    is_padded = array.ndim == 3 and array.size and not ((array[..., :-1] < 0) & (array[..., 1:] >= 0)).any()
    if not is_padded or not np.issubdtype(array.dtype, np.integer) or array.min() < -1:
        raise ValueError(
            "`constraints` must be integers [B, C, M], none of the sizes 0, each phrase padded with -1 at its end. "
            f"Received: constraints={constraints!r}"
        )
    return tuple(tuple(tuple(phrase) for phrase in sentence) for sentence in array.tolist())


def continuations(gains, wanted, count):
    """The best `count` tokens of each hypothesis and those that its phrases want, each once.

    Args:
        gains: float32 `[B, K, V]`.
        wanted: int32 `[B, K, C]`, -1 where nothing is.
        count: Python integer.

    Returns:
        `(tokens int32 [B, K, W], gains float32 [B, K, W])`; what has come before has the gain -inf.
    """
    best, tokens = ops.top_k(gains, min(count, gains.shape[-1]))
    tokens = ops.cast(tokens, "int32")
    every = ops.concatenate([tokens, wanted], axis=-1)
    is_before = ops.arange(every.shape[-1]) < ops.expand_dims(ops.arange(tokens.shape[-1], every.shape[-1]), 1)
    is_known = ops.any(ops.logical_and(ops.expand_dims(wanted, -1) == ops.expand_dims(every, -2), is_before), axis=-1)
    is_known = ops.logical_or(is_known, wanted < 0)
    wanted = ops.maximum(wanted, 0)
    wanted_gains = ops.where(is_known, -np.inf, ops.take_along_axis(gains, wanted, axis=-1))
    return ops.concatenate([tokens, wanted], axis=-1), ops.concatenate([best, wanted_gains], axis=-1)


def in_turns(totals, parents, tokens, missing, count):
    """The first `count` `Candidates` where banks take turns, the one that misses least first.

    Args:
        totals: float32 `[B, N]`.
        parents, tokens: int32 `[B, N]`.
        missing: int32 `[B, N]`, the banks.
        count: Python integer.
    """
    size = totals.shape[1]
    scores, order = ops.top_k(totals, size)
    parents, tokens, missing = (ops.take_along_axis(each, order, axis=1) for each in (parents, tokens, missing))
    is_same = ops.expand_dims(missing, 1) == ops.expand_dims(missing, 2)
    is_before = np.tri(size, k=-1, dtype="bool")
    turns = ops.sum(ops.cast(ops.logical_and(is_same, is_before), "int32"), axis=-1)
    most = ops.max(missing, axis=1, keepdims=True) + 1
    keys = ops.where(scores == -np.inf, -np.inf, ops.cast(-(turns * most + missing), "float32"))
    keys, places = ops.top_k(keys, min(count, size))
    scores, parents, tokens, missing = (
        ops.take_along_axis(each, places, axis=1) for each in (scores, parents, tokens, missing)
    )
    return Candidates(scores, parents, tokens, keys, missing == 0)
