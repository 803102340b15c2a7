"""What attention to several memories asks of them, and of their masks."""

from keras import ops

from keras_tfm.layers.attention_masks import all_of, as_padding_mask
from keras_tfm.layers.sublayer_calls import attend


def check_number(argument, values, number):
    """Raises `ValueError` unless `values` is a list of as many as there are memories."""
    if not isinstance(values, (list, tuple)) or len(values) != number:
        received = len(values) if isinstance(values, (list, tuple)) else type(values).__name__
        raise ValueError(f"`{argument}` must be a list with one for each of {number} memories. Received: {received}")


def memory_paddings(memories, *groups):
    """The padding masks of each memory as one.

    Args:
        memories: a list of `[B, S, D]`, or of caches of `[B, S, K, H]`.
        *groups: lists of a bool `[B, S]` or `None` for each memory, or `None`.

    Returns:
        A list of bool `[B, S]` or `None`.
    """
    groups = [masks for masks in groups if masks is not None]
    for masks in groups:
        check_number("padding_masks", masks, len(memories))
    memories = [memory[0] if isinstance(memory, tuple) else memory for memory in memories]
    return [
        all_of(as_padding_mask("padding_masks", masks[i], memory) for masks in groups)
        for i, memory in enumerate(memories)
    ]


def attend_memory(layer, query, memory, query_mask, padding, training, return_scores):
    """`(output, scores or None)` of a `MultiHeadAttention` to a memory or to its `KVCache`."""
    is_cache = isinstance(memory, tuple)
    output, scores, _ = attend(
        layer,
        query,
        None if is_cache else memory,
        cache=memory if is_cache else None,
        query_mask=query_mask,
        padding_mask=padding,
        training=training,
        return_attention_scores=return_scores,
    )
    return output, scores


def live_contexts(paddings, batch, length):
    """bool `[B · T, M]`: which of M memories have anything real; `None` if no mask says.

    Args:
        paddings: for each memory bool `[B, S]` or `None`.
        batch, length: B and T, ints or int32 scalars.
    """
    if all(padding is None for padding in paddings):
        return None
    live = [ops.ones((batch, length), "bool") if x is None else ops.any(x, axis=1, keepdims=True) for x in paddings]
    live = ops.stack([ops.broadcast_to(x, (batch, length)) for x in live], axis=-1)
    return ops.reshape(live, (batch * length, len(paddings)))
