"""DecoderCache: the caches of a whole decoder, one value for a decoding loop."""

from typing import Any, NamedTuple

from keras import ops

from keras_tfm.layers.cache_forms import as_cache
from keras_tfm.ops.kv_cache import KVCache


class DecoderCache(NamedTuple):
    """The caches of a `TransformerDecoderStack`. Every leaf is batch-first.

    Args:
        self_attention: tuple of one cache for each block that is passed through.
        cross_attention: tuple of one `KVCache` for each; empty without cross attention.

    Example:

    >>> from keras_tfm.ops import KVCache
    >>> cache = DecoderCache(tuple(KVCache.create(2, 5, num_key_value_heads=3, key_dim=4) for _ in range(6)))
    >>> tuple(cache.to_keras_hub().shape)
    (2, 6, 2, 5, 3, 4)
    >>> cache.grown(8).self_attention[0].length, cache.trim(3).num_bytes
    (8, 3456)
    """

    self_attention: Any
    cross_attention: Any = ()

    @property
    def num_bytes(self):
        """How many bytes all leaves have."""
        return sum(cache.num_bytes for caches in self for cache in map(as_cache, caches))

    def reorder(self, rows):
        """The caches of the rows int `[R]`, in their order; a row may come several times."""
        return DecoderCache(*(tuple(as_cache(cache).reorder(rows) for cache in caches) for caches in self))

    def trim(self, length):
        """The self-attention's caches of the first `length` positions (a Python integer); those of memories stay."""
        return self._replace(self_attention=tuple(as_cache(cache).trim(length) for cache in self.self_attention))

    def grown(self, length):
        """The self-attention's caches with room for `length` positions (a Python integer); those of memories stay."""
        return self._replace(self_attention=tuple(as_cache(cache).grown(length) for cache in self.self_attention))

    def to_keras_hub(self):
        """The self-attention's caches as one tensor `[B, L, 2, S, K, H]`, as `keras_hub`'s causal models have it.

        With cross attention, that tensor and one of the memories, as its sequence-to-sequence models have them.

        Raises:
            ValueError: a cache is no `KVCache`, or keys and values have different sizes.
        """
        stacked = tuple(_stack(caches) for caches in self if caches)
        return stacked if self.cross_attention else stacked[0]

    @classmethod
    def from_keras_hub(cls, self_attention_cache, cross_attention_cache=None):
        """The caches out of tensors `[B, L, 2, S, K, H]`."""
        cross = () if cross_attention_cache is None else _unstack(cross_attention_cache)
        return cls(_unstack(self_attention_cache), cross)


def _stack(caches):
    caches = [as_cache(cache) for cache in caches]
    if any(type(cache) is not KVCache or cache.key.shape[-1] != cache.value.shape[-1] for cache in caches):
        received = sorted({type(cache).__name__ for cache in caches})
        raise ValueError(
            "One tensor can hold full caches only, with keys and values of one size. "
            f"Received: {received}, sizes {[(cache.key.shape[-1], cache.value.shape[-1]) for cache in caches]}"
        )
    return ops.stack([ops.stack(cache, axis=1) for cache in caches], axis=1)


def _unstack(tensor):
    return tuple(KVCache(tensor[:, i, 0], tensor[:, i, 1]) for i in range(tensor.shape[1]))
