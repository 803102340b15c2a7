"""One query for each of several beams, whose keys stand in rows of each other: every row of keys is read once.

What a hypothesis sees was written by several rows. Looked up, its keys are copied at each step; here the queries of all
beams of a sentence are multiplied with every row of keys of that sentence, and the table of origins picks from the
products. That is K times the arithmetic and a third of the memory traffic (see `LoopCache`).
"""

import functools

from keras import ops

from keras_tfm.backend.kernel import Kernel
from keras_tfm.ops.reference_attention import attend

MOST_BEAMS = 32


def look_up(leaf, origins):
    """What each row sees.

    Args:
        leaf: `[R, S, ...]`.
        origins: int32 `[R / G, G, S]`: row j of a group of G sees at position s what its row `origins[:, j, s]` holds.

    Returns:
        `[R, S, ...]`.
    """
    rows, length, *rest = ops.shape(leaf)
    groups, size, _ = ops.shape(origins)
    first = ops.arange(groups, dtype="int32")[:, None, None] * size
    places = ops.reshape(origins + first, (rows, length)) * length + ops.arange(length, dtype="int32")
    return ops.take(ops.reshape(leaf, (rows * length, *rest)), places, axis=0)


def _why_not(request):
    if request.origins is None:
        return "no table says that keys stand in other rows"
    if request.query.shape[1] != 1:
        return "it takes one query a row"
    if request.score is not None or any(map(callable, request.biases)):
        return "logits that are no plain products may read the keys"
    return None


def _why_rather_not(request):
    if request.origins is not None and request.origins.shape[1] > MOST_BEAMS:
        return f"more than {MOST_BEAMS} beams would multiply more than is read"
    return None


def _dot_logits(request):
    rows, _, num_heads, size = ops.shape(request.query)
    groups, beams, length = ops.shape(request.origins)
    shared = request.key.shape[2]
    query = request.query * ops.cast(request.scale, request.query.dtype)
    query = ops.reshape(query, (groups, beams, shared, num_heads // shared, size))
    query = ops.expand_dims(ops.transpose(query, (0, 2, 1, 3, 4)), 1)
    query = ops.broadcast_to(query, (groups, beams, *ops.shape(query)[2:]))
    query = ops.reshape(query, (rows, shared, beams * num_heads // shared, size))
    products = ops.cast(ops.matmul(query, ops.transpose(request.key, (0, 2, 3, 1))), "float32")
    products = ops.reshape(products, (groups, beams, shared, beams, num_heads // shared, length))
    logits = ops.sum(ops.where(_is_there(request.origins), products, ops.zeros((), products.dtype)), axis=1)
    return ops.reshape(ops.transpose(logits, (0, 2, 1, 3, 4)), (rows, num_heads, 1, length))


def _weigh(origins, weights, value):
    rows, num_heads, _, length = ops.shape(weights)
    groups, beams, _ = ops.shape(origins)
    shared, size = value.shape[2:]
    weights = ops.reshape(weights, (groups, beams, shared, num_heads // shared, length))
    weights = ops.expand_dims(ops.transpose(weights, (0, 2, 1, 3, 4)), 1)
    weights = ops.where(_is_there(origins), weights, ops.zeros((), weights.dtype))
    weights = ops.reshape(weights, (rows, shared, beams * num_heads // shared, length))
    output = ops.matmul(weights, ops.transpose(value, (0, 2, 1, 3)))
    output = ops.sum(ops.reshape(output, (groups, beams, shared, beams, num_heads // shared, size)), axis=1)
    return ops.reshape(ops.transpose(output, (0, 2, 1, 3, 4)), (rows, 1, num_heads, size))


def _is_there(origins):
    """bool `[R / G, G, 1, G, 1, S]`: whether a row of keys holds what a beam sees at a position."""
    rows = ops.arange(origins.shape[1], dtype="int32")[None, :, None, None, None, None]
    return ops.equal(ops.cast(origins, "int32")[:, None, None, :, None, :], rows)


def _run(request):
    return attend(request, _dot_logits, functools.partial(_weigh, request.origins))


BEAM = Kernel("beam", _why_not, _run, _why_rather_not)
