"""The forms in which a cache may come: one of the kinds, their leaves alone, or one tensor of keys and values."""

import keras
from keras import ops

from keras_tfm.ops.kv_cache import KVCache
from keras_tfm.ops.loop_cache import LoopCache
from keras_tfm.ops.quantized_cache import QuantizedKVCache
from keras_tfm.ops.rolling_cache import RollingKVCache

KINDS = {"full": KVCache, "rolling": RollingKVCache, "int8": QuantizedKVCache}
_BY_LEAVES = {len(kind._fields): kind for kind in KINDS.values()}


def is_stacked_cache(cache):
    """Whether `cache` is one tensor `[B, 2, S, K, H]`, keys before values, as `keras_hub` has it."""
    return cache is not None and not isinstance(cache, (tuple, list))


def as_cache(cache):
    """A cache of any form as one of the kinds; `None` stays.

    Models that were loaded from a file give NamedTuples back as plain tuples: their leaves say which kind they were.
    """
    if cache is None or type(cache) in (*KINDS.values(), LoopCache):
        return cache
    if is_stacked_cache(cache):
        return KVCache(cache[:, 0], cache[:, 1])
    if len(cache) not in _BY_LEAVES:
        raise ValueError(
            "`cache` must be a `KVCache`, a `RollingKVCache`, a `QuantizedKVCache` or a tensor [B, 2, S, K, H]. "
            f"Received: a cache of {len(cache)} leaves"
        )
    return _BY_LEAVES[len(cache)](*cache)


def in_form_of(given, cache):
    """`cache` as one tensor if `given` was one."""
    return ops.stack(cache, axis=1) if is_stacked_cache(given) else cache


def known_of_keys(cache, slots):
    """What `attention` may know of the keys of a cache, by slot or by position: whether finite, how and where."""
    known = {"has_finite_keys": cache is not None and slots is None}
    return (
        known | {"has_heads_apart": True, "origins": cache.origins_of_rows} if isinstance(cache, LoopCache) else known
    )


def cache_length(cache, num_tokens=None):
    """How many keys a call with that many new tokens attends to: S, how many positions a cache of any form has."""
    if is_stacked_cache(cache):
        return cache.shape[2]
    is_known = type(cache) in KINDS.values() or len(cache) == len(RollingKVCache._fields)
    return as_cache(cache).num_keys(num_tokens) if is_known else cache[0].shape[1]


def cache_spec(cache):
    """The specification of a cache of any form, as `KerasTensor`s."""
    cache = cache if is_stacked_cache(cache) else as_cache(cache)
    return keras.tree.map_structure(lambda leaf: keras.KerasTensor(leaf.shape, dtype=leaf.dtype), cache)


def make_cache(layer, batch_size, length, kind=None):
    """An empty cache for a `MultiHeadAttention`, in its compute dtype.

    Args:
        layer: the layer.
        batch_size: B, an int or int32 scalar.
        length: how many positions are going to be written.
        kind: `None` or `"full"`, a `KVCache`; `"rolling"`, a `RollingKVCache` of the layer's sliding window, a full one
            where `length` is no more than that; `"int8"`, a `QuantizedKVCache`.

    Raises:
        ValueError: another kind, or a rolling cache for a layer without sliding window.
    """
    kind = "full" if kind is None else kind
    if kind not in KINDS:
        raise ValueError(f"`kind` must be one of {list(KINDS)}. Received: kind={kind!r}")
    window = layer.sliding_window
    if kind == "rolling" and window is None:
        raise ValueError("A rolling cache needs a layer with `sliding_window`. Received: sliding_window=None")
    if kind == "rolling":
        kind, length = ("rolling", window) if window < length else ("full", length)
    heads = layer.num_key_value_heads, layer.key_dim, layer.value_dim
    return KINDS[kind].create(batch_size, length, *heads, dtype=layer.compute_dtype)
