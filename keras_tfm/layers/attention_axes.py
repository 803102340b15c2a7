"""Attention over any axes: folds N-d inputs to `[B, T, N, H]` and back."""

import math

from keras import ops


class AttentionAxes:
    """Which axes of `[B, *axes, D]` attention runs over; the others join the batch.

    Args:
        rank: rank of the inputs, batch and features included.
        axes: tuple of axes, each in `[1, rank - 2]`.
    """

    def __init__(self, rank, axes):
        self.attended = tuple(axes)
        self.batch = tuple(axis for axis in range(rank - 1) if axis not in self.attended)
        self.is_plain = rank == 3 and self.attended == (1,)

    def fold(self, heads):
        """`[B, *axes, N, H]` to `[B', T, N, H]`."""
        if self.is_plain:
            return heads
        rank = len(heads.shape)
        heads = ops.transpose(heads, (*self.batch, *self.attended, rank - 2, rank - 1))
        shape = ops.shape(heads)
        cut = len(self.batch)
        return ops.reshape(heads, (_product(shape[:cut]), _product(shape[cut:-2]), *shape[-2:]))

    def unfold(self, heads, like):
        """`[B', T, N, H]` back to the axes of `like [B, *axes, D]`."""
        if self.is_plain:
            return heads
        shape = ops.shape(like)
        order = (*self.batch, *self.attended)
        heads = ops.reshape(heads, (*(shape[axis] for axis in order), *ops.shape(heads)[-2:]))
        rank = len(order)
        inverse = sorted(range(rank), key=lambda place: order[place])
        return ops.transpose(heads, (*inverse, rank, rank + 1))

    def fold_padding(self, padding, like):
        """A padding mask `[B, *axes]` to `[B', T]`; missing trailing axes are broadcast."""
        if padding is None or self.is_plain:
            return padding
        shape = ops.shape(like)[:-1]
        for _ in range(len(shape) - len(padding.shape)):
            padding = ops.expand_dims(padding, -1)
        padding = ops.broadcast_to(padding, shape)
        return ops.squeeze(self.fold(padding[..., None, None]), (-1, -2))

    def fold_mask(self, mask, query, value):
        """An explicit mask `[B, *batch axes, (N,) *query axes, *key axes]` to `[B', 1 or N, T, S]`."""
        if mask is None:
            return None
        mask = ops.cast(mask, "bool")
        attended = len(self.attended)
        scores_rank = len(self.batch) + 1 + 2 * attended
        for _ in range(scores_rank - len(mask.shape)):
            mask = ops.expand_dims(mask, -2 * attended - 1)
        if self.is_plain:
            return mask
        batch, queries, keys = self._sizes(query, value)
        num_heads = mask.shape[len(batch)]
        mask = ops.broadcast_to(mask, (*batch, num_heads, *queries, *keys))
        return ops.reshape(mask, (_product(batch), num_heads, _product(queries), _product(keys)))

    def unfold_mask(self, mask, query, value):
        """A mask `[B', 1 or N, T, S]` to `[B, *batch axes, (N,) *query axes, *key axes]`; axes of 1 broadcast."""
        if mask is None:
            return None
        if not self.is_plain:
            batch, queries, keys = self._sizes(query, value)
            folded = (_product(batch), mask.shape[1], _product(queries), _product(keys))
            mask = self.unfold_scores(ops.broadcast_to(mask, folded), query, value)
        heads = len(self.batch)
        return ops.squeeze(mask, heads) if mask.shape[heads] == 1 else mask

    def unfold_scores(self, scores, query, value):
        """Scores `[B', N, T, S]` to `[B, *batch axes, N, *query axes, *key axes]`."""
        if scores is None or self.is_plain:
            return scores
        batch, queries, keys = self._sizes(query, value)
        return ops.reshape(scores, (*batch, scores.shape[1], *queries, *keys))

    def _sizes(self, query, value):
        query_shape, value_shape = ops.shape(query), ops.shape(value)
        batch = [query_shape[axis] for axis in self.batch]
        return batch, [query_shape[axis] for axis in self.attended], [value_shape[axis] for axis in self.attended]

    def scores_shape(self, query_shape, key_shape, num_heads):
        """The static shape of the scores."""
        batch = (query_shape[axis] for axis in self.batch)
        queries = (query_shape[axis] for axis in self.attended)
        return (*batch, num_heads, *queries, *(key_shape[axis] for axis in self.attended))


def _product(sizes):
    return math.prod(sizes)
