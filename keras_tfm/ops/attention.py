"""Scaled dot-product attention: a request goes to the first kernel that can serve it."""

import contextlib
import contextvars
import dataclasses
import math
from collections.abc import Callable
from typing import Any

from keras import ops

from keras_tfm import backend
from keras_tfm.backend.kernel import Kernel
from keras_tfm.ops.masks import AttentionMask

# Finite, so that a masked row's softmax and its gradient stay finite; far below any logit, so that its exponential is
# exactly zero.
MASKED_LOGIT = -1e30


@dataclasses.dataclass(frozen=True)
class AttentionRequest:
    """All that a kernel needs to know: heads `[B, T, N, H]`, `[B, S, K, H]`, `[B, S, K, Hv]` and how to attend."""

    query: Any
    key: Any
    value: Any
    mask: AttentionMask
    bias: Any
    scale: float
    logit_soft_cap: float | None
    dropout: Callable | None
    return_scores: bool

    @property
    def query_length(self):
        """T: an int where it is known, else a scalar tensor."""
        return ops.shape(self.query)[1]

    @property
    def key_length(self):
        """S: an int where it is known, else a scalar tensor."""
        return ops.shape(self.key)[1]

    @property
    def is_plain_causal(self):
        """Whether causality from position 0 is all there is, so that a kernel's own causal mode applies."""
        mask = self.mask
        others = (mask.window, mask.key_padding, mask.segments, mask.explicit, self.bias)
        from_start = isinstance(mask.query_offset, int) and mask.query_offset == 0
        return mask.is_causal and from_start and all(part is None for part in others)


def attention(
    query,
    key,
    value,
    mask=None,
    *,
    bias=None,
    scale=None,
    logit_soft_cap=None,
    dropout=None,
    return_scores=False,
):
    """Computes `softmax(query · keyᵀ · scale + bias) · value` under a mask.

    Args:
        query: float `[B, T, N, H]`.
        key: float `[B, S, K, H]`; K divides N, and K < N shares each key head among N / K query heads.
        value: float `[B, S, K, Hv]`.
        mask: an `AttentionMask`; `None` allows all.
        bias: float broadcastable to `[B, N, T, S]`, added to the logits after scaling.
        scale: factor on the logits; `None` means 1 / √H.
        logit_soft_cap: `c` turns logits `x` into `c · tanh(x / c)`; `None` leaves them.
        dropout: a function applied to the scores before they weigh the values, or `None`.
        return_scores: whether to return the scores.

    Returns:
        `(output [B, T, N, Hv], scores [B, N, T, S])`, scores `None` unless asked for. Scores are those before dropout.

    Masking:
        A query with nothing to attend to gets zeros, as output and as scores, from every kernel.

    Numerics:
        The softmax is computed in float32.

    Reference:
        Vaswani et al. 2017, "Attention Is All You Need", equation 1.

    Example:

    >>> import keras
    >>> heads = keras.random.normal((2, 5, 4, 8))
    >>> output, scores = attention(heads, heads, heads, AttentionMask(is_causal=True), return_scores=True)
    >>> tuple(output.shape), tuple(scores.shape)
    ((2, 5, 4, 8), (2, 4, 5, 5))
    """
    request = _request(query, key, value, mask, bias, scale, logit_soft_cap, dropout, return_scores)
    output, scores = _first_kernel(request).run(request)
    rows = request.mask.live_rows(request.query_length, request.key_length)
    if rows is None:
        return output, scores
    output = ops.where(ops.expand_dims(ops.transpose(rows, (0, 2, 1)), -1), output, ops.zeros((), output.dtype))
    if scores is not None:
        scores = ops.where(ops.expand_dims(rows, -1), scores, ops.zeros((), scores.dtype))
    return output, scores


