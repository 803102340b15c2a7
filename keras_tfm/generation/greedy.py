"""Greedy search: the most probable token at every step."""

from typing import Any, NamedTuple

from keras import ops

from keras_tfm.generation.step_protocol import check_integer, log_probabilities, next_logits, prepare, write_tokens


class GreedySearch(NamedTuple):
    """Loop state of `greedy_search`: all that changes from step to step."""

    index: Any  # int32 scalar
    tokens: Any  # int32 [B], what the next step reads
    sequences: Any  # int32 [B, L]
    scores: Any  # float32 [B]
    lengths: Any  # int32 [B]
    is_finished: Any  # bool [B]
    state: Any  # pytree, every leaf [B, ...]


def greedy_search(step, state, start_tokens, *, max_length, end_id, pad_id=0):
    """Decode by taking the most probable token at every step, until END or `max_length`.

    The search runs eagerly or inside `jax.jit` and `tf.function`, and leaves the loop as soon as every sequence of the
    batch has ended. A row that has ended is still stepped with the others, but nothing of it is kept.

    Args:
        step: callable `(tokens int32 [B], index int32 scalar, state) -> (logits [B, V], state)`. It reads the token at
            position `index - 1` (`start_tokens` at index 0) and scores position `index`. Logits may have any float
            dtype and are finite or -inf (a forbidden token).
        state: pytree of tensors `[B, ...]` (tuples, NamedTuples, lists, dicts): caches, encoder outputs. Its shapes,
            dtypes and structure stay the same from step to step. `()` if there is none.
        start_tokens: int `[B]`, the first token given to `step`, no part of the result.
        max_length: Python integer L >= 1, the greatest number of tokens, END included.
        end_id: Python integer, the id of END.
        pad_id: Python integer, what fills the positions after END; it may equal `end_id`. Default 0.

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
    max_length = check_integer("max_length", max_length, minimum=1)
    end_id = check_integer("end_id", end_id, minimum=0)
    pad_id = check_integer("pad_id", pad_id, minimum=0)
    tokens, state = prepare(start_tokens, state)
    batch_size = ops.shape(tokens)[0]

    def has_running(search):
        return ops.logical_not(ops.all(search.is_finished))

    def advance(search):
        logits, state = next_logits(step, search.tokens, search.index, search.state, end_id)
        tokens = ops.cast(ops.argmax(logits, axis=-1), "int32")
        gains = log_probabilities(ops.max(logits, axis=-1, keepdims=True), logits)[:, 0]
        is_finished = search.is_finished
        following = GreedySearch(
            index=search.index + 1,
            # A finished row goes on with a token of the vocabulary: `pad_id` need not be one.
            tokens=tokens,
            sequences=write_tokens(search.sequences, search.index, ops.where(is_finished, pad_id, tokens)),
            scores=search.scores + ops.where(is_finished, 0.0, gains),
            lengths=search.lengths + ops.cast(ops.logical_not(is_finished), "int32"),
            is_finished=ops.logical_or(is_finished, tokens == end_id),
            state=state,
        )
        return (following,)

    start = GreedySearch(
        index=ops.convert_to_tensor(0, dtype="int32"),
        tokens=tokens,
        sequences=ops.full((batch_size, max_length), pad_id, dtype="int32"),
        scores=ops.zeros((batch_size,), dtype="float32"),
        lengths=ops.zeros((batch_size,), dtype="int32"),
        is_finished=ops.zeros((batch_size,), dtype="bool"),
        state=state,
    )
    # A NamedTuple given alone would be taken for the list of loop variables.
    (search,) = ops.while_loop(has_running, advance, (start,), maximum_iterations=max_length)
    return search.sequences, search.scores, search.lengths
