"""AttentionMask: the ingredients of a mask, put together only when a kernel needs them."""

import dataclasses
from typing import Any

from keras import ops


@dataclasses.dataclass(frozen=True)
class AttentionMask:
    """What each query may attend to. True means "may attend".

    Every ingredient given must allow a pair; none given allows all.

    Args:
        is_causal: a query at position `p` sees keys at positions up to `p`.
        window: a query at position `p` sees keys nearer than `window` positions; `None` for no limit.
        key_padding: bool `[B, S]`, True at real keys.
        query_padding: bool `[B, T]`, True at real queries. A padded query attends to nothing.
        segments: `(int [B, T], int [B, S])`: queries see keys of their own segment.
        explicit: bool, broadcastable to `[B, N, T, S]`.
        query_offset: position of the first query among the keys: an int or an int32 scalar.

    Example:

    >>> import keras
    >>> mask = AttentionMask(is_causal=True, query_offset=2)
    >>> keras.ops.convert_to_numpy(mask.materialize(2, 4)).astype(int).tolist()
    [[[[1, 1, 1, 0], [1, 1, 1, 1]]]]
    """

    is_causal: bool = False
    window: int | None = None
    key_padding: Any = None
    query_padding: Any = None
    segments: tuple | None = None
    explicit: Any = None
    query_offset: Any = 0

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
        mask = _all_of([self._band(query_length, key_length), *self._dense_parts()])
        if mask is None or not open_empty_rows or not self._can_empty_a_row:
            return mask
        return ops.logical_or(mask, ops.logical_not(ops.any(mask, axis=-1, keepdims=True)))

    def live_rows(self, query_length, key_length):
        """bool, broadcastable to `[B, N, T]`, False at queries with nothing to attend to; `None` if there are none."""
        rows = None
        if self._can_empty_a_row:
            only_padding = (
                not self.is_causal and self.window is None and self.segments is None and self.explicit is None
            )
            mask = self.key_padding[:, None, None, :] if only_padding else self.materialize(query_length, key_length)
            rows = ops.any(mask, axis=-1)
        if self.query_padding is None:
            return rows
        return _all_of([rows, self.query_padding[:, None, :]])

    @property
    def _can_empty_a_row(self):
        return any(part is not None for part in (self.window, self.key_padding, self.segments, self.explicit))

    def _band(self, query_length, key_length):
        if not self.is_causal and self.window is None:
            return None
        queries = ops.expand_dims(ops.arange(query_length, dtype="int32"), -1) + ops.cast(self.query_offset, "int32")
        keys = ops.expand_dims(ops.arange(key_length, dtype="int32"), 0)
        band = []
        if self.is_causal:
            band.append(queries >= keys)
        if self.window is not None:
            band.append(ops.abs(queries - keys) < self.window)
        return _all_of(band)[None, None]

    def _dense_parts(self):
        if self.key_padding is not None:
            yield self.key_padding[:, None, None, :]
        if self.segments is not None:
            query_segments, key_segments = self.segments
            yield ops.equal(query_segments[:, None, :, None], key_segments[:, None, None, :])
        if self.explicit is not None:
            yield self.explicit


def _all_of(masks):
    result = None
    for mask in masks:
        if mask is not None:
            result = mask if result is None else ops.logical_and(result, mask)
    return result
