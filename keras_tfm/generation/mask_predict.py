"""Mask-predict: all tokens at once, then the least certain ones again."""

from typing import Any, NamedTuple

from keras import ops, tree

from keras_tfm import backend
from keras_tfm.generation.step_protocol import check_integer, log_probabilities


class MaskPredictLoop(NamedTuple):
    """What changes from iteration to iteration, and what is read."""

    index: Any  # int32 scalar
    tokens: Any  # int32 [R, L]
    log_probabilities: Any  # float32 [R, L], 0 in the padding
    lengths: Any  # int32 [R]
    memory: Any  # pytree


def mask_predict(predict, lengths, *, max_length, mask_id, num_iterations=10, pad_id=0, memory=()):
    """Decodes without an order: predicts all positions, masks those that are least sure, predicts them anew.

    Each iteration is one pass over the sequence, so that their number, not the length, is what it takes. In iteration
    t of T, the ⌊N · (T - t) / T⌋ positions of smallest probability are masked (all of N at t = 0) and get the most
    probable token; the others stay as they are. Of several lengths for a sentence, the one whose tokens have the
    highest mean log-probability wins. The loop is left when nothing would be masked any more.

    Args:
        predict: callable `(tokens int32 [R, L], padding_mask bool [R, L], memory) -> logits [R, L, V]`, a model without
            a causal mask. `tokens` hold `mask_id` at what is to be predicted and `pad_id` after the end, where
            `padding_mask` is False. R = B · K; row r belongs to sentence r // K. Logits are finite or -inf (a forbidden
            token).
        lengths: int `[B]`, the number of tokens of each sentence, or `[B, K]`, K candidates of it; clipped to
            `[1, max_length]`.
        max_length: Python integer L >= 1.
        mask_id: Python integer, the id that stands for "unknown"; it is never the answer.
        num_iterations: Python integer T >= 1. Default 10.
        pad_id: Python integer, what fills sequences after their end. Default 0.
        memory: pytree of tensors that `predict` reads, such as the encoder's output.

    Returns:
        Tuple of `sequences` int32 `[B, L]`; `scores` float32 `[B]`, the mean of the tokens' log-probabilities, each
        from the iteration that predicted it; `lengths` int32 `[B]`.

    Numerics:
        Log-probabilities are float32. Equal probabilities are masked from left to right; of equal candidates the first
        wins.

    Raises:
        ValueError: on a bad number or id, or on shapes of `lengths` or logits that do not fit.

    Reference:
        Ghazvininejad et al. 2019, "Mask-Predict: Parallel Decoding of Conditional Masked Language Models", section 3.

    Example:

    >>> import numpy as np
    >>> table = np.log([[0.1, 0.1, 0.7, 0.1], [0.1, 0.5, 0.3, 0.1], [0.6, 0.2, 0.1, 0.1]]).astype("float32")
    >>> def predict(tokens, padding_mask, memory):
    ...     return ops.broadcast_to(ops.convert_to_tensor(table), (2, 3, 4))
    >>> sequences, scores, lengths = mask_predict(predict, [3, 2], max_length=3, mask_id=3)
    >>> print(ops.convert_to_numpy(sequences))
    [[2 1 0]
     [2 1 0]]
    """
    max_length = check_integer("max_length", max_length, minimum=1)
    mask_id, pad_id = (check_integer(*each, minimum=0) for each in (("mask_id", mask_id), ("pad_id", pad_id)))
    num_iterations = check_integer("num_iterations", num_iterations, minimum=1)
    lengths = _check_lengths(lengths)
    num_candidates = lengths.shape[1]
    loop = _start(ops.reshape(lengths, (-1,)), max_length, pad_id, tree.map_structure(ops.convert_to_tensor, memory))
    loop = backend.while_loop(
        lambda loop: ops.any(_num_masked(loop, num_iterations) > 0),
        lambda loop: _advance(predict, loop, mask_id, num_iterations),
        loop,
        maximum_iterations=num_iterations,
    )
    return _best(loop, num_candidates)


