"""KVCache: keys and values of past positions, a plain value that goes in and comes out."""

import math
import re
from typing import Any, NamedTuple

import keras
from keras import ops

from keras_tfm import backend


def is_vector(index):
    """Whether `index` is one position for each row, `[B]`, and not one for all."""
    return len(getattr(index, "shape", ())) == 1


def count_from(index, length):
    """int32 positions `index`, `index + 1`, ...: `[T]`, or `[B, T]` if `index` is `[B]`."""
    index, steps = ops.cast(index, "int32"), ops.arange(length, dtype="int32")
    return (index[:, None] if is_vector(index) else index) + steps


def write_positions(leaf, new, index):
    """`leaf [B, S, ...]` with `new [B, T, ...]` at positions from `index` on: an int, int32 scalar or int32 `[B]`.

    A row of its own place drops what does not fit.
    """
    new = ops.cast(new, leaf.dtype)
    if not is_vector(index):
        return backend.write_slice(leaf, new, 1, index)
    return backend.write_rows(leaf, new, index)


def place_rows(leaf, new, sources):
    """`leaf [B, S, ...]` with `new[b, sources[b, s]]` where int32 `sources [B or 1, S]` is in `[0, T)`."""
    num_tokens = ops.shape(new)[1]
    trailing = (1,) * (len(leaf.shape) - 2)
    rows = ops.shape(leaf)[0]
    sources = ops.broadcast_to(sources, (rows, ops.shape(leaf)[1]))
    is_new = ops.logical_and(sources >= 0, sources < num_tokens)
    is_new = ops.reshape(is_new, (*ops.shape(sources), *trailing))
    if new.shape[1] != 1:  # one token is broadcast
        sources = ops.clip(sources, 0, num_tokens - 1)
        new = ops.take_along_axis(new, ops.reshape(sources, (*ops.shape(sources), *trailing)), axis=1)
    return ops.where(is_new, new, leaf)


def reorder_leaves(cache, rows):
    """The cache of the rows int `[R]`, in their order; a row may come several times."""
    return type(cache)(*(ops.take(leaf, rows, axis=0) for leaf in cache))


def count_bytes(cache):
    """How many bytes all leaves have, as far as their shapes are known."""
    return sum(math.prod(leaf.shape) * _itemsize(leaf.dtype) for leaf in cache)


def _itemsize(dtype):
    return int(re.search(r"\d+", keras.backend.standardize_dtype(dtype)).group()) // 8


def as_dtype(heads, dtype):
    """`heads`, cast only if they have another dtype."""
    return heads if dtype is None or keras.backend.standardize_dtype(heads.dtype) == dtype else ops.cast(heads, dtype)


def check_head_sizes(cache, num_key_value_heads, key_dim, value_dim):
    """Raises `ValueError` unless `cache.key` and `cache.value` hold heads of these sizes."""
    wanted = ((num_key_value_heads, key_dim), (num_key_value_heads, value_dim))
    received = tuple(tuple(heads.shape[2:]) for heads in (cache.key, cache.value))
    if received != wanted:
        raise ValueError(
            f"`cache` must hold keys and values with heads of sizes {wanted}. "
            f"Received: cache.key.shape={tuple(cache.key.shape)}, cache.value.shape={tuple(cache.value.shape)}"
        )


def check_room(length, num_tokens, index):
    """Raises `ValueError` if `num_tokens` from `index` on do not fit `length`, as far as the numbers can be read."""
    if not isinstance(num_tokens, int) or not isinstance(length, int):
        return
    span = (index, index) if isinstance(index, int) else backend.value_range(ops.convert_to_tensor(index))
    first, last = span if span else (0, 0)
    if first < 0 or last + num_tokens > length:
        wrong = first if first < 0 else last
        raise ValueError(
            "`cache` is too short for the new tokens. "
            f"Received: cache of length {length}, {num_tokens} tokens at cache_update_index={wrong}"
        )


def trim_leaf(leaf, length):
    """The first `length` positions of `leaf [B, S, ...]`."""
    return leaf[:, :length]


def grow_leaf(leaf, length):
    """`leaf [B, S, ...]` with zeros behind, up to `length` positions."""
    return ops.pad(leaf, [(0, 0), (0, max(0, length - leaf.shape[1]))] + [(0, 0)] * (len(leaf.shape) - 2))


class KVCache(NamedTuple):
    """Projected keys and values, by position.

    No layer owns a cache: a call takes one and returns the next. Every leaf is batch-first. All kinds of caches have
    the methods of this one: `RollingKVCache` for sliding windows, `QuantizedKVCache` for a quarter of the memory.

    Args:
        key: float `[B, S, K, H]`; rotary positions, where there are any, are already applied.
        value: float `[B, S, K, Hv]`.

    Example:

    >>> cache = KVCache.create(batch_size=2, length=8, num_key_value_heads=4, key_dim=16)
    >>> tuple(cache.key.shape), cache.num_bytes
    ((2, 8, 4, 16), 8192)
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

    @staticmethod
    def encode(key, value):
        """What the leaves hold of float `key [B, T, K, H]` and `value [B, T, K, Hv]`."""
        return key, value

    @property
    def length(self):
        """S, how many positions fit."""
        return self.key.shape[1]

    @property
    def num_bytes(self):
        """How many bytes the leaves have."""
        return count_bytes(self)

    def check_heads(self, num_key_value_heads, key_dim, value_dim, window=None, index=None):
        """Raises `ValueError` unless the cache holds heads of these sizes."""
        check_head_sizes(self, num_key_value_heads, key_dim, value_dim)

    def num_keys(self, num_tokens):
        """How many keys a call with that many new tokens attends to: S."""
        return self.length

    def key_positions(self, index, num_tokens):
        """Where the keys stand that such a call attends to: `None`, for 0 to S - 1."""
        return None

    def write(self, key, value, index):
        """The cache with `key` and `value` of T new positions from position `index` on.

        Args:
            key, value: float `[B, T, K, H]` and `[B, T, K, Hv]`.
            index: an int or int32 scalar; or int32 `[B]`, for rows that stand at different places.

        Raises:
            ValueError: the T positions do not fit, as far as `index` and the sizes can be read. (Where they cannot,
                backends would move the write of a scalar to where it fits; rows of their own place drop the rest.)
        """
        check_room(self.length, key.shape[1], index)
        return KVCache(write_positions(self.key, key, index), write_positions(self.value, value, index))

    def read(self, dtype=None):
        """Keys `[B, S, K, H]` and values `[B, S, K, Hv]`; `dtype=None` leaves them in their own."""
        return as_dtype(self.key, dtype), as_dtype(self.value, dtype)

    def update(self, key, value, index, dtype=None):
        """Writes T new positions; returns keys and values that their queries attend to, and the cache."""
        cache = self.write(key, value, index)
        return *cache.read(dtype), cache

    def reorder(self, rows):
        """The cache of the rows int `[R]`, in their order; a row may come several times."""
        return reorder_leaves(self, rows)

    def trim(self, length):
        """The cache of the first `length` positions (a Python integer), for a continuation after `grown`.

        To go on from an earlier position in the same memory, write there: causal queries see nothing later.
        """
        return KVCache(*(trim_leaf(leaf, length) for leaf in self))

    def grown(self, length):
        """The cache with room for `length` positions (a Python integer); itself if that fits already."""
        return KVCache(*(grow_leaf(leaf, length) for leaf in self))
