"""KVCache: keys and values of past positions, a plain value that goes in and comes out."""

from typing import Any, NamedTuple

from keras import ops


class KVCache(NamedTuple):
    """Projected keys and values, by position.

    No layer owns a cache: a call takes one and returns the next. Every leaf is batch-first, so `ops.take(leaf, order,
    axis=0)` reorders it.

    Args:
        key: float `[B, S, K, H]`; rotary positions, where there are any, are already applied.
        value: float `[B, S, K, Hv]`.

    Example:

    >>> cache = KVCache.create(batch_size=2, length=8, num_key_value_heads=4, key_dim=16)
    >>> tuple(cache.key.shape)
    (2, 8, 4, 16)
    """

    key: Any
    value: Any

    @classmethod
    def create(cls, batch_size, length, num_key_value_heads, key_dim, value_dim=None, dtype="float32"):
        """An empty cache of `length` positions."""
        value_dim = key_dim if value_dim is None else value_dim
        return cls(
            ops.zeros((batch_size, length, num_key_value_heads, key_dim), dtype),
            ops.zeros((batch_size, length, num_key_value_heads, value_dim), dtype),
        )

    @property
    def length(self):
        """S, how many positions fit."""
        return self.key.shape[1]

    def write(self, key, value, index):
        """The cache with `key` and `value` of T new positions from position `index` on (an int or int32 scalar)."""
        start = (0, index, 0, 0)
        return KVCache(
            ops.slice_update(self.key, start, ops.cast(key, self.key.dtype)),
            ops.slice_update(self.value, start, ops.cast(value, self.value.dtype)),
        )
