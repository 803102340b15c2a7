"""Relative positions: distances, buckets of distances, and logits that are looked up by them without a `[T, S, H]`."""

import math

import numpy as np
from keras import ops

from keras_tfm.ops.positions import sine_and_cosine


def distances(query_positions, key_positions):
    """How far each key stands after each query.

    Args:
        query_positions: int `[T]` or `[B, T]`.
        key_positions: int `[S]` or `[B, S]`.

    Returns:
        int32 `[1 or B, T, S]`, key position minus query position.

    Example:

    >>> import keras
    >>> keras.ops.convert_to_numpy(distances(keras.ops.arange(2) + 1, keras.ops.arange(3))).tolist()
    [[[-1, 0, 1], [-2, -1, 0]]]
    """
    return ops.expand_dims(_with_batch(key_positions), -2) - ops.expand_dims(_with_batch(query_positions), -1)


def grid_distances(query_positions, key_positions, grid_shape=None):
    """How far each key stands after each query along each axis of a grid.

    Args:
        query_positions, key_positions: as for `distances`: indices into the flattened grid.
        grid_shape: sizes of the grid's axes, the last one runs fastest; `None` is one endless axis.

    Returns:
        A list of float32 `[1 or B, 1, T, S]`, one for each axis.
    """
    axes = []
    for size in reversed((grid_shape or (1,))[1:]):
        axes.append((query_positions % size, key_positions % size))
        query_positions, key_positions = query_positions // size, key_positions // size
    axes.append((query_positions, key_positions))
    return [ops.cast(distances(*axis), "float32")[:, None] for axis in reversed(axes)]


def clipped(distances, max_distance):
    """Distances `[...]` limited to ±M and counted from 0: ints in `[0, 2M]`."""
    return ops.clip(distances, -max_distance, max_distance) + max_distance


def t5_buckets(num_buckets, max_distance, bidirectional=True):
    """The bucket of each distance, as T5 counts them.

    Half of the buckets hold one distance each, the other half grow in width up to `max_distance`.

    Args:
        num_buckets: how many buckets; with `bidirectional` half of them are for keys after the query.
        max_distance: M, from which on all distances share a bucket.
        bidirectional: `False` puts all keys after the query in bucket 0.

    Returns:
        numpy int32 `[2M + 1]`: the buckets of the distances -M to M (key minus query).

    Reference:
        Raffel et al. 2020, "Exploring the Limits of Transfer Learning with a Unified Text-to-Text Transformer",
        section 2.1; the bounds are those of the authors' code, in exact arithmetic.

    Example:

    >>> t5_buckets(8, 5).tolist()
    [3, 3, 2, 2, 1, 0, 5, 6, 6, 7, 7]
    """
    each_side = num_buckets // 2 if bidirectional else num_buckets
    exact = each_side // 2
    bounds = [_t5_bound(k, exact, each_side - exact, max_distance) for k in range(1, each_side - exact)]
    side = np.arange(max_distance + 1)
    side = np.where(side < exact, side, exact + np.searchsorted(bounds, side, side="right"))
    after = side[1:] + each_side if bidirectional else np.zeros(max_distance, "int32")
    return np.concatenate([side[::-1], after]).astype("int32")


def _t5_bound(k, exact, count, max_distance):
    """The least d with `d >= exact · (max_distance / exact) ** (k / count)`, in integers: floats may miss equality."""
    guess = max(exact, int(exact * (max_distance / exact) ** (k / count)) - 1)
    while guess**count * exact**k < exact**count * max_distance**k:
        guess += 1
    return guess


def log_buckets(num_buckets, max_distance):
    """The signed bucket of each distance, as DeBERTa v2 and v3 count them: first single distances, then logarithmic.

    Args:
        num_buckets: how many buckets on each side, even.
        max_distance: M, at which the last bucket begins.

    Returns:
        numpy int32 `[2M + 1]`: buckets in `[-num_buckets, num_buckets]` of the distances -M to M.

    Reference:
        He et al. 2021, "DeBERTaV3", and the authors' code for v2.

    Example:

    >>> log_buckets(4, 8)[8:].tolist()
    [0, 1, 2, 3, 3, 3, 3, 3, 4]
    """
    middle = num_buckets // 2
    size = np.arange(1, max_distance + 1)
    logs = np.log(np.maximum(size, middle) / middle) / math.log((max_distance - 1) / middle)
    side = np.where(size <= middle, size, np.ceil(logs * (middle - 1)) + middle)
    return np.concatenate([-side[::-1], [0], side]).astype("int32")


