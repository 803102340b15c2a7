"""Distributions over what stands in a source: as log-probabilities, and mixed with those of a vocabulary."""

from keras import ops

from keras_tfm.ops.reference_attention import MASKED_LOGIT

# Sums of probabilities below this count as none: their logarithm, or its gradient, could overflow.
SMALLEST_PROBABILITY = 1e-30


def masked_log_softmax(logits, mask=None):
    """Log-probabilities over the last axis, `MASKED_LOGIT` where the mask forbids.

    Args:
        logits: float `[..., S]`.
        mask: bool, broadcastable to `[..., S]`, or `None`. A row without a True gets `MASKED_LOGIT` everywhere.

    Returns:
        float32 `[..., S]`, finite.
    """
    logits = ops.cast(logits, "float32")
    if mask is None:
        return ops.log_softmax(logits, axis=-1)
    logits = ops.log_softmax(ops.where(mask, logits, MASKED_LOGIT), axis=-1)
    return ops.where(mask, logits, MASKED_LOGIT)


def copy_probabilities(probabilities, ids, vocabulary_size):
    """How probable each word is to be copied: the sum over the places where it stands.

    Args:
        probabilities: float `[B, T, S]`.
        ids: int `[B, S]`, the words of the source; those outside `[0, V)` are never copied.
        vocabulary_size: V.

    Returns:
        float `[B, T, V]`.
    """
    batch, length, num_places = ops.shape(probabilities)
    is_word = ops.logical_and(ids >= 0, ids < vocabulary_size)
    probabilities = ops.where(is_word[:, None], probabilities, 0.0)
    places = ops.where(is_word, ids, 0) + ops.arange(batch, dtype=ids.dtype)[:, None] * vocabulary_size
    by_place = ops.reshape(ops.transpose(probabilities, (0, 2, 1)), (batch * num_places, length))
    sums = ops.segment_sum(by_place, ops.reshape(places, (-1,)), batch * vocabulary_size)
    return ops.transpose(ops.reshape(sums, (batch, vocabulary_size, length)), (0, 2, 1))


def mix_log_probabilities(first, second, gate, second_exists=None):
    """`log(σ(g) exp(first) + (1 - σ(g)) second)`.

    Args:
        first: float32 `[B, T, V]`, log-probabilities.
        second: float32 `[B, T, V]`, probabilities.
        gate: float `[B, T, 1]`, the logit of choosing the first.
        second_exists: bool, broadcastable to `[B, T, 1]`; where False, the first is chosen. `None` means everywhere.

    Returns:
        float32 `[B, T, V]`, `MASKED_LOGIT` or near it where both are zero.
    """
    gate = ops.cast(gate, "float32")
    keep, copy = ops.log_sigmoid(gate), ops.log_sigmoid(-gate)
    if second_exists is not None:
        keep, copy = ops.where(second_exists, keep, 0.0), ops.where(second_exists, copy, MASKED_LOGIT)
    is_there = second > SMALLEST_PROBABILITY
    second = ops.where(is_there, ops.log(ops.where(is_there, second, 1.0)), MASKED_LOGIT)
    return _log_add_exp(keep + first, copy + second)


def _log_add_exp(first, second):
    # Keras' `logaddexp` has wrong gradients on TensorFlow where both are equal, as they are where both are masked.
    largest = ops.stop_gradient(ops.maximum(first, second))
    return largest + ops.log(ops.exp(first - largest) + ops.exp(second - largest))
