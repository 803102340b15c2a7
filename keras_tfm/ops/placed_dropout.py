"""Dropout on scores whose mask is known place by place, so that a part of the scores draws its part of the mask."""

import dataclasses
from typing import Any

from keras import ops

from keras_tfm.ops.counter_random import mask_bits_at, row_keys
from keras_tfm.ops.dropout import smallest_kept


@dataclasses.dataclass(frozen=True)
class PlacedDropout:
    """What says of each score whether it stays: numbers of its row, of its column and of the draw.

    Args:
        rate: probability in [0, 1) of a score to be dropped.
        rows: int32 `[..., T]`, the keys of the rows.
        columns: int32 `[S]`, where the columns stand among all.
        draw: int32 scalar, the number of the draw.
    """

    rate: float
    rows: Any
    columns: Any
    draw: Any

    def apply(self, scores):
        """Scores `[..., T, S]` with some set to zero, the others scaled up."""
        is_kept = mask_bits_at(self.rows, self.draw, self.columns) >= smallest_kept(self.rate)
        return ops.where(is_kept, scores * ops.cast(1 / (1 - self.rate), scores.dtype), ops.zeros((), scores.dtype))


def place_dropout(shape, rate, seed_generator):
    """Dropout of the mask that `keep_mask` draws by a hash, not drawn yet.

    Args:
        shape: of all scores, `(B, N, T, S)`; sizes may be scalar tensors.
        rate: probability in [0, 1) of a score to be dropped.
        seed_generator: a `keras.random.SeedGenerator`, whose state moves on by one draw.

    Returns:
        A `PlacedDropout`; it holds `B · N · T + S` numbers, and its parts drop what the whole drops there.

    Example:

    >>> import dataclasses, keras
    >>> whole = place_dropout((1, 2, 3, 4), 0.5, keras.random.SeedGenerator(0))
    >>> part = dataclasses.replace(whole, rows=whole.rows[..., 1:], columns=whole.columns[:2])
    >>> scores = keras.ops.ones((1, 2, 3, 4))
    >>> bool(keras.ops.all(part.apply(scores[..., 1:, :2]) == whole.apply(scores)[..., 1:, :2]))
    True
    """
    seed, draw = ops.unstack(ops.cast(seed_generator.next(), "int32"))
    batch, heads, rows, columns = shape
    keys = ops.reshape(row_keys(seed, batch * heads * rows), (batch, heads, rows))
    return PlacedDropout(rate, keys, ops.arange(columns, dtype="int32"), draw)
