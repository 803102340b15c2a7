"""Attention over all scores at once, with its gradient written down: fewer passes over them than by differentiation."""

import keras
from keras import ops

from keras_tfm import backend
from keras_tfm.backend.kernel import Kernel
from keras_tfm.ops.reference_attention import MASKED_LOGIT, grouped_matmul


def _why_not(request):
    if request.return_scores:
        return "scores were asked for, and their gradient is not written down"
    if request.score is not None or request.mixing is not None:
        return "the logits are no dot products, or heads are mixed: that gradient is not written down"
    if request.sink is not None or request.value_bias is not None:
        return "the gradient of sinks and relative values is not written down"
    if request.dropout is not None and request.dropout.keep_mask is None:
        return "the dropout is a function, which the gradient cannot draw again"
    if request.has_finite_keys:
        return "keys are in a cache, so that no gradient is taken"
    return None


def _why_rather_not(request):
    if keras.backend.backend() == "torch":
        return "PyTorch differentiates a softmax in one pass by itself"
    return None


def _run(request):
    cap, rate = request.logit_soft_cap, 0.0 if request.dropout is None else request.dropout.rate
    mask = request.mask.materialize(request.query_length, request.key_length)
    bias = request.bias()
    bias = None if bias is None else ops.reshape(bias, (*[1] * (4 - len(bias.shape)), *ops.shape(bias)))

    def forward(query, key, value, bias, mask, is_kept):
        logits = ops.cast(grouped_matmul(query, key, _row_products), "float32")
        capped = logits if cap is None else cap * ops.tanh(logits / cap)
        logits = capped if bias is None else capped + bias
        logits = logits if mask is None else ops.where(mask, logits, MASKED_LOGIT)
        exponentials = ops.exp(logits - ops.max(logits, axis=-1, keepdims=True))
        scores = ops.cast(exponentials / ops.sum(exponentials, axis=-1, keepdims=True), value.dtype)
        weights = scores
        if rate:  # what is dropped gets a sign, so that its mask takes no memory
            weights = ops.where(is_kept, scores * ops.cast(1 / (1 - rate), scores.dtype), ops.zeros((), scores.dtype))
            scores = ops.where(is_kept, scores, -scores)
        output = grouped_matmul(weights, value)
        return output, (query, key, value, bias, scores, capped if cap else None, output)

    def backward(saved, upstream):
        query, key, value, bias, scores, capped, output = saved
        scores = backend.not_before(scores, upstream)
        of_value = _shared_matmul(_dropped(scores, scores, rate), upstream, value)
        slopes = ops.cast(_dropped(grouped_matmul(upstream, value, _row_products), scores, rate), "float32")
        common = ops.sum(ops.cast(upstream, "float32") * ops.cast(output, "float32"), axis=-1, keepdims=True)
        slopes = ops.cast(ops.abs(scores), "float32") * (slopes - common)
        of_bias = None if bias is None else _summed_to(slopes, bias)
        slopes = slopes if capped is None else slopes * (1.0 - ops.square(capped / cap))
        slopes = ops.cast(slopes, query.dtype)
        of_query, of_key = grouped_matmul(slopes, key), _shared_matmul(slopes, query, key)
        return of_query, of_key, of_value, of_bias, None, None

    query, key, value = (ops.transpose(x, (0, 2, 1, 3)) for x in (request.query, request.key, request.value))
    is_kept = None
    if rate:
        shape = (ops.shape(query)[0], query.shape[1], request.query_length, request.key_length)
        is_kept = request.dropout.keep_mask(shape, like=query)
    query = query * ops.cast(request.scale, query.dtype)
    output = backend.custom_gradient(forward, backward)(query, key, value, bias, mask, is_kept)
    return ops.transpose(output, (0, 2, 1, 3)), None


def _row_products(x, y):
    """`x [B, K, T, X]` times the transpose of `y [B, K, S, X]`."""
    # Not by transposing `y` first: XLA on a CPU would hold both.
    return ops.einsum("bktx,bksx->bkts", x, y)


def _dropped(x, scores, rate):
    """`x` where scores are positive, scaled up; zero where a negative sign says that they were dropped."""
    if not rate:
        return x
    return ops.where(scores > 0, x * ops.cast(1 / (1 - rate), x.dtype), ops.zeros((), x.dtype))


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
