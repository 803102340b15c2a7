"""LoopCache: a cache as the loop of a search holds it, head by head, with rows that stay where they were written."""

from typing import Any, NamedTuple

import keras
from keras import ops

from keras_tfm import backend
from keras_tfm.ops.kv_cache import KVCache, check_head_sizes, check_room, count_bytes, is_vector, write_positions
from keras_tfm.ops.quantized_cache import QuantizedKVCache

_BY_LEAVES = {len(kind._fields): kind for kind in (KVCache, QuantizedKVCache)}


class LoopCache(NamedTuple):
    """A `KVCache` or a `QuantizedKVCache`, laid out for one query a step.

    The keys of a head lie side by side, as a product of one query wants them: XLA would copy them to that layout at
    each step. A beam search does not move them either: it keeps a table of which row wrote what a hypothesis sees, and
    only that table is put into the order of the hypotheses. Keys are looked up as they are read.

    Args:
        leaves: tuple of the leaves of the cache, `[R, K, S, ...]` in place of `[R, S, K, ...]`.
        origins: int32 `[R, S]`, which row holds what row r sees at each position; `()` where each sees its own.

    Example:

    >>> cache = LoopCache.of(KVCache.create(batch_size=2, length=8, num_key_value_heads=4, key_dim=16)).reorderable()
    >>> heads = ops.reshape(ops.arange(2.0), (2, 1, 1, 1)) * ops.ones((2, 1, 4, 16))
    >>> key, value, cache = cache.update(heads, heads, 0)
    >>> key, value = cache.reorder(ops.convert_to_tensor([1, 1])).read()
    >>> ops.convert_to_numpy(key[:, 0, 0, 0]).tolist()
    [1.0, 1.0]
    """

    leaves: Any
    origins: Any = ()

    @classmethod
    def of(cls, cache):
        """That of a `KVCache` or `QuantizedKVCache`."""
        return cls(tuple(_swapped(leaf) for leaf in cache))

    @property
    def key(self):
        """What the cache has as its keys, `[R, S, K, H]`."""
        return _swapped(self._followed(self.leaves[0]))

    @property
    def value(self):
        """What the cache has as its values, `[R, S, K, Hv]`."""
        return _swapped(self._followed(self.leaves[1]))

    @property
    def length(self):
        """S, how many positions fit."""
        return self.leaves[0].shape[2]

    @property
    def num_bytes(self):
        """How many bytes the leaves have."""
        return count_bytes((*self.leaves, *([] if self._is_in_place else [self.origins])))

    @property
    def _is_in_place(self):
        return isinstance(self.origins, tuple)

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
        """The cache with `key` and `value` of T new positions from position `index` on, as `KVCache.write`."""
        check_room(self.length, key.shape[1], index)
        new = _BY_LEAVES[len(self.leaves)].encode(key, value)
        leaves = tuple(_write(leaf, x, index) for leaf, x in zip(self.leaves, new, strict=True))
        if self._is_in_place:
            return LoopCache(leaves)
        own = ops.broadcast_to(_rows(self.origins), ops.shape(key)[:2])
        return LoopCache(leaves, write_positions(self.origins, own, index))

    def settled(self):
        """The cache as its own kind, in the order of the rows."""
        return _BY_LEAVES[len(self.leaves)](*(_swapped(self._followed(leaf)) for leaf in self.leaves))

    def read(self, dtype=None):
        """Keys `[R, S, K, H]` and values `[R, S, K, Hv]`, as the cache's own kind reads them."""
        return self.settled().read(dtype)

    def update(self, key, value, index, dtype=None):
        """Writes T new positions; returns keys and values that their queries attend to, and the cache."""
        cache = self.write(key, value, index)
        return *cache.read(dtype), cache

    def reorderable(self):
        """The cache with a table of origins, so that reordering moves no keys."""
        rows = _rows(self.leaves[0])
        return LoopCache(self.leaves, ops.broadcast_to(rows, (ops.shape(rows)[0], self.length)))

    def reorder(self, rows):
        """The cache of the rows int `[R]`, in their order; a row may come several times."""
        if self._is_in_place:
            return LoopCache(tuple(ops.take(leaf, rows, axis=0) for leaf in self.leaves))
        return LoopCache(self.leaves, ops.take(self.origins, rows, axis=0))

    def _followed(self, leaf):
        """`leaf [R, K, S, ...]` with what each row sees."""
        if self._is_in_place:
            return leaf
        rows, heads, length, *rest = ops.shape(leaf)
        places = self.origins[:, None, :] * heads + ops.arange(heads, dtype="int32")[:, None]
        places = places * length + ops.arange(length, dtype="int32")
        return ops.take(ops.reshape(leaf, (rows * heads * length, *rest)), places, axis=0)


def in_loop_form(state):
    """The state of a search, with caches in the form that its loop reads fastest.

    Args:
        state: tensors and caches in dicts, tuples, lists and NamedTuples.

    Returns:
        `state` with a `LoopCache` in place of each `KVCache` and `QuantizedKVCache`; on PyTorch as it is.

    Example:

    >>> cache = KVCache.create(batch_size=2, length=8, num_key_value_heads=4, key_dim=16)
    >>> in_loop_form({"layer": (cache, None)})["layer"][0].length
    8
    """
    # PyTorch multiplies heads where they lie, and takes rows faster than it looks up heads (a step of 4 beams: 25
    # against 55 ms).
    if keras.backend.backend() == "torch":
        return state
    if type(state) in _BY_LEAVES.values():
        return LoopCache.of(state)
    if isinstance(state, dict):
        return {key: in_loop_form(value) for key, value in state.items()}
    if isinstance(state, tuple) and hasattr(state, "_fields"):
        return type(state)(*map(in_loop_form, state))
    if isinstance(state, (tuple, list)):
        return type(state)(map(in_loop_form, state))
    return state


def _write(leaf, new, index):
    if is_vector(index):
        return _swapped(write_positions(_swapped(leaf), new, index))
    return backend.write_slice(leaf, ops.cast(_swapped(new), leaf.dtype), 2, index)


def _swapped(leaf):
    return ops.swapaxes(leaf, 1, 2)


def _rows(leaf):
    return ops.arange(ops.shape(leaf)[0], dtype="int32")[:, None]
