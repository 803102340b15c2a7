"""Attention over all scores at once, with its gradient written down: fewer passes over them than by differentiation."""

import keras
from keras import ops

from keras_tfm import backend
from keras_tfm.backend.kernel import Kernel
from keras_tfm.ops.held_scores import drop_of
from keras_tfm.ops.reference_attention import MASKED_LOGIT, grouped_matmul, softmax


def _why_not(request):
    if request.return_scores:
        return "scores were asked for, and their gradient is not written down"
    if request.score is not None or request.mixing is not None:
        return "the logits are no dot products, or heads are mixed: that gradient is not written down"
    if request.sink is not None or request.value_bias is not None:
        return "the gradient of sinks and relative values is not written down"
    if request.dropout is not None and not request.dropout.has_mask:
        return "the dropout is a function, which the gradient cannot draw again"
    if request.has_finite_keys:
        return "keys are in a cache, so that no gradient is taken"
    return None


def _why_rather_not(request):
    if keras.backend.backend() == "torch":
        return "PyTorch differentiates a softmax in one pass by itself"
    return None


def _run(request):
    cap, drop = request.logit_soft_cap, drop_of(request.dropout)
    mask = request.mask.materialize(request.query_length, request.key_length)
    bias = request.bias()
    bias = None if bias is None else ops.reshape(bias, (*[1] * (4 - len(bias.shape)), *ops.shape(bias)))

    def forward(query, key, value, bias, mask, draws):
        logits = ops.cast(grouped_matmul(query, key, _row_products), "float32")
        capped = logits if cap is None else cap * ops.tanh(logits / cap)
        logits = capped if bias is None else capped + bias
        logits = logits if mask is None else logits + _added(mask)
        held = drop.hold(ops.cast(softmax(logits), value.dtype), draws)
        output = grouped_matmul(drop.dropped(held), value)
        return output, (query, key, value, bias, held, capped if cap else None, output)

    def backward(saved, upstream):
        query, key, value, bias, held, capped, output = saved
        held = backend.not_before(held, upstream)
        of_value = _shared_matmul(drop.dropped(held), upstream, value)
        slopes = ops.cast(grouped_matmul(upstream, value, _row_products), "float32")
        common = ops.sum(ops.cast(upstream, "float32") * ops.cast(output, "float32"), axis=-1, keepdims=True)
        slopes = drop.slopes(held, slopes, common)
        of_bias = None if bias is None else _summed_to(slopes, bias)
        slopes = slopes if capped is None else slopes * (1.0 - ops.square(capped / cap))
        slopes = ops.cast(slopes, query.dtype)
        of_query, of_key = grouped_matmul(slopes, key), _shared_matmul(slopes, query, key)
        return of_query, of_key, of_value, of_bias, None, None

    query, key, value = (ops.transpose(x, (0, 2, 1, 3)) for x in (request.query, request.key, request.value))
    shape = (ops.shape(query)[0], query.shape[1], request.query_length, request.key_length)
    draws = drop.draws(shape, like=query)
    query = query * ops.cast(request.scale, query.dtype)
    output = backend.custom_gradient(forward, backward)(query, key, value, bias, mask, draws)
    return ops.transpose(output, (0, 2, 1, 3)), None


def _added(mask):
    """What masks logits where it is added to them: smaller than they are, it is chosen sooner."""
    return ops.where(mask, ops.zeros((), "float32"), ops.cast(MASKED_LOGIT, "float32"))


def _row_products(x, y):
    """`x [B, K, T, X]` times the transpose of `y [B, K, S, X]`."""
    # Not by transposing `y` first: XLA on a CPU would hold both.
    return ops.einsum("bktx,bksx->bkts", x, y)


def _shared_matmul(scores, heads, like):
    """`scoresᵀ` times `heads [B, N, T, X]`, summed over the heads that share each of `like [B, K, S, X]`."""
    batch, num_heads, queries, keys = ops.shape(scores)
    num_shared = like.shape[1]
    rows = num_heads // num_shared * queries
    scores = ops.reshape(scores, (batch, num_shared, rows, keys))
    return backend.transposed_product(scores, ops.reshape(heads, (batch, num_shared, rows, heads.shape[-1])))


def _summed_to(x, like):
    """`x [B, N, T, S]` summed over the axes along which `like` was broadcast."""
    axes = [axis for axis, size in enumerate(like.shape) if size == 1]
    return ops.sum(x, axis=axes, keepdims=True) if axes else x


DENSE = Kernel("dense", _why_not, _run, _why_rather_not)
