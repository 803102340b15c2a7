"""Greedy search: the most probable token at every step."""

import dataclasses
from typing import Any, NamedTuple

from keras import ops

from keras_tfm.generation.step_protocol import log_probabilities, next_logits, write_tokens
from keras_tfm.generation.strategy import Strategy, search


class GreedyLoop(NamedTuple):
    """What changes from step to step."""

    index: Any  # int32 scalar
    tokens: Any  # int32 [B], what the next step reads
    sequences: Any  # int32 [B, L]
    scores: Any  # float32 [B]
    lengths: Any  # int32 [B]
    is_finished: Any  # bool [B]
    state: Any  # pytree, every leaf [B, ...]


@dataclasses.dataclass(frozen=True)
class Greedy(Strategy):
    """The most probable token at every step, see `greedy_search`."""

    def start(self, tokens, state, limits, seed):
        """The loop before the first step."""
        batch_size = ops.shape(tokens)[0]
        return GreedyLoop(
            index=ops.convert_to_tensor(0, dtype="int32"),
            tokens=tokens,
            sequences=ops.full((batch_size, limits.max_length), limits.pad_id, dtype="int32"),
            scores=ops.zeros((batch_size,), dtype="float32"),
            lengths=ops.zeros((batch_size,), dtype="int32"),
            is_finished=ops.zeros((batch_size,), dtype="bool"),
            state=state,
        )

    def is_running(self, loop, limits):
        """Whether a sequence has not ended."""
        return ops.logical_not(ops.all(loop.is_finished))

    def advance(self, step, loop, limits):
        """Takes one step."""
        logits, state = next_logits(step, loop.tokens, loop.index, loop.state, limits.end_ids)
        tokens = ops.cast(ops.argmax(logits, axis=-1), "int32")
        gains = log_probabilities(ops.max(logits, axis=-1, keepdims=True), logits)[:, 0]
        return append(loop, tokens, gains, state, limits)

    def result(self, loop, limits):
        """Sequences, scores, lengths."""
        return loop.sequences, loop.scores, loop.lengths


def append(loop, tokens, gains, state, limits):
    """The loop with one more token in each sequence that has not ended.

    Args:
        loop: NamedTuple with the fields of `GreedyLoop`, perhaps more.
        tokens: int32 `[B]`.
        gains: float32 `[B]`, their log-probabilities.
        state: the model's, after the step.
        limits: `Limits`.
    """
    is_finished = loop.is_finished
    return loop._replace(
        index=loop.index + 1,
        # A finished row goes on with a token of the vocabulary: `pad_id` need not be one.
        tokens=tokens,
        sequences=write_tokens(loop.sequences, loop.index, ops.where(is_finished, limits.pad_id, tokens)),
        scores=loop.scores + ops.where(is_finished, 0.0, gains),
        lengths=loop.lengths + ops.cast(ops.logical_not(is_finished), "int32"),
        is_finished=ops.logical_or(is_finished, limits.is_end(tokens)),
        state=state,
    )


def greedy_search(step, state, start_tokens, *, max_length, end_id=None, pad_id=0, rules=(), prompt=None):
    """Decode by taking the most probable token at every step, until END or `max_length`.

    This is `search(Greedy(), ...)`. It runs eagerly or inside `jax.jit` and `tf.function`, and leaves the loop as soon
    as every sequence of the batch has ended. A row that has ended is still stepped with the others, but nothing of it
    is kept.

    Args:
        step: callable `(tokens int32 [B], index int32 scalar, state) -> (logits [B, V], state)`. It reads the token at
            position `index - 1` (`start_tokens` at index 0) and scores position `index`. Logits may have any float
            dtype and are finite or -inf (a forbidden token).
        state: pytree of tensors `[B, ...]` (tuples, NamedTuples, lists, dicts): caches, encoder outputs. Its shapes,
            dtypes and structure stay the same from step to step. `()` if there is none.
        start_tokens: int `[B]`, the first token given to `step`, no part of the result.
        max_length: Python integer L >= 1, the greatest number of tokens, END included.
        end_id: Python integer, the id of END, or several of them; `None` for none.
        pad_id: Python integer, what fills the positions after END; it may equal `end_id`. Default 0.
        rules, prompt: as `search` has them.

    Returns:
        Tuple of `sequences` int32 `[B, L]`; `scores` float32 `[B]`, the sums of the tokens' log-probabilities, END's
        included (-inf where the step forbade every token); `lengths` int32 `[B]`, the number of tokens with END, L
        where there is none.

    Raises:
        ValueError: on a bad number, id, `start_tokens`, state or shape of the logits.

    Example:

    >>> import numpy as np
    >>> from keras import ops
    >>> follows = ops.convert_to_tensor(np.log([[0.1, 0.2, 0.7], [0.8, 0.1, 0.1], [0.1, 0.6, 0.3]]))
    >>> def step(tokens, index, state):
    ...     return ops.take(follows, tokens, axis=0), state
    >>> sequences, scores, lengths = greedy_search(step, (), np.array([0, 2]), max_length=4, end_id=1)
    >>> print(ops.convert_to_numpy(sequences))
    [[2 1 0 0]
     [1 0 0 0]]
    >>> print(np.round(np.exp(ops.convert_to_numpy(scores)), 2), ops.convert_to_numpy(lengths))
    [0.42 0.6 ] [2 1]
    """
    return search(
        Greedy(),
        step,
        state,
        start_tokens,
        max_length=max_length,
        end_id=end_id,
        pad_id=pad_id,
        rules=rules,
        prompt=prompt,
    )
