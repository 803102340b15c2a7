"""What of each input token reaches each token of the last layer, by the attention of all layers on the way."""

import collections

import numpy as np

FUSIONS = {"mean": np.mean, "max": np.max, "min": np.min}


def attention_rollout(records, *, heads="mean", residual=0.5, discard=0.0, all_layers=False):
    """Multiplies the attention of the layers, each mixed with the residual connection around it.

    Args:
        records: `AttentionRecord`s of the encoder's layers, from the first to the last (those of other kinds are left
            out, if `"encoder"` is among the kinds), or a list of floats `[B, N, T, T]`.
        heads: how the heads of a layer become one: `"mean"`, `"max"` or `"min"`. Defaults to `"mean"`.
        residual: share of the residual connection in [0, 1]; 0.5 counts both alike. Defaults to 0.5.
        discard: share in [0, 1) of each row's smallest scores that become 0, after the heads are one. Defaults to 0.
        all_layers: whether to return the product up to each layer. Defaults to `False`.

    Returns:
        float32 numpy `[B, T, T]`: rows are tokens of the last layer, columns tokens of the input; a row sums to 1. With
        `all_layers` `[L, B, T, T]`.

    Masking:
        A row without attention (padding) stays with itself. A token that no real one sees reaches none of them.

    Raises:
        ValueError: no layer; scores that are not square, or not of one size; a share out of range.

    Reference:
        Abnar and Zuidema 2020, "Quantifying Attention Flow in Transformers", section 3.1 and equation 1.

    Example:

    >>> import numpy as np
    >>> layer = np.array([[[[0.5, 0.5], [0.0, 1.0]]]])
    >>> attention_rollout([layer, layer])[0].tolist()
    [[0.5625, 0.4375], [0.0, 1.0]]
    """
    rolled, products = None, []
    for layer in _mixed_layers(records, heads, residual, discard):
        rolled = layer if rolled is None else layer @ rolled
        products.append(rolled)
    return np.float32(products if all_layers else rolled)


def attention_flow(records, *, heads="mean", residual=0.5, tokens=None):
    """The greatest flow from each token of the last layer to each input token, the attention being the capacities.

    Unlike in rollout, what goes through one edge is limited by it, and paths share none of it. A flow is searched for
    each pair: use it for short sequences.

    Args:
        records, heads, residual: as `attention_rollout` has them.
        tokens: list of the tokens of the last layer to start from. Defaults to all.

    Returns:
        float32 numpy `[B, T, T]`, or `[B, len(tokens), T]`: rows are tokens of the last layer, columns tokens of the
        input. Rows do not sum to 1.

    Raises:
        ValueError: as `attention_rollout`; a token out of range.

    Reference:
        Abnar and Zuidema 2020, "Quantifying Attention Flow in Transformers", section 3.2; Edmonds and Karp 1972.

    Example:

    >>> import numpy as np
    >>> layer = np.array([[[[0.5, 0.5], [0.0, 1.0]]]])
    >>> attention_flow([layer, layer])[0].tolist()
    [[0.75, 0.5], [0.0, 1.0]]
    """
    layers = np.stack(_mixed_layers(records, heads, residual, 0.0))
    length = layers.shape[-1]
    tokens = list(range(length) if tokens is None else tokens)
    if not all(0 <= token < length for token in tokens):
        raise ValueError(f"`tokens` must be in [0, {length}). Received: tokens={tokens}")
    return np.float32(
        [
            [[_largest_flow(layers[:, b], token, source) for source in range(length)] for token in tokens]
            for b in range(layers.shape[1])
        ]
    )


def _mixed_layers(records, heads, residual, discard):
    """For each layer float64 `[B, T, T]`: the heads as one, mixed with the residual connection; rows sum to 1."""
    if heads not in FUSIONS:
        raise ValueError(f"`heads` must be one of {list(FUSIONS)}. Received: heads={heads!r}")
    if not (0 <= residual <= 1 and 0 <= discard < 1):
        raise ValueError(
            "`residual` must be in [0, 1], and `discard` in [0, 1). "
            f"Received: residual={residual!r}, discard={discard!r}"
        )
    layers = [np.asarray(scores, "float64") for scores in _encoder_scores(records)]
    shapes = {(*layer.shape[:1], *layer.shape[2:]) for layer in layers}
    if len(shapes) != 1 or any(layer.ndim != 4 or layer.shape[2] != layer.shape[3] for layer in layers):
        raise ValueError(
            "`records` must have layers of self-attention over the same tokens, [B, N, T, T]. "
            f"Received: {[layer.shape for layer in layers]}"
        )
    return [_mixed(FUSIONS[heads](layer, axis=1), residual, discard) for layer in layers]


def _encoder_scores(records):
    records = list(records)
    kinds = {getattr(record, "kind", None) for record in records}
    chosen = [record for record in records if "encoder" not in kinds or record.kind == "encoder"]
    return [getattr(record, "scores", record) for record in chosen]


def _mixed(scores, residual, discard):
    identity = np.eye(scores.shape[-1])
    if discard:
        dropped = np.argsort(scores, axis=-1, kind="stable")[..., : int(discard * scores.shape[-1])]
        np.put_along_axis(scores, dropped, 0.0, axis=-1)
    totals = scores.sum(-1, keepdims=True)
    scores = np.where(totals > 0, scores / np.where(totals > 0, totals, 1.0), identity)
    return residual * identity + (1 - residual) * scores


def _largest_flow(layers, token, source):
    """The largest flow from `token` of the last layer to `source` of the input; `layers` is `[L, T, T]`.

    A node is `(layer, token)`; layer 0 is the input.
    """
    room = {}
    for depth, layer in enumerate(layers, 1):
        for row, column in zip(*np.nonzero(layer), strict=True):
            room.setdefault((depth, int(row)), {})[(depth - 1, int(column))] = float(layer[row, column])
            room.setdefault((depth - 1, int(column)), {}).setdefault((depth, int(row)), 0.0)
    start, end, total = (len(layers), token), (0, source), 0.0
    while path := _shortest_path(room, start, end):
        steps = list(zip(path, path[1:], strict=False))
        amount = min(room[one][other] for one, other in steps)
        for one, other in steps:
            room[one][other] -= amount
            room[other][one] += amount
        total += amount
    return total


def _shortest_path(room, start, end):
    """The nodes of a shortest path along edges with room left, or `None`."""
    before, queue = {start: None}, collections.deque([start])
    while queue and end not in before:
        node = queue.popleft()
        for other, left in room.get(node, {}).items():
            if left > 1e-12 and other not in before:
                before[other] = node
                queue.append(other)
    if end not in before:
        return None
    path = [end]
    while before[path[-1]] is not None:
        path.append(before[path[-1]])
    return path[::-1]
