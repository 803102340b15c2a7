"""Attention a block of queries at a time, each computed again for the gradient: memory linear in the length.

A row of scores concerns one query. So the queries are cut into blocks, the equation of the reference is computed for
each with the keys that it may see, and no block is kept: there are never more scores than those of one block. What the
reference serves is served here, functions that hold weights among it.
"""

import dataclasses
import functools

import keras
from keras import ops

from keras_tfm import backend
from keras_tfm.backend.kernel import Kernel
from keras_tfm.ops.masks import AttentionMask
from keras_tfm.ops.query_panels import query_panels
from keras_tfm.ops.reference_attention import attend, grouped_matmul
from keras_tfm.ops.request_cuts import attend_to_pieces, part, with_positions

MEBIBYTE = 2**20
# Of all scores in float32: beyond it blocks are preferred. JAX is faster by blocks long before memory is short: 2,048
# tokens and 8 heads took 179 ms against 271.
BUDGET = (64 if keras.backend.backend() == "jax" else 256) * MEBIBYTE
BLOCK_BYTES = 32 * MEBIBYTE  # of the scores of a block, where heads are computed together
HEAD_BYTES = (16 if keras.backend.backend() == "tensorflow" else 4) * MEBIBYTE  # and where one after the other
SMALLEST_BLOCK = 16  # queries


def _why_not(request):
    if request.return_scores:
        return "scores were asked for, and blocks never hold all of them"
    if request.dropout is not None and not request.dropout.has_mask:
        return "dropout is a function that drops from all scores at once"
    if None in (request.query.shape[1], request.key.shape[1]):
        return "lengths are not known, so that they cannot be cut"
    return None


def _why_rather_not(request):
    size = request.query.shape[1] * _row_bytes(request)
    if size <= BUDGET:
        return f"the scores take {size / MEBIBYTE:.3g} MiB of a budget of {BUDGET / MEBIBYTE:.3g}"
    return None


def _row_bytes(request):
    """Those of the scores of one query each; an unknown batch counts as one sequence."""
    return 4 * (request.query.shape[0] or 1) * request.query.shape[2] * request.key.shape[1]


def _run(request):
    # Keys and values in float32, in which the gradients of all blocks are added up; heads first, so that no block has
    # to turn them around.
    whole = dataclasses.replace(
        with_positions(request),
        query=ops.transpose(request.query, (0, 2, 1, 3)),
        key=ops.cast(ops.transpose(request.key, (0, 2, 3, 1)), "float32"),
        value=ops.cast(ops.transpose(request.value, (0, 2, 3, 1)), "float32"),
        biases=tuple(bias if callable(bias) else ops.cast(bias, "float32") for bias in request.biases),
        dropout=_placed_dropout(request),
    )
    return _plan(request)(whole), None


def _placed_dropout(request):
    """Each block draws its part of the mask of all scores, for its gradient once more."""
    if request.dropout is None:
        return None
    batch, queries, num_heads, _ = ops.shape(request.query)
    return request.dropout.place((batch, num_heads, queries, request.key_length))


