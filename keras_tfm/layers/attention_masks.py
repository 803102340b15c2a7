"""Checks that a mask is what its argument says, before any tensor maths, and puts padding masks together."""

import keras
from keras import ops

from keras_tfm import backend
from keras_tfm.layers.token_positions import at_slots
from keras_tfm.ops.kv_cache import count_from, is_vector, write_positions


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


def check_attention_bias(bias, query_shape, key_length):
    """Refuses a bias on the logits that does not fit them; `None` passes."""
    if bias is not None and len(query_shape) == 3:
        _check_sizes("attention_bias", tuple(bias.shape)[-2:], (query_shape[1], key_length), "(T, S)")


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
    _check_sizes(argument, mask.shape[:2], like.shape[:2], "[B, T]", broadcasts=1)
    return mask if dtype == "bool" else ops.cast(mask, "bool")


def key_padding(masks, value, cache, index, is_causal, slots=None):
    """The padding masks of the keys as one, or `None`.

    Args:
        masks: list of `(argument, mask)`; masks are bool `[B, S]`, with a cache also `[B, T]` (the new tokens), or
            `None`. With `slots` they are those of the whole sequence; what lies beyond them is real.
        value: what is attended to `[B, S, D]`, or with a cache the new tokens `[B, T, D]`.
        cache: a cache of any kind or `None`.
        index: where the new tokens stand in the cache: an int, int32 scalar or int32 `[B]`; `None` if it is static.
        is_causal: whether a query sees no later position, so that what is not written yet needs no mask.
        slots: int32 `[B, S]`, which place of the sequence each key has, -1 for none; `None` where they go by index.
    """
    if cache is None:
        return all_of(as_padding_mask(argument, mask, value) for argument, mask in masks)
    keys = cache.key
    if index is None:
        return all_of(as_padding_mask(argument, mask, keys) for argument, mask in masks)
    if slots is not None:
        return _padding_at_slots(masks, value, slots, index)
    padding = _padding_in_cache(masks, keys, value, index)
    if is_causal:
        return padding
    end = ops.reshape(ops.cast(index, "int32"), (-1, 1)) + ops.shape(value)[1]
    return all_of([padding, ops.arange(ops.shape(keys)[1], dtype="int32") < end])


def _padding_in_cache(masks, keys, value, index):
    """Masks of the new tokens `[B, T]` and of the whole cache `[B, S]`, as one `[B, S]`."""
    is_whole = [mask is None or mask.shape[1] == keys.shape[1] for _, mask in masks]
    pairs = list(zip(masks, is_whole, strict=True))
    whole = all_of(as_padding_mask(argument, mask, keys) for (argument, mask), fits in pairs if fits)
    new = all_of(as_padding_mask(argument, mask, value) for (argument, mask), fits in pairs if not fits)
    if new is None:
        return whole
    everywhere = ops.ones((ops.shape(keys)[0], ops.shape(keys)[1]), "bool")
    return all_of([whole, write_positions(everywhere, ops.broadcast_to(new, ops.shape(value)[:2]), index)])


def _padding_at_slots(masks, value, slots, index):
    """Masks of the new tokens `[B, T]` and of the whole sequence `[B, S']`, at `slots [B, S]`; False at empty ones."""
    start = ops.reshape(ops.cast(index, "int32"), (-1, 1))
    padding = slots >= 0
    for argument, mask in masks:
        if mask is None:
            continue
        is_new = mask.shape[1] == value.shape[1]
        places = slots - start if is_new else slots
        mask = as_padding_mask(argument, mask, value if is_new else mask[..., None])
        outside = ops.logical_or(places < 0, places >= ops.shape(mask)[1])
        padding = all_of([padding, ops.logical_or(outside, at_slots(mask, places))])
    return padding


def tokens_at(mask, index, num_tokens):
    """`mask [B, M]` from position `index` (an int, int32 scalar or int32 `[B]`) on, `[B, T]`."""
    if is_vector(index):
        return at_slots(mask, count_from(index, num_tokens))
    # A cache that is too short says so by itself; TensorFlow would complain of the mask before.
    return ops.take(mask, ops.minimum(count_from(index, num_tokens), ops.shape(mask)[1] - 1), axis=1)


def without_padding(x, padding):
    """`x [B, T, ...]` with zeros where `padding [B, T]` is False: what is there must not reach gradients, even NaN."""
    if padding is None:
        return x
    for _ in range(len(x.shape) - len(padding.shape)):
        padding = ops.expand_dims(padding, -1)
    return backend.zeroed(x, padding)


def new_tokens_without_padding(key, value, padding, cache, index, slots):
    """Key and value with zeros at padding before they are projected; in a cache nothing has to be zeroed later on.

    Args:
        key, value: `[B, T, D]`, the new tokens; not read with a static cache.
        padding: bool `[B, S]`, what `key_padding` returned.
        cache, index, slots: as `key_padding` has them.
    """
    if padding is None or (cache is not None and index is None):
        return key, value
    if slots is not None:  # new tokens stand where their positions say; what no slot holds is not attended to
        return key, value
    new = padding if cache is None else tokens_at(padding, index, ops.shape(value)[1])
    real = without_padding(value, new)
    return real if key is value else without_padding(key, new), real


def all_of(masks):
    """Where all masks are True; the same mask given twice counts once, and none at all is `None`."""
    result, seen = None, []
    for mask in masks:
        if mask is None or any(mask is other for other in seen):
            continue
        seen.append(mask)
        result = mask if result is None else ops.logical_and(result, mask)
    return result


def segment_pair(segment_ids, key_segment_ids, query, keys):
    """The segments of queries and keys, `None` if there are none; keys have the queries' unless they are given.

    Args:
        segment_ids: int `[B, T]` or `None`.
        key_segment_ids: int `[B, S]` or `None`.
        query: `[B, T, ...]`.
        keys: `[B, S, ...]`.
    """
    if segment_ids is None and key_segment_ids is not None:
        raise ValueError("`key_segment_ids` needs `segment_ids`. Received: segment_ids=None")
    if segment_ids is None:
        return None
    _check_sizes("segment_ids", segment_ids.shape[:2], query.shape[:2], "[B, T]", broadcasts=1)
    if key_segment_ids is None and segment_ids.shape[1] != keys.shape[1]:
        raise ValueError(
            "`key_segment_ids` [B, S] is needed where keys are not the queries: in cross attention and with a cache. "
            f"Received: segment_ids.shape={tuple(segment_ids.shape)}, {keys.shape[1]} keys"
        )
    if key_segment_ids is None:
        return segment_ids, segment_ids
    _check_sizes("key_segment_ids", key_segment_ids.shape[:2], keys.shape[:2], "[B, S]", broadcasts=1)
    return segment_ids, key_segment_ids


def _check_sizes(argument, received, wanted, letters, broadcasts=2):
    """Compares sizes that are known; a size of 1 fits on the first `broadcasts` axes."""
    for axis, (size, expected) in enumerate(zip(received, wanted, strict=False)):
        fits = size == expected or (size == 1 and axis < broadcasts)
        if isinstance(size, int) and isinstance(expected, int) and not fits:
            raise ValueError(
                f"`{argument}` does not fit: {letters} must be {tuple(wanted)}. Received: {tuple(received)}"
            )