def _check_lengths(lengths):
    """int32 `[B, K]`."""
    lengths = ops.convert_to_tensor(lengths)
    shape = tuple(lengths.shape)
    if len(shape) not in (1, 2) or "int" not in str(lengths.dtype) or (len(shape) == 2 and not shape[1]):
        raise ValueError(
            "`lengths` must be integers [B] or [B, K] with K >= 1. "
            f"Received: lengths of shape {shape} and dtype {lengths.dtype}"
        )
    return ops.cast(lengths if len(shape) == 2 else lengths[:, None], "int32")


def _start(lengths, max_length, pad_id, memory):
    lengths = ops.clip(lengths, 1, max_length)
    shape = (ops.shape(lengths)[0], max_length)
    return MaskPredictLoop(
        index=ops.convert_to_tensor(0, dtype="int32"),
        tokens=ops.full(shape, pad_id, dtype="int32"),
        log_probabilities=ops.zeros(shape, dtype="float32"),
        lengths=lengths,
        memory=memory,
    )


def _num_masked(loop, num_iterations):
    """int32 `[R]`, how many positions the next iteration masks; 0 after the last."""
    remaining = ops.maximum(num_iterations - loop.index, 0)
    return ops.floor_divide(loop.lengths * remaining, num_iterations)


def _advance(predict, loop, mask_id, num_iterations):
    positions = ops.arange(loop.tokens.shape[1], dtype="int32")
    is_real = positions < loop.lengths[:, None]
    ranks = _ranks(ops.where(is_real, loop.log_probabilities, 1.0))  # a log-probability is at most 0
    is_masked = ranks < _num_masked(loop, num_iterations)[:, None]
    logits = predict(ops.where(is_masked, mask_id, loop.tokens), is_real, loop.memory)
    tokens, gains = _most_probable(logits, loop.tokens.shape, mask_id)
    return loop._replace(
        index=loop.index + 1,
        tokens=ops.where(is_masked, tokens, loop.tokens),
        log_probabilities=ops.where(is_masked, gains, loop.log_probabilities),
    )


def _ranks(values):
    """int32 `[R, L]`, how many of the row come before each value, equal ones from left to right."""
    positions = ops.arange(values.shape[1], dtype="int32")
    one, other = values[:, :, None], values[:, None, :]
    is_before = ops.logical_and(ops.equal(other, one), positions < positions[:, None])
    return ops.sum(ops.cast(ops.logical_or(other < one, is_before), "int32"), axis=2)


def _most_probable(logits, shape, mask_id):
    """The best token at each position and its log-probability, int32 and float32 `[R, L]`."""
    received = tuple(logits.shape)
    if len(received) != 3 or received[1] != shape[1] or None not in (received[0], shape[0]) and received[0] != shape[0]:
        raise ValueError(
            f"`predict` must return logits of shape [{shape[0]}, {shape[1]}, vocabulary_size]. "
            f"Received: logits of shape {received}"
        )
    size = received[2]
    logits = ops.reshape(ops.cast(logits, "float32"), (-1, size))
    logits = ops.where(ops.equal(ops.arange(size, dtype="int32"), mask_id), -float("inf"), logits)
    gains = log_probabilities(ops.max(logits, axis=-1, keepdims=True), logits)
    tokens = ops.cast(ops.argmax(logits, axis=-1), "int32")
    return tuple(ops.reshape(x, (-1, shape[1])) for x in (tokens, gains))


def _best(loop, num_candidates):
    """The best of the K candidates of each sentence."""
    scores = ops.sum(loop.log_probabilities, axis=1) / ops.cast(loop.lengths, "float32")
    best = ops.cast(ops.argmax(ops.reshape(scores, (-1, num_candidates)), axis=1), "int32")
    rows = ops.arange(ops.shape(best)[0], dtype="int32") * num_candidates + best
    return tuple(ops.take(x, rows, axis=0) for x in (loop.tokens, scores, loop.lengths))
