"""LoopCache: a cache as the loop of a search holds it, head by head, with rows that stay where they were written."""

from typing import Any, NamedTuple

from keras import ops

from keras_tfm import backend
from keras_tfm.ops.beam_attention import look_up
from keras_tfm.ops.kv_cache import KVCache, check_head_sizes, check_room, count_bytes, is_vector, write_positions
from keras_tfm.ops.quantized_cache import QuantizedKVCache

_BY_LEAVES = {len(kind._fields): kind for kind in (KVCache, QuantizedKVCache)}


class LoopCache(NamedTuple):
    """A `KVCache` or a `QuantizedKVCache`, laid out for one query a step.

    The keys of a head lie side by side, as a product of one query wants them: XLA would copy them to that layout at
    each step. A beam search does not move them either: it keeps a table of which row wrote what a hypothesis sees, and
    only that table is put into the order of the hypotheses. `attention` takes the table, see `origins` there.

    Args:
        leaves: tuple of the leaves of the cache, `[R, K, S, ...]` in place of `[R, S, K, ...]`; with origins the keys
            are `[R, K, H, S]`, as a product of several queries wants them.
        origins: int32 `[R / G, G, S]`, which row of a group of G holds what each of them sees at each position; `()`
            where each sees its own.

    Example:

    >>> cache = LoopCache.of(KVCache.create(batch_size=2, length=8, num_key_value_heads=4, key_dim=16)).reorderable(2)
    >>> heads = ops.reshape(ops.arange(2.0), (2, 1, 1, 1)) * ops.ones((2, 1, 4, 16))
    >>> key, value, cache = cache.update(heads, heads, 0)
    >>> cache = cache.reorder(ops.convert_to_tensor([1, 1]))
    >>> ops.convert_to_numpy(cache.key[:, 0, 0, 0]).tolist()
    [1.0, 1.0]
    """

    leaves: Any
    origins: Any = ()

    @classmethod
    def of(cls, cache):
        """That of a `KVCache` or `QuantizedKVCache`."""
        return cls(tuple(map(_swapped, cache)))

    @property
    def key(self):
        """What the cache has as its keys, `[R, S, K, H]`."""
        return self._followed(0)

    @property
    def value(self):
        """What the cache has as its values, `[R, S, K, Hv]`."""
        return self._followed(1)

    @property
    def length(self):
        """S, how many positions fit."""
        return self.leaves[1].shape[2]

    @property
    def num_bytes(self):
        """How many bytes the leaves have."""
        return count_bytes((*self.leaves, *([] if self._is_in_place else [self.origins])))

    @property
    def origins_of_rows(self):
        """`origins`, or `None` where each row sees its own."""
        return None if self._is_in_place else self.origins

    @property
    def _is_in_place(self):
        return isinstance(self.origins, tuple)

    def check_heads(self, num_key_value_heads, key_dim, value_dim, window=None, index=None):
        """Raises `ValueError` unless the cache holds heads of these sizes."""
        check_head_sizes(self._in_rows(), num_key_value_heads, key_dim, value_dim)

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
        leaves = tuple(self._write(place, x, index) for place, x in enumerate(new))
        if self._is_in_place:
            return LoopCache(leaves)
        own = ops.broadcast_to(_members(self.origins), (*ops.shape(self.origins)[:2], key.shape[1]))
        own, origins = (ops.reshape(x, (-1, ops.shape(x)[-1])) for x in (own, self.origins))
        return LoopCache(leaves, ops.reshape(write_positions(origins, own, index), ops.shape(self.origins)))

    def settled(self):
        """The cache as its own kind, in the order of the rows."""
        return _BY_LEAVES[len(self.leaves)](*map(self._followed, range(len(self.leaves))))

    def read(self, dtype=None):
        """Keys `[R, S, K, H]` and values `[R, S, K, Hv]` as the cache's own kind reads them, where they lie.

        Which rows see them say the origins, for `attention`.
        """
        return self._in_rows().read(dtype)

    def update(self, key, value, index, dtype=None):
        """Writes T new positions; returns keys and values as `read` does, and the cache."""
        cache = self.write(key, value, index)
        return *cache.read(dtype), cache

    def reorderable(self, group):
        """The cache with a table of origins, so that reordering moves no keys.

        Args:
            group: G, an int that divides the number of rows: every G rows are beams of one sentence, and see keys of
                each other alone.
        """
        shape = (ops.shape(self.leaves[0])[0] // group, group, self.length)
        key, *others = self.leaves
        origins = ops.broadcast_to(ops.arange(group, dtype="int32")[:, None], shape)
        return LoopCache((ops.swapaxes(key, 2, 3), *others), origins)

    def reorder(self, rows):
        """The cache of the rows int `[R]`, in their order; some may come several times, with origins in their group."""
        if self._is_in_place:
            return LoopCache(tuple(ops.take(leaf, rows, axis=0) for leaf in self.leaves))
        origins = ops.take(ops.reshape(self.origins, (-1, self.length)), rows, axis=0)
        return LoopCache(self.leaves, ops.reshape(origins, ops.shape(self.origins)))

    def _in_rows(self):
        """The cache as its own kind, in the rows that hold what was written."""
        return _BY_LEAVES[len(self.leaves)](*map(self._as_given, range(len(self.leaves))))

    def _followed(self, place):
        """Leaf number `place` as the cache's own kind has it, `[R, S, K, ...]`, with what each row sees."""
        leaf = self._as_given(place)
        return leaf if self._is_in_place else look_up(leaf, self.origins)

    def _as_given(self, place):
        """Leaf number `place`, `[R, S, K, ...]`, in the rows that hold it."""
        leaf = self.leaves[place]
        return _swapped(leaf) if self._is_in_place or place else ops.transpose(leaf, (0, 3, 1, 2))

    def _laid_out(self, place, leaf):
        """`leaf [R, S, K, ...]` as leaf number `place` lies here."""
        return _swapped(leaf) if self._is_in_place or place else ops.transpose(leaf, (0, 2, 3, 1))

    def _write(self, place, new, index):
        leaf = self.leaves[place]
        if is_vector(index):
            return self._laid_out(place, write_positions(self._as_given(place), new, index))
        axis = 2 if self._is_in_place or place else 3
        return backend.write_slice(leaf, ops.cast(self._laid_out(place, new), leaf.dtype), axis, index)


def in_loop_form(state):
    """The state of a search, with caches in the form that its loop reads fastest.

    Args:
        state: tensors and caches in dicts, tuples, lists and NamedTuples.

    Returns:
        `state` with a `LoopCache` in place of each `KVCache` and `QuantizedKVCache`.

    Example:

    >>> cache = KVCache.create(batch_size=2, length=8, num_key_value_heads=4, key_dim=16)
    >>> in_loop_form({"layer": (cache, None)})["layer"][0].length
    8
    """
    if type(state) in _BY_LEAVES.values():
        return LoopCache.of(state)
    if isinstance(state, dict):
        return {key: in_loop_form(value) for key, value in state.items()}
    if isinstance(state, tuple) and hasattr(state, "_fields"):
        return type(state)(*map(in_loop_form, state))
    if isinstance(state, (tuple, list)):
        return type(state)(map(in_loop_form, state))
    return state


def _swapped(leaf):
    return ops.swapaxes(leaf, 1, 2)


def _members(origins):
    return ops.arange(origins.shape[1], dtype="int32")[None, :, None]
