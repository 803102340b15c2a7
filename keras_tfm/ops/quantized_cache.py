"""QuantizedKVCache: keys and values in eight bits, each head of each token with a scale of its own."""

from typing import Any, NamedTuple

from keras import ops

from keras_tfm.ops.kv_cache import (
    check_head_sizes,
    check_room,
    count_bytes,
    grow_leaf,
    reorder_leaves,
    trim_leaf,
    write_positions,
)

LARGEST = 127


class QuantizedKVCache(NamedTuple):
    """Keys and values as int8, by position, with a float32 scale for each token and head.

    A cache of float32 heads takes 4 · H / (H + 4) times as much memory: 3.6 for H = 32, 3.8 for H = 128.

    Args:
        key: int8 `[B, S, K, H]`; rotary positions, where there are any, are already applied.
        value: int8 `[B, S, K, Hv]`.
        key_scale, value_scale: float32 `[B, S, K]`.

    Numerics:
        What is read differs from what was written by at most 1/254 of the greatest absolute value in the same head of
        the same token, and by the rounding of the dtype that is read. Gradients do not pass.

    Example:

    >>> import keras
    >>> cache = QuantizedKVCache.create(batch_size=1, length=4, num_key_value_heads=2, key_dim=8)
    >>> heads = keras.random.normal((1, 4, 2, 8))
    >>> key, value = cache.write(heads, heads, 0).read("float32")
    >>> bool(keras.ops.max(keras.ops.abs(key - heads)) <= keras.ops.max(keras.ops.abs(heads)) / 253)
    True
    """

    key: Any
    value: Any
    key_scale: Any
    value_scale: Any

    @classmethod
    def create(cls, batch_size, length, num_key_value_heads, key_dim, value_dim=None, dtype=None):
        """An empty cache of `length` positions; `dtype` is there for the sake of the other kinds."""
        value_dim = key_dim if value_dim is None else value_dim
        shape = (batch_size, length, num_key_value_heads)
        return cls(
            ops.zeros((*shape, key_dim), "int8"),
            ops.zeros((*shape, value_dim), "int8"),
            ops.zeros(shape, "float32"),
            ops.zeros(shape, "float32"),
        )

    @staticmethod
    def encode(key, value):
        """What the leaves hold of float `key [B, T, K, H]` and `value [B, T, K, Hv]`."""
        (key, key_scale), (value, value_scale) = quantize(key), quantize(value)
        return key, value, key_scale, value_scale

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
        """The cache with float `key` and `value` of T new positions from position `index` on, as `KVCache.write`."""
        check_room(self.length, key.shape[1], index)
        new = self.encode(key, value)
        return QuantizedKVCache(*(write_positions(leaf, x, index) for leaf, x in zip(self, new, strict=True)))

    def read(self, dtype="float32"):
        """Keys `[B, S, K, H]` and values `[B, S, K, Hv]`, near what was written."""
        pairs = (self.key, self.key_scale), (self.value, self.value_scale)
        return tuple(ops.cast(ops.cast(x, "float32") * scale[..., None], dtype) for x, scale in pairs)

    def update(self, key, value, index, dtype="float32"):
        """Writes T new positions; returns keys and values that their queries attend to, and the cache."""
        cache = self.write(key, value, index)
        return *cache.read(dtype), cache

    def reorder(self, rows):
        """The cache of the rows int `[R]`, in their order; a row may come several times."""
        return reorder_leaves(self, rows)

    def trim(self, length):
        """The cache of the first `length` positions (a Python integer), as `KVCache.trim`."""
        return QuantizedKVCache(*(trim_leaf(leaf, length) for leaf in self))

    def grown(self, length):
        """The cache with room for `length` positions (a Python integer); itself if that fits already."""
        return QuantizedKVCache(*(grow_leaf(leaf, length) for leaf in self))


def quantize(heads):
    """`heads [..., H]` as int8 and their scales float32 `[...]`: the greatest of a head becomes 127."""
    heads = ops.cast(heads, "float32")
    scale = ops.max(ops.abs(heads), axis=-1) / LARGEST
    steps = heads / ops.where(scale == 0, 1.0, scale)[..., None]
    return ops.cast(ops.clip(ops.round(steps), -LARGEST, LARGEST), "int8"), scale