def _plan(request):
    """In which order sequences, heads and queries are gone through: a function of a request, heads first."""
    dtypes, row_bytes = (request.key.dtype, request.value.dtype), _row_bytes(request)
    attend_to_block = functools.partial(_attend, dtypes=dtypes)
    by_rows = functools.partial(_by_rows, mask=request.mask)
    if _goes_head_by_head(request):
        if not any(callable(bias) for bias in request.biases):
            size = _block_size(HEAD_BYTES, 4 * request.key.shape[1] * request.query.shape[2] // request.key.shape[2])
            return functools.partial(_by_head, attend=functools.partial(by_rows, attend=attend_to_block, size=size))

        def attend_to_block(block):
            return _by_head(_with_dense_bias(block, dtypes), functools.partial(_attend, dtypes=dtypes))

    elif request.query.shape[0] and row_bytes * request.query.shape[1] <= request.query.shape[0] * BLOCK_BYTES:
        size = row_bytes * request.query.shape[1] // request.query.shape[0]
        return functools.partial(_by_sequence, attend=attend_to_block, bytes_of_one=size)
    return functools.partial(by_rows, attend=attend_to_block, size=_block_size(BLOCK_BYTES, row_bytes))


def _goes_head_by_head(request):
    """Whether single matrices are faster than batches of them: XLA's are on a CPU, above all transposed."""
    if not _has_separate_heads(request):
        return False
    # TensorFlow would build the graph of each head anew in an eager call, and must know how many sequences there are.
    by_graph = keras.backend.backend() == "tensorflow" and backend.is_traced() and request.query.shape[0] is not None
    return by_graph or keras.backend.backend() == "jax"


def _has_separate_heads(request):
    return request.score is None and request.mixing is None and request.value_bias is None


def _block_size(block_bytes, row_bytes):
    size = max(block_bytes // row_bytes, SMALLEST_BLOCK)
    return size - size % 32 if size > 32 else size


def _by_rows(request, attend, mask, size):
    """Block after block of queries, none of them kept."""
    outputs = []
    for start, stop, first, last in query_panels(mask, request.query.shape[2], request.key.shape[3], size):
        panel = part(part(request, "T", start, stop), "S", first, last)
        outputs.append(attend_to_pieces(panel, "T", -(-(stop - start) // size), attend, backend.map_blocks))
    return outputs[0] if len(outputs) == 1 else ops.concatenate(outputs, axis=1)


def _by_head(request, attend):
    """Head after head of the keys, with the query heads that share it, sequence after sequence."""
    count = request.key.shape[1]
    by_head = functools.partial(attend_to_pieces, letters="NK", count=count, attend=attend, mapping=_map)
    return attend_to_pieces(request, "B", request.query.shape[0], by_head, _map)


def _by_sequence(request, attend, bytes_of_one):
    """As many sequences at a time as a block holds, none of them kept."""
    batch = request.query.shape[0]
    count = next(n for n in range(1, batch + 1) if batch % n == 0 and batch // n * bytes_of_one <= BLOCK_BYTES)
    return attend_to_pieces(request, "B", count, attend, backend.map_blocks)


def _map(function, pieces):
    return ops.map(lambda piece: function(*piece), pieces)


def _attend(block, dtypes):
    """`[B, T, N, Hv]`."""
    key, value = (ops.cast(x, dtype) for x, dtype in zip((block.key, block.value), dtypes, strict=True))
    query = block.query * ops.cast(block.scale, block.query.dtype)
    if tuple(query.shape[:2]) == (1, 1) and _has_separate_heads(block):
        return _attend_to_matrices(_with_dense_bias(block, dtypes), query[0, 0], key[0, 0], value[0, 0])
    return attend(
        _heads_last(block, dtypes),
        lambda _: ops.cast(_product(query, key), "float32"),
        lambda weights, _: ops.transpose(_product(weights, ops.swapaxes(value, 2, 3)), (0, 2, 1, 3)),
    )[0]


def _attend_to_matrices(block, query, key, value):
    """As `_attend`, of one head: XLA on a CPU takes a third longer over the same with axes of size 1."""
    mask = block.mask.materialize(query.shape[0], key.shape[1])
    output, _ = attend(
        dataclasses.replace(
            block,
            value=ops.transpose(value),
            mask=AttentionMask(explicit=None if mask is None else _as_matrix(mask)),
            biases=tuple(_as_matrix(bias) for bias in block.biases),
            dropout=_as_matrix_dropout(block.dropout),
        ),
        lambda _: ops.cast(backend.product(query, key), "float32"),
        lambda weights, _: backend.product(_as_matrix(weights), ops.transpose(value)),
    )
    return output[None, :, None]


def _as_matrix_dropout(dropout):
    return None if dropout is None else dataclasses.replace(dropout, rows=dropout.rows[0, 0])


def _as_matrix(x):
    return ops.reshape(x, tuple(x.shape[-2:]))


def _product(heads, shared):
    """As `grouped_matmul`; of one matrix of keys as a plain product, which XLA computes faster than a batch of one."""
    if tuple(shared.shape[:2]) != (1, 1):
        return grouped_matmul(heads, shared)
    _, num_heads, length, width = heads.shape
    product = backend.product(ops.reshape(heads, (num_heads * length, width)), shared[0, 0])
    return ops.reshape(product, (1, num_heads, length, shared.shape[-1]))


def _heads_last(block, dtypes):
    """As functions of the request know it."""
    return dataclasses.replace(
        block,
        query=ops.transpose(block.query, (0, 2, 1, 3)),
        key=ops.cast(ops.transpose(block.key, (0, 3, 1, 2)), dtypes[0]),
        value=ops.cast(ops.transpose(block.value, (0, 3, 1, 2)), dtypes[1]),
    )


def _with_dense_bias(block, dtypes):
    bias = _heads_last(block, dtypes).bias()
    return dataclasses.replace(block, biases=() if bias is None else (bias,))


BLOCK = Kernel("block", _why_not, _run, _why_rather_not)
