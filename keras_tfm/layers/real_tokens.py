"""The real tokens of a batch as one row, where their number may be known: what is computed of it skips the padding."""

import contextlib
import contextvars
from typing import Any, NamedTuple

import numpy as np
from keras import ops

from keras_tfm import backend
from keras_tfm.layers.sublayer_calls import real_tokens

_FEWEST_NUMBERS = 1 << 17  # of a stream; below, the calls cost more than they save
_LARGEST_SHARE = 0.95  # of real tokens; above, copies cost more than they save

_KEEPS_ROWS = contextvars.ContextVar("keras_tfm_keeps_rows", default=False)


@contextlib.contextmanager
def rows_kept():
    """Inside, no batch becomes one row, so that whoever watches sees each sequence as it was given."""
    token = _KEEPS_ROWS.set(True)
    try:
        yield
    finally:
        _KEEPS_ROWS.reset(token)


class RealTokens(NamedTuple):
    """Where the M real tokens of a batch stand.

    Args:
        places: int `[M]`, counted through all rows.
        batch: B.
        length: T.
    """

    places: Any
    batch: int
    length: int

    @classmethod
    def of(cls, mask, like):
        """Those of bool `mask [B, T]`, or `None` where to pack `like [B, T, D]` is impossible or not worth it."""
        real = None if mask is None or _KEEPS_ROWS.get() else backend.known_values(mask)
        if real is None or np.prod(like.shape) < _FEWEST_NUMBERS:
            return None
        real = np.broadcast_to(real, like.shape[:2])
        places = np.flatnonzero(real)
        if not 0 < len(places) <= _LARGEST_SHARE * real.size:
            return None
        return cls(ops.convert_to_tensor(places), *real.shape)

    def pack(self, x):
        """`[B, T, ...]` to `[1, M, ...]`."""
        return backend.take_rows(ops.reshape(x, (-1, *x.shape[2:])), self.places)[None]

    def unpack(self, x):
        """`[1, M, ...]` to `[B, T, ...]`, with zeros at padding."""
        rows = backend.spread_rows(x[0], self.places, self.batch * self.length)
        return ops.reshape(rows, (self.batch, self.length, *x.shape[2:]))

    @property
    def rows(self):
        """int `[1, M]`: the row of each."""
        return ops.floor_divide(self.places, self.length)[None]

    def positions(self, given):
        """int `[1, M]`: where they stand, by index or as `given [T]` or `[B, T]` says."""
        places = ops.mod(self.places, self.length)
        if given is None:
            return places[None]
        if len(given.shape) == 1:
            return ops.take(given, places)[None]
        return self.pack(ops.broadcast_to(given, (self.batch, self.length)))


def memory_in_a_row(memory, padding_mask, implicit_mask):
    """What packed tokens attend to, padding included: the rows of `memory [B, S, E]` as segments of one.

    Returns:
        The arguments of a `TransformerDecoder`, by name; none where `memory` is `None`.
    """
    if memory is None:
        return {}
    batch, length, width = memory.shape
    real = real_tokens(implicit_mask, "encoder_padding_mask", padding_mask, memory)
    return dict(
        encoder_sequence=ops.reshape(memory, (1, batch * length, width)),
        encoder_padding_mask=None if real is None else ops.reshape(ops.broadcast_to(real, (batch, length)), (1, -1)),
        encoder_segment_ids=ops.repeat(ops.arange(batch), length)[None],
    )
