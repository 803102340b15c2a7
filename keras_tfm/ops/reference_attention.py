"""The reference kernel: attention as it is written down. It serves every request and gives scores."""

from keras import ops

from keras_tfm.backend.kernel import Kernel

# Finite, so that a masked row's softmax and its gradient stay finite; far below any logit, so that its exponential is
# exactly zero.
MASKED_LOGIT = -1e30


def attend(request, dot_logits, weigh):
    """Attention by two functions.

    Args:
        request: an `AttentionRequest`.
        dot_logits: of a request, the scaled products float32 `[B, N, T, S]`.
        weigh: of weights `[B, N, T, S]` and values `[B, S, K, Hv]`, the output `[B, T, N, Hv]`.

    Returns:
        `(output, scores)`, as a kernel does.
    """
    mask = request.mask.materialize(request.query_length, request.key_length)
    scores = ops.cast(_scores(request, mask, dot_logits), request.value.dtype)
    weights = scores if request.dropout is None else request.dropout.apply(scores)
    output = weigh(weights, request.value)
    if request.value_bias is not None:
        output = output + ops.cast(request.value_bias(weights, *request.positions), output.dtype)
    return output, scores if request.return_scores else None


def _scores(request, mask, dot_logits):
    """float32 `[B, N, T, S]`."""
    logits = (
        dot_logits(request) if request.score is None else ops.cast(request.score(request.query, request.key), "float32")
    )
    if request.logit_soft_cap is not None:
        logits = request.logit_soft_cap * ops.tanh(logits / request.logit_soft_cap)
    bias = request.bias()
    if bias is not None:
        logits = logits + bias
    if request.mixing is not None:
        logits = ops.cast(request.mixing.mix_logits(logits), "float32")
    if mask is not None:
        logits = ops.where(mask, logits, ops.cast(MASKED_LOGIT, "float32"))
    scores = softmax(logits) if request.sink is None else _softmax_with_sink(logits, request.sink)
    if request.mixing is None:
        return scores
    mixed = ops.cast(request.mixing.mix_scores(_visible(scores, mask)), "float32")
    return _visible(mixed, mask)


def _visible(scores, mask):
    """Zeros where the mask is False: heads with masks of their own exchange nothing that one of them must not see."""
    return scores if mask is None else ops.where(mask, scores, ops.zeros((), "float32"))


def _dot_logits(request):
    query = ops.transpose(request.query, (0, 2, 1, 3)) * ops.cast(request.scale, request.query.dtype)
    return ops.cast(grouped_matmul(query, ops.transpose(request.key, (0, 2, 3, 1))), "float32")


def _weigh(weights, value):
    return ops.transpose(grouped_matmul(weights, ops.transpose(value, (0, 2, 1, 3))), (0, 2, 1, 3))


def softmax(logits):
    """Of the last axis."""
    # Keras warns of a softmax over one element, as if a sigmoid had been meant; one key is no mistake here.
    return ops.exp(logits - logits) if logits.shape[-1] == 1 else ops.softmax(logits, axis=-1)


def _softmax_with_sink(logits, sink):
    sink = ops.reshape(ops.cast(sink, "float32"), (1, -1, 1, 1))
    largest = ops.stop_gradient(ops.maximum(ops.max(logits, axis=-1, keepdims=True), sink))
    exponentials = ops.exp(logits - largest)
    return exponentials / (ops.sum(exponentials, axis=-1, keepdims=True) + ops.exp(sink - largest))


def grouped_matmul(heads, shared, multiply=ops.matmul):
    """`heads [B, N, T, X]` times `shared [B, K, X, Y]`: each shared matrix serves N / K heads, and is not repeated.

    `multiply` is the product of as many heads; one that turns its second operand takes `shared` turned.
    """
    num_heads, num_shared = heads.shape[1], shared.shape[1]
    if num_heads == num_shared:
        return multiply(heads, shared)
    batch, _, length, width = ops.shape(heads)
    folded = ops.reshape(heads, (batch, num_shared, num_heads // num_shared * length, width))
    product = multiply(folded, shared)
    return ops.reshape(product, (batch, num_heads, length, ops.shape(product)[-1]))


REFERENCE = Kernel("reference", lambda request: None, lambda request: attend(request, _dot_logits, _weigh))
