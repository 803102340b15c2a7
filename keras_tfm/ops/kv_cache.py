"""KVCache: keys and values of past positions, a plain value that goes in and comes out."""

from typing import Any, NamedTuple

from keras import ops

from keras_tfm import backend


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

    def check_heads(self, num_key_value_heads, key_dim, value_dim):
        """Raises `ValueError` unless the cache holds heads of these sizes."""
        wanted = ((num_key_value_heads, key_dim), (num_key_value_heads, value_dim))
        received = tuple(tuple(heads.shape[2:]) for heads in self)
        if received != wanted:
            raise ValueError(
                f"`cache` must hold keys and values with heads of sizes {wanted}. "
                f"Received: cache.key.shape={tuple(self.key.shape)}, cache.value.shape={tuple(self.value.shape)}"
            )

    def write(self, key, value, index):
        """The cache with `key` and `value` of T new positions from position `index` on (an int or int32 scalar).

        Raises:
            ValueError: the T positions do not fit, as far as `index` and the sizes can be read. (Backends would move
                the write to where it fits.)
        """
        self._check_room(key.shape[1], index)
        start = (0, index, 0, 0)
        return KVCache(
            ops.slice_update(self.key, start, ops.cast(key, self.key.dtype)),
            ops.slice_update(self.value, start, ops.cast(value, self.value.dtype)),
        )

    def _check_room(self, num_tokens, index):
        if not isinstance(num_tokens, int) or not isinstance(self.length, int):
            return
        span = (index,) if isinstance(index, int) else backend.value_range(ops.convert_to_tensor(index))
        first = span[0] if span else 0
        if first < 0 or first + num_tokens > self.length:
            raise ValueError(
                "`cache` is too short for the new tokens. "
                f"Received: cache of length {self.length}, {num_tokens} tokens at cache_update_index={first}"
            )
