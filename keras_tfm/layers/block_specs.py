"""The specification of what a block returns."""

import keras

from keras_tfm.layers.cache_forms import cache_length


def block_spec(x, dtype, scores=(), caches=()):
    """The outputs of a block that is called with `x [B, T, D]`, as `KerasTensor`s.

    Args:
        x: the block's input.
        dtype: of output and scores.
        scores: for each attention whose scores are returned `(N, cache or None, keys [B, S, D] or None)`; one without
            keys is left out.
        caches: those that are returned; `None` is left out.
    """
    results = [keras.KerasTensor(x.shape, dtype=dtype)]
    for num_heads, cache, keys in scores:
        if cache is not None or keys is not None:
            num_keys = keys.shape[1] if cache is None else cache_length(cache, x.shape[1])
            results.append(keras.KerasTensor((x.shape[0], num_heads, x.shape[1], num_keys), dtype=dtype))
    for cache in caches:
        if cache is not None:
            results.append(keras.tree.map_structure(lambda leaf: keras.KerasTensor(leaf.shape, leaf.dtype), cache))
    return results[0] if len(results) == 1 else tuple(results)
