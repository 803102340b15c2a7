"""The two forms in which a cache may come: a `KVCache`, or one tensor of keys and values."""


def is_stacked_cache(cache):
    """Whether `cache` is one tensor `[B, 2, S, K, H]`, keys before values, as `keras_hub` has it."""
    return cache is not None and not isinstance(cache, (tuple, list))


def cache_length(cache):
    """S, how many positions a cache of either form has."""
    return cache.shape[2] if is_stacked_cache(cache) else cache[0].shape[1]
