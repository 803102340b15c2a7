"""Sliding windows in linear time and memory: each block of queries meets the blocks of keys around it, and no other."""

import dataclasses

from keras import ops

SMALLEST_BLOCK = 32  # smaller ones make many small products, which cost more than they save


def why_not_windows(request):
    """Why `fold_windows` cannot serve a request, or `None`."""
    mask, window = request.mask, request.mask.window
    if window is None:
        return "there is no sliding window"
    if not mask.is_only("is_causal", "window", "key_padding", "query_padding", "segments"):
        return "an explicit mask, a pattern or a prefix is not cut into windows"
    if request.return_scores:
        return "scores were asked for, and windows never hold all of them"
    if request.mixing is not None or request.value_bias is not None:
        return "head mixing and relative values need all scores"
    if any(not callable(bias) for bias in request.biases):
        return "a dense bias is not cut into windows"
    lengths = request.query.shape[1], request.key.shape[1]
    if lengths[0] is None or lengths[0] != lengths[1] or not mask.starts_together:
        return "queries and keys are not known to be the same positions"
    if lengths[0] < 2 * _blocks_met(mask) * _block_size(window):
        return f"{lengths[0]} positions are few for a window of {window}: the whole costs less"
    return None


def cut_windows(request):
    """Cuts a request into ones that have its blocks of C positions in their batch axis.

    Causal ones become two: the first block, which has none before it, and all others with the one before each. So all
    blocks of a request share one mask, unless tokens are padding or in segments.

    Returns:
        Requests of `[B · blocks, C, N, H]` queries and `[B · blocks, 1 to 3 times C, K, H]` keys, and a function that
        puts the list of their outputs together to `[B, T, N, Hv]`.
    """
    batch, length, size = ops.shape(request.query)[0], request.query.shape[1], _block_size(request.mask.window)
    if request.mask.is_causal:
        cut = _Cut(length, size, first=1, before=1, after=0)
        requests, counts = [_first_block(request, size), _folded(request, cut)], [1, cut.num_blocks]
    else:
        cut = _Cut(length, size, first=0, before=1, after=1)
        requests, counts = [_folded(request, cut)], [cut.num_blocks]

    def join(outputs):
        pairs = zip(outputs, counts, strict=True)
        rows = [ops.reshape(x, (batch, count * size, *x.shape[2:])) for x, count in pairs]
        return ops.concatenate(rows, axis=1)[:, :length]

    return requests, join


def _block_size(window):
    return max(window, SMALLEST_BLOCK)


def _blocks_met(mask):
    return 2 if mask.is_causal else 3


def _first_block(request, size):
    mask = request.mask

    def cut(x):
        return None if x is None else x[:, :size]

    return dataclasses.replace(
        request,
        query=cut(request.query),
        key=cut(request.key),
        value=cut(request.value),
        has_heads_apart=False,
        is_part=True,
        mask=dataclasses.replace(
            mask,
            window=mask.window if mask.window < size else None,
            key_padding=cut(mask.key_padding),
            query_padding=cut(mask.query_padding),
            segments=mask.segments and tuple(map(cut, mask.segments)),
        ),
    )


def _folded(request, cut):
    mask, batch = request.mask, ops.shape(request.query)[0]
    real = mask.key_padding
    if real is None and not mask.is_causal:  # blocks at both ends meet places where there is no key
        real = ops.ones((1, cut.length), "bool")
    positions = cut.positions()
    if request.biases:  # they may ask where in the sequence it is
        places = ops.arange(cut.length, dtype="int32")[None]
        positions = cut.queries(places, batch), cut.keys(places, batch)
    return dataclasses.replace(
        request,
        query=cut.queries(request.query, batch),
        key=cut.keys(request.key, batch),
        value=cut.keys(request.value, batch),
        has_heads_apart=False,
        is_part=True,
        mask=dataclasses.replace(
            mask,
            key_padding=None if real is None else cut.keys(real, batch),
            query_padding=None if mask.query_padding is None else cut.queries(mask.query_padding, batch),
            segments=mask.segments and (cut.queries(mask.segments[0], batch), cut.keys(mask.segments[1], batch)),
            query_positions=positions[0],
            key_positions=positions[1],
        ),
    )


@dataclasses.dataclass(frozen=True)
class _Cut:
    """Blocks of `size` places from the block `first` on, each with the keys of as many `before` and `after` it."""

    length: int
    size: int
    first: int
    before: int
    after: int

    @property
    def num_blocks(self):
        return -(-self.length // self.size) - self.first

    def positions(self):
        """int32 `[C]` of queries and `[2 or 3 times C]` of keys, counted from the first of a block's keys."""
        keys = ops.arange((self.before + 1 + self.after) * self.size, dtype="int32")
        return keys[self.before * self.size :][: self.size], keys

    def queries(self, x, batch):
        """`[B or 1, T, ...]` to `[B · blocks, C, ...]`."""
        return _fold(self._blocks(x, batch, 0, 0)[:, self.first :])

    def keys(self, x, batch):
        """`[B or 1, T, ...]` to `[B · blocks, 2 or 3 times C, ...]`."""
        blocks = self._blocks(x, batch, self.before - self.first, self.after)
        met = [blocks[:, start : start + self.num_blocks] for start in range(self.before + 1 + self.after)]
        return _fold(ops.concatenate(met, axis=2))

    def _blocks(self, x, batch, before, after):
        """`[B, blocks, C, ...]`, with as many blocks of zeros `before` and `after`."""
        shape, num_blocks = tuple(x.shape[2:]), self.first + self.num_blocks
        x = ops.broadcast_to(x, (batch, self.length, *shape))
        end = (num_blocks + after) * self.size - self.length
        if before or end:
            x = ops.pad(x, ((0, 0), (before * self.size, end), *((0, 0) for _ in shape)))
        return ops.reshape(x, (batch, before + num_blocks + after, self.size, *shape))


def _fold(blocks):
    shape = ops.shape(blocks)
    return ops.reshape(blocks, (shape[0] * shape[1], *shape[2:]))