def explain_attention(query, key, value, mask=None, **arguments):
    """Says which kernel `attention` would run for these arguments, and why not the ones before it.

    Args:
        query, key, value, mask, **arguments: as `attention` takes them.

    Returns:
        A list of `(kernel name, reason)` in order of preference; the reason is `None` for kernels that could run. The
        first of those runs.

    Example:

    >>> import keras
    >>> heads = keras.random.normal((1, 5, 2, 8))
    >>> explain_attention(heads, heads, heads, return_scores=True)[-1]
    ('reference', None)
    """
    defaults = dict(bias=None, scale=None, logit_soft_cap=None, dropout=None, return_scores=False)
    request = _request(query, key, value, mask, **{**defaults, **arguments})
    return [(kernel.name, kernel.why_not(request)) for kernel in kernels()]


def kernels():
    """The kernels of this backend, the preferred first; the reference is always last and serves every request."""
    return (*backend.KERNELS, REFERENCE)


@contextlib.contextmanager
def use_kernel(name):
    """Makes `attention` run one kernel, or raise with its reason if it cannot.

    Args:
        name: a name from `kernels()`.

    Raises:
        ValueError: no kernel of this backend has that name, or it cannot serve a request.
    """
    names = [kernel.name for kernel in kernels()]
    if name not in names:
        raise ValueError(f"`name` must be a kernel of this backend, one of {names}. Received: name={name!r}")
    token = _FORCED.set(name)
    try:
        yield
    finally:
        _FORCED.reset(token)


_FORCED = contextvars.ContextVar("keras_tfm_forced_kernel", default=None)


def _request(query, key, value, mask, bias, scale, logit_soft_cap, dropout, return_scores):
    if query.shape[2] % key.shape[2]:
        raise ValueError(
            "The number of key heads must divide the number of query heads. "
            f"Received: query.shape={tuple(query.shape)}, key.shape={tuple(key.shape)}"
        )
    scale = 1.0 / math.sqrt(query.shape[-1]) if scale is None else scale
    mask = AttentionMask() if mask is None else mask
    return AttentionRequest(query, key, value, mask, bias, scale, logit_soft_cap, dropout, return_scores)


def _first_kernel(request):
    forced = _FORCED.get()
    for kernel in kernels():
        if forced not in (None, kernel.name):
            continue
        reason = kernel.why_not(request)
        if reason is None:
            return kernel
        if forced:
            raise ValueError(f"Kernel {kernel.name!r} cannot serve this request: {reason}.")
    raise RuntimeError("The reference kernel serves every request.")


def _run_reference(request):
    query = ops.transpose(request.query, (0, 2, 1, 3)) * ops.cast(request.scale, request.query.dtype)
    key = ops.transpose(request.key, (0, 2, 3, 1))
    value = ops.transpose(request.value, (0, 2, 1, 3))
    logits = ops.cast(_grouped_matmul(query, key), "float32")
    if request.logit_soft_cap is not None:
        logits = request.logit_soft_cap * ops.tanh(logits / request.logit_soft_cap)
    if request.bias is not None:
        logits = logits + ops.cast(request.bias, "float32")
    mask = request.mask.materialize(request.query_length, request.key_length)
    if mask is not None:
        logits = ops.where(mask, logits, ops.cast(MASKED_LOGIT, "float32"))
    scores = ops.cast(_softmax(logits), request.value.dtype)
    weights = scores if request.dropout is None else request.dropout(scores)
    output = ops.transpose(_grouped_matmul(weights, value), (0, 2, 1, 3))
    return output, scores if request.return_scores else None


def _softmax(logits):
    # Keras warns of a softmax over one element, as if a sigmoid had been meant; one key is no mistake here.
    return ops.exp(logits - logits) if logits.shape[-1] == 1 else ops.softmax(logits, axis=-1)


def _grouped_matmul(heads, shared):
    """`heads [B, N, T, X]` times `shared [B, K, X, Y]`: each shared matrix serves N / K heads, and is not repeated."""
    num_heads, num_shared = heads.shape[1], shared.shape[1]
    if num_heads == num_shared:
        return ops.matmul(heads, shared)
    batch, _, length, width = ops.shape(heads)
    folded = ops.reshape(heads, (batch, num_shared, num_heads // num_shared * length, width))
    product = ops.matmul(folded, shared)
    return ops.reshape(product, (batch, num_heads, length, ops.shape(shared)[-1]))


REFERENCE = Kernel("reference", lambda request: None, _run_reference)