def disentangled_index(positions, other_positions, max_distance, num_buckets=None, sign=1):
    """Which of the 2k embeddings of distances a pair looks up in DeBERTa: δ of the paper.

    Args:
        positions: int `[T]` or `[B, T]`: from where.
        other_positions: int `[S]` or `[B, S]`: to where.
        max_distance: k; with `num_buckets` the distance at which the last bucket begins.
        num_buckets: k of the buckets that `log_buckets` makes, or `None` for single distances.
        sign: -1 swaps before and after.

    Returns:
        int32 `[1 or B, T, S]` in `[0, 2k)`: `position - other position + k`, limited.

    Reference:
        He et al. 2021, "DeBERTa", equation 3.
    """
    offsets = -distances(positions, other_positions)
    if num_buckets is not None:
        offsets = ops.take(log_buckets(num_buckets, max_distance), clipped(offsets, max_distance), axis=0)
    span = num_buckets or max_distance
    return ops.clip(sign * offsets + span, 0, 2 * span - 1)


def alibi_slopes(num_heads):
    """The slope of each head: a geometric sequence from `2 ** (-8 / N)`.

    Args:
        num_heads: N. Where it is no power of two, the heads beyond the power below it get every other slope of twice
            that many heads.

    Returns:
        numpy float64 `[N]`.

    Reference:
        Press et al. 2022, "Train Short, Test Long", section 3; the rule for other N is that of the authors' code.

    Example:

    >>> alibi_slopes(2).tolist()
    [0.0625, 0.00390625]
    """
    power = 2 ** int(math.log2(num_heads))
    first = 2.0 ** (-8.0 / power * np.arange(1, power + 1))
    between = 2.0 ** (-4.0 / power * np.arange(1, 2 * power + 1, 2))
    return np.concatenate([first, between])[:num_heads]


def gather_by_distance(logits, index):
    """Looks up, for each query and key, the logit of their distance.

    Args:
        logits: float `[B, T, N, R]`, of each query with each of R distances.
        index: int `[1 or B, T, S]`, in `[0, R)`.

    Returns:
        `[B, N, T, S]`.
    """
    return ops.take_along_axis(ops.transpose(logits, (0, 2, 1, 3)), ops.expand_dims(index, 1), axis=-1)


def sum_by_distance(scores, index, num_distances):
    """Adds up the scores of the keys at each distance: the transpose of `gather_by_distance`.

    Args:
        scores: float `[B, N, T, S]`.
        index: int `[1 or B, T, S]`, in `[0, R)`.
        num_distances: R.

    Returns:
        `[B, T, N, R]`.
    """
    batch, heads, length, _ = ops.shape(scores)
    rows = length if index.shape[0] == 1 else batch * length
    # One row of sums for each (query, distance); what shares its distances lies in the columns.
    order = (2, 3, 0, 1) if index.shape[0] == 1 else (0, 2, 3, 1)
    columns = batch * heads if index.shape[0] == 1 else heads
    index = ops.reshape(index, (rows, -1)) + num_distances * ops.arange(rows, dtype=index.dtype)[:, None]
    sums = ops.scatter_update(
        ops.zeros((rows * num_distances, columns), dtype=scores.dtype),
        ops.reshape(index, (-1, 1)),
        ops.reshape(ops.transpose(scores, order), (-1, columns)),
        reduction="add",
    )
    if order[0] == 2:
        return ops.transpose(ops.reshape(sums, (length, num_distances, batch, heads)), (2, 0, 3, 1))
    return ops.transpose(ops.reshape(sums, (batch, length, num_distances, heads)), (0, 1, 3, 2))


def sinusoid_logits(content, query_positions, key_positions, frequencies):
    """`content · sinusoid(query position - key position)` for each query and key, without a sinusoid for each pair.

    Args:
        content: float32 `[B, T, N, 2F]`: what multiplies the F sines, then what multiplies the F cosines.
        query_positions, key_positions: int `[T]` or `[B, T]`, and `[S]` or `[B, S]`.
        frequencies: numpy float64 `[F]`.

    Returns:
        float32 `[B, N, T, S]`. By the addition theorems the angle of the query moves into `content`, and what is left
        is a product with the sinusoids of the keys.
    """
    sine, cosine = (part[..., None, :] for part in sine_and_cosine(_with_batch(query_positions), frequencies))
    of_sines, of_cosines = content[..., : len(frequencies)], content[..., len(frequencies) :]
    turned = [of_cosines * sine - of_sines * cosine, of_sines * sine + of_cosines * cosine]
    keys = ops.concatenate(sine_and_cosine(_with_batch(key_positions), frequencies), axis=-1)
    content = ops.concatenate(turned, axis=-1)
    if keys.shape[0] == 1:
        return ops.einsum("btnf,sf->bnts", content, keys[0])
    return ops.einsum("btnf,bsf->bnts", content, keys)


def _with_batch(positions):
    positions = ops.cast(positions, "int32")
    return ops.expand_dims(positions, 0) if len(positions.shape) == 1 else positions
