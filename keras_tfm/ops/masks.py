"""AttentionMask: the ingredients of a mask, put together only when a kernel needs them."""

import dataclasses
from typing import Any

from keras import ops


@dataclasses.dataclass(frozen=True)
class AttentionMask:
    """What each query may attend to. True means "may attend".

    Every ingredient given must allow a pair; none given allows all. `a & b` allows what both allow, `a | b` what one
    of them does. Causality, windows and patterns go by positions: those given, or else the indices of the keys, with
    the first query at `query_offset`.

    Args:
        is_causal: a query at position `p` sees keys at positions up to `p`.
        window: a query at position `p` sees keys nearer than `window` positions; `None` for no limit.
        key_padding: bool `[B, S]`, True at real keys.
        query_padding: bool `[B, T]`, True at real queries. A padded query attends to nothing.
        segments: `(int [B, T], int [B, S])`: queries see keys of their own segment.
        explicit: bool, broadcastable to `[B, N, T, S]`.
        query_offset: position of the first query among the keys: an int or an int32 scalar.
        prefix_length: int, or int `[B]`: with `is_causal`, keys at positions below it are seen by all queries.
        pattern: a `MaskPattern` of positions.
        query_positions: int `[T]` or `[B, T]`; take the place of `query_offset`.
        key_positions: int `[S]` or `[B, S]`.
        all_of, any_of: tuples of masks, what `&` and `|` make.
        has_finite_padding: whether keys and values are known to be finite at `key_padding`, so that none are zeroed.

    Example:

    >>> import keras
    >>> mask = AttentionMask(is_causal=True, query_offset=2)
    >>> keras.ops.convert_to_numpy(mask.materialize(2, 4)).astype(int).tolist()
    [[[[1, 1, 1, 0], [1, 1, 1, 1]]]]
    >>> first = keras.ops.convert_to_tensor([[True, False, False]])
    >>> either = AttentionMask(window=1) | AttentionMask(key_padding=first)
    >>> keras.ops.convert_to_numpy(either.materialize(3, 3)).astype(int).tolist()
    [[[[1, 0, 0], [1, 1, 0], [1, 0, 1]]]]
    """

    is_causal: bool = False
    window: int | None = None
    key_padding: Any = None
    query_padding: Any = None
    segments: tuple | None = None
    explicit: Any = None
    query_offset: Any = 0
    prefix_length: Any = None
    pattern: Any = None
    query_positions: Any = None
    key_positions: Any = None
    all_of: tuple = ()
    any_of: tuple = ()
    has_finite_padding: bool = False

    def __and__(self, other):
        return AttentionMask(all_of=(self, other))

    def __or__(self, other):
        return AttentionMask(any_of=(self, other))

    def materialize(self, query_length, key_length, open_empty_rows=False):
        """Puts the ingredients together.

        Args:
            query_length: T, an int or int32 scalar.
            key_length: S, an int or int32 scalar.
            open_empty_rows: let rows that may attend to nothing attend to everything, for kernels that divide by the
                sum of a row.

        Returns:
            bool, broadcastable to `[B, N, T, S]`, or `None` when everything is allowed. Query padding is left out: it
            concerns rows, see `live_rows`.
        """
        mask = conjunction(self._parts(query_length, key_length))
        if mask is None or not open_empty_rows or not self.can_empty_a_row:
            return mask
        return ops.logical_or(mask, ops.logical_not(ops.any(mask, axis=-1, keepdims=True)))

    def live_rows(self, query_length, key_length):
        """bool, broadcastable to `[B, N, T]`, False at queries with nothing to attend to; `None` if there are none."""
        rows = None
        if self.can_empty_a_row:
            mask = (
                self.key_padding[:, None, None, :]
                if self.is_only("key_padding", "query_padding")
                else self.materialize(query_length, key_length)
            )
            rows = None if mask is None else ops.any(mask, axis=-1)
        return rows if self.query_padding is None else conjunction([rows, self.query_padding[:, None, :]])

    def live_keys(self, query_length, key_length):
        """bool `[B or 1, S]`, False at keys that no query may attend to; `None` where all may be seen, or read."""
        if self.is_only("is_causal", "window", "key_padding", "query_padding", "prefix_length"):
            return None if self.has_finite_padding else self.key_padding
        if self._is_of_itself and self.is_only("is_causal", "window", "prefix_length", "segments"):
            return None
        mask = self._with_rows(query_length, key_length)
        return None if mask is None else ops.any(mask, axis=(1, 2))

    def is_only(self, *names):
        """Whether no ingredient but the named ones is given; positions count as the ingredients that read them."""
        ingredients = dict(
            is_causal=self.is_causal or None,
            window=self.window,
            key_padding=self.key_padding,
            query_padding=self.query_padding,
            segments=self.segments,
            explicit=self.explicit,
            prefix_length=self.prefix_length,
            pattern=self.pattern,
            all_of=self.all_of or None,
            any_of=self.any_of or None,
        )
        return all(part is None for name, part in ingredients.items() if name not in names)

    @property
    def starts_together(self):
        """Whether queries and keys are known to stand at positions 0, 1, 2, ..."""
        has_positions = self.query_positions is not None or self.key_positions is not None
        return not has_positions and isinstance(self.query_offset, int) and self.query_offset == 0

    @property
    def sees_no_later_key(self):
        """Whether the query at index i is known to see keys at indices up to i alone."""
        return self.is_causal and self.starts_together and self.prefix_length is None

    @property
    def can_empty_a_row(self):
        """Whether a query may be left with nothing to attend to, query padding aside."""
        if self._is_of_itself and self.is_only("is_causal", "window", "query_padding", "prefix_length", "segments"):
            return False
        if not self.is_only("is_causal", "query_padding", "prefix_length"):
            return True
        return self.is_causal and (self.query_positions is not None or self.key_positions is not None)

    @property
    def _is_of_itself(self):
        """Whether the queries are known to be the keys, at the same places: then each sees at least itself."""
        is_one_sequence = self.segments is not None and self.segments[0] is self.segments[1]
        is_in_place = self.starts_together or self.query_positions is self.key_positions is not None
        return is_one_sequence and is_in_place

    def positions(self, query_length, key_length):
        """Positions of queries and keys: int32 `[T]` or `[B, T]`, and `[S]` or `[B, S]`."""
        queries, keys = self.query_positions, self.key_positions
        if queries is None:
            queries = ops.arange(query_length, dtype="int32") + ops.cast(self.query_offset, "int32")
        if keys is None:
            keys = ops.arange(key_length, dtype="int32")
        return queries, keys

    def _parts(self, query_length, key_length):
        yield self._of_positions(query_length, key_length)
        if self.key_padding is not None:
            yield self.key_padding[:, None, None, :]
        if self.segments is not None:
            query_segments, key_segments = self.segments
            yield ops.equal(query_segments[:, None, :, None], key_segments[:, None, None, :])
        if self.explicit is not None:
            yield self.explicit
        for mask in self.all_of:
            yield mask._with_rows(query_length, key_length)
        if self.any_of:
            yield _disjunction(mask._with_rows(query_length, key_length) for mask in self.any_of)

    def _with_rows(self, query_length, key_length):
        rows = None if self.query_padding is None else self.query_padding[:, None, :, None]
        return conjunction([self.materialize(query_length, key_length), rows])

    def _of_positions(self, query_length, key_length):
        if not self.is_causal and self.window is None and self.pattern is None:
            return None
        queries, keys = self.positions(query_length, key_length)
        queries, keys = ops.expand_dims(queries, -1), ops.expand_dims(keys, -2)
        allowed = []
        if self.is_causal:
            allowed.append(self._causal(queries, keys))
        if self.window is not None:
            allowed.append(ops.abs(queries - keys) < self.window)
        if self.pattern is not None:
            allowed.append(self.pattern.allows(queries, keys))
        allowed = conjunction(allowed)
        return allowed[None, None] if len(allowed.shape) == 2 else allowed[:, None]

    def _causal(self, queries, keys):
        past = queries >= keys
        if self.prefix_length is None:
            return past
        prefix = ops.reshape(ops.cast(self.prefix_length, "int32"), (-1, 1, 1))
        return ops.logical_or(past, keys < prefix)


def conjunction(masks):
    """Where all masks are True; `None` allows all."""
    result = None
    for mask in masks:
        if mask is not None:
            result = mask if result is None else ops.logical_and(result, mask)
    return result


def _disjunction(masks):
    masks = list(masks)
    if any(mask is None for mask in masks):
        return None
    result = masks[0]
    for mask in masks[1:]:
        result = ops.logical_or(result, mask)
    return result
