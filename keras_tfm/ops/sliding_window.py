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


def fold_windows(request):
    """Cuts a request into one with the blocks in its batch axis.

    Returns:
        A request of `[B · T / C, C, N, H]` queries and `[B · T / C, 2 C or 3 C, K, H]` keys for blocks of C, and a
        function that puts its output together to `[B, T, N, Hv]`.
    """
    mask, length = request.mask, request.query.shape[1]
    cut = _Cut(length, _block_size(mask.window), is_causal=mask.is_causal)
    real = ops.ones((1, length), "bool") if mask.key_padding is None else mask.key_padding
    batch = ops.shape(request.query)[0]
    positions = ops.arange(length, dtype="int32")[None]
    segments = mask.segments and (cut.queries(mask.segments[0], batch), cut.keys(mask.segments[1], batch))
    folded = dataclasses.replace(
        request,
        query=cut.queries(request.query, batch),
        key=cut.keys(request.key, batch),
        value=cut.keys(request.value, batch),
        has_heads_apart=False,
        mask=dataclasses.replace(
            mask,
            key_padding=cut.keys(real, batch),
            query_padding=None if mask.query_padding is None else cut.queries(mask.query_padding, batch),
            segments=segments,
            query_positions=cut.queries(positions, batch),
            key_positions=cut.keys(positions, batch),
        ),
    )
    return folded, lambda output: cut.join(output, batch)


def _block_size(window):
    return max(window, SMALLEST_BLOCK)


def _blocks_met(mask):
    return 2 if mask.is_causal else 3


@dataclasses.dataclass(frozen=True)
class _Cut:
    length: int
    size: int
    is_causal: bool

    @property
    def num_blocks(self):
        return -(-self.length // self.size)

    def queries(self, x, batch):
        """`[B or 1, T, ...]` to `[B · blocks, C, ...]`."""
        return self._fold(self._blocks(x, 0, 0, batch)[0])

    def keys(self, x, batch):
        """`[B or 1, T, ...]` to `[B · blocks, 2 C or 3 C, ...]`: each block with those before and after it."""
        after = 0 if self.is_causal else 1
        return self._fold(ops.concatenate(self._blocks(x, 1, after, batch), axis=2))

    def join(self, x, batch):
        """`[B · blocks, C, ...]` back to `[B, T, ...]`."""
        return ops.reshape(x, (batch, self.num_blocks * self.size, *x.shape[2:]))[:, : self.length]

    def _blocks(self, x, before, after, batch):
        shape = tuple(x.shape[2:])
        x = ops.broadcast_to(x, (batch, self.length, *shape))
        end = (self.num_blocks + after) * self.size - self.length
        x = ops.pad(x, ((0, 0), (before * self.size, end), *((0, 0) for _ in shape)))
        x = ops.reshape(x, (batch, self.num_blocks + before + after, self.size, *shape))
        return [x[:, start : start + self.num_blocks] for start in range(before + after + 1)]

    def _fold(self, blocks):
        shape = ops.shape(blocks)
        return ops.reshape(blocks, (shape[0] * shape[1], *shape[2:]))
