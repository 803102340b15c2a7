"""RollingKVCache: the last keys and values only, for layers with a sliding window."""

from typing import Any, NamedTuple

from keras import ops

from keras_tfm.ops.kv_cache import (
    as_dtype,
    check_head_sizes,
    count_bytes,
    count_from,
    is_vector,
    place_rows,
    reorder_leaves,
    write_positions,
)

EMPTY = -1  # the position of a slot that holds nothing


class RollingKVCache(NamedTuple):
    """Keys and values of the last S positions, in a ring: position p is in slot p modulo S.

    Memory is O(window), whatever the length of the sequence, and any number of tokens can be written. A layer with a
    window of W needs S >= W; then it gives what it gives with a `KVCache`. With S = W + n slots decoding can also go
    back by up to n tokens, as speculative decoding does: simply write at the earlier position.

    Args:
        key: float `[B, S, K, H]`; rotary positions, where there are any, are already applied.
        value: float `[B, S, K, Hv]`.
        positions: int32 `[B, S]`, which position each slot holds; -1 for none.

    Reference:
        Jiang et al. 2023, "Mistral 7B", section 2 (rolling buffer cache).

    Example:

    >>> import keras
    >>> cache = RollingKVCache.create(batch_size=1, length=3, num_key_value_heads=1, key_dim=2)
    >>> heads = keras.ops.ones((1, 5, 1, 2))
    >>> keras.ops.convert_to_numpy(cache.write(heads, heads, 0).positions).tolist()
    [[3, 4, 2]]
    """

    key: Any
    value: Any
    positions: Any

    @classmethod
    def create(cls, batch_size, length, num_key_value_heads, key_dim, value_dim=None, dtype="float32"):
        """An empty cache of `length` slots."""
        value_dim = key_dim if value_dim is None else value_dim
        return cls(
            ops.zeros((batch_size, length, num_key_value_heads, key_dim), dtype),
            ops.zeros((batch_size, length, num_key_value_heads, value_dim), dtype),
            ops.full((batch_size, length), EMPTY, dtype="int32"),
        )

    @property
    def length(self):
        """S, how many slots there are."""
        return self.key.shape[1]

    @property
    def num_bytes(self):
        """How many bytes the leaves have."""
        return count_bytes(self)

    def check_heads(self, num_key_value_heads, key_dim, value_dim, window=None, index=None):
        """Raises `ValueError` unless the cache holds heads of these sizes, and all that `window` lets a query see."""
        check_head_sizes(self, num_key_value_heads, key_dim, value_dim)
        if window is None or window > self.length:
            raise ValueError(
                "A `RollingKVCache` needs a layer with a `sliding_window` of at most its length. "
                f"Received: sliding_window={window}, cache of length {self.length}"
            )
        if index is None:
            raise ValueError("A `RollingKVCache` needs `cache_update_index`. Received: cache_update_index=None")

    def num_keys(self, num_tokens):
        """How many keys a call with that many new tokens attends to: S, or S + T where T > 1."""
        if num_tokens == 1:
            return self.length
        return None if num_tokens is None or self.length is None else self.length + num_tokens

    def key_positions(self, index, num_tokens):
        """int32 `[B, S or S + T]`, where the keys stand that such a call attends to; -1 for empty slots."""
        index = ops.cast(index, "int32")
        column = index[:, None] if is_vector(index) else index
        past = ops.where(self.positions < column, self.positions, EMPTY)  # what was written later is taken back
        if isinstance(num_tokens, int) and num_tokens == 1:
            slots = ops.arange(ops.shape(past)[1], dtype="int32")
            return ops.where(slots == column % ops.shape(past)[1], column, past)
        new = ops.broadcast_to(count_from(index, num_tokens), (ops.shape(past)[0], num_tokens))
        return ops.concatenate([past, new], axis=1)

    def write(self, key, value, index):
        """The cache with `key` and `value` of T new positions from position `index` on; of many, the last S stay.

        Args:
            key, value: float `[B, T, K, H]` and `[B, T, K, Hv]`.
            index: an int or int32 scalar; or int32 `[B]`, for rows that stand at different places.
        """
        rows, num_tokens = ops.shape(key)[0], ops.shape(key)[1]
        index = ops.cast(index, "int32")
        new = key, value, ops.broadcast_to(count_from(index, num_tokens), (rows, num_tokens))
        if isinstance(num_tokens, int) and num_tokens == 1:
            slot = index % ops.shape(self.key)[1]
            return RollingKVCache(*(write_positions(leaf, x, slot) for leaf, x in zip(self, new, strict=True)))
        sources = self._sources(index, num_tokens)
        return RollingKVCache(
            *(place_rows(leaf, ops.cast(x, leaf.dtype), sources) for leaf, x in zip(self, new, strict=True))
        )

    def _sources(self, index, num_tokens):
        """int32 `[B or 1, S]`: which of the new tokens goes into each slot; negative where none does."""
        last = index + num_tokens - 1
        last = last[:, None] if is_vector(last) else ops.reshape(last, (1, 1))
        slots = ops.arange(ops.shape(self.key)[1], dtype="int32")
        return num_tokens - 1 - (last - slots) % ops.shape(self.key)[1]

    def read(self, dtype=None):
        """Keys `[B, S, K, H]` and values `[B, S, K, Hv]`, by slot; `dtype=None` leaves them in their own."""
        return as_dtype(self.key, dtype), as_dtype(self.value, dtype)

    def update(self, key, value, index, dtype=None):
        """Writes T new positions; returns keys and values that their queries attend to, and the cache.

        Several new tokens may take the slots of keys that the first of them still sees. So they attend to what was
        there before and to themselves.
        """
        cache = self.write(key, value, index)
        if key.shape[1] == 1:
            return *cache.read(dtype), cache
        heads = zip(self.read(dtype), (key, value), strict=True)
        return *(ops.concatenate([past, ops.cast(new, past.dtype)], axis=1) for past, new in heads), cache

    def reorder(self, rows):
        """The cache of the rows int `[R]`, in their order; a row may come several times."""
        return reorder_leaves(self, rows)

    def trim(self, length):
        """The cache without what stands at position `length` or later (an int, int32 scalar or int32 `[B]`).

        What those tokens displaced does not come back.
        """
        length = ops.cast(length, "int32")
        length = length[:, None] if is_vector(length) else length
        return self._replace(positions=ops.where(self.positions < length, self.positions, EMPTY))

    def grown(self, length):
        """The cache itself: it has room for any number of positions."""
        return self
