"""Checks that a mask is what its argument says, before any tensor maths, and puts padding masks together."""

import keras
from keras import ops


def check_attention_mask(mask, inputs_rank, num_axes, query_shape, key_length):
    """Refuses what is not a boolean mask over pairs, naming the argument that was meant.

    Args:
        mask: what came as `attention_mask`; `None` passes.
        inputs_rank: rank of the query.
        num_axes: how many axes are attended over.
        query_shape: shape of the query.
        key_length: S.
    """
    if mask is None:
        return
    dtype = keras.backend.standardize_dtype(mask.dtype)
    if "float" in dtype:
        raise ValueError(
            "`attention_mask` must be boolean, True where a query may attend to a key; what is added to the logits "
            f"goes to `attention_bias`. Received: attention_mask.dtype={dtype}"
        )
    rank, shape = len(mask.shape), tuple(mask.shape)
    if rank not in (2 * num_axes + 1, inputs_rank - 1 + num_axes, inputs_rank + num_axes):
        raise ValueError(
            "`attention_mask` must be [B, T, S] or [B, N, T, S]; a mask [B, S] of real tokens goes to `padding_mask`, "
            f"and a mask [T, S] for the whole batch needs a first axis of 1. Received: attention_mask.shape={shape}"
        )
    if inputs_rank == 3:
        _check_sizes("attention_mask", shape[-2:], (query_shape[1], key_length), "(T, S)")
        _check_sizes("attention_mask", shape[:1], query_shape[:1], "B")


def as_padding_mask(argument, mask, like):
    """`mask` as a boolean `[B, T]` that fits `like [B, T, ...]`, or a `ValueError` that names `argument`."""
    if mask is None:
        return None
    dtype = keras.backend.standardize_dtype(mask.dtype)
    if "float" in dtype:
        raise ValueError(f"`{argument}` must be boolean, True at real tokens. Received: {argument}.dtype={dtype}")
    if not 2 <= len(mask.shape) <= len(like.shape) - 1:
        raise ValueError(
            f"`{argument}` must be [B, T], one value a token; pairs go to `attention_mask`. "
            f"Received: {argument}.shape={tuple(mask.shape)}"
        )
    _check_sizes(argument, mask.shape[1:2], like.shape[1:2], "the length")
    return mask if dtype == "bool" else ops.cast(mask, "bool")


def padding_in_cache(masks, keys, value, index):
    """Padding masks of the new tokens or of the whole cache, as one mask of the cache.

    Args:
        masks: list of bool `[B, S]` (the whole cache), `[B, T]` (the new tokens) or `None`.
        keys: the cached keys `[B, S, K, H]`.
        value: the new tokens `[B, T, D]`.
        index: where the new tokens stand, or `None` if the cache is static.

    Returns:
        bool `[B, S]` or `None`.
    """
    whole = [
        as_padding_mask("padding_mask", mask, keys)
        for mask in masks
        if mask is not None and mask.shape[1] == keys.shape[1]
    ]
    new = [mask for mask in masks if mask is not None and mask.shape[1] != keys.shape[1]]
    new = all_of(as_padding_mask("padding_mask", mask, value) for mask in new)
    if new is None:
        return all_of(whole)
    if index is None:
        raise ValueError(
            "With a static cache `padding_mask` must have the length of the cache. "
            f"Received: padding_mask.shape={tuple(new.shape)}, cache length {keys.shape[1]}"
        )
    everywhere = ops.ones((ops.shape(keys)[0], ops.shape(keys)[1]), "bool")
    return all_of([*whole, ops.slice_update(everywhere, (0, index), new)])


def all_of(masks):
    """Where all masks are True; the same mask given twice counts once, and none at all is `None`."""
    result, seen = None, []
    for mask in masks:
        if mask is None or any(mask is other for other in seen):
            continue
        seen.append(mask)
        result = mask if result is None else ops.logical_and(result, mask)
    return result


def segment_pair(segment_ids, key_segment_ids):
    """The segments of queries and keys, `None` if there are none; keys have the queries' unless they are given."""
    if segment_ids is None and key_segment_ids is not None:
        raise ValueError("`key_segment_ids` needs `segment_ids`. Received: segment_ids=None")
    if segment_ids is None:
        return None
    return segment_ids, segment_ids if key_segment_ids is None else key_segment_ids


def _check_sizes(argument, received, wanted, letters):
    for size, expected in zip(received, wanted, strict=False):
        if isinstance(size, int) and isinstance(expected, int) and size not in (1, expected):
            raise ValueError(
                f"`{argument}` does not fit: {letters} must be {tuple(wanted)}. Received: {tuple(received)}"
            )
