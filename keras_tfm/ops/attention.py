"""Attention: a request goes to the first kernel that can serve it."""

import contextlib
import contextvars
import dataclasses
import math

from keras import ops

from keras_tfm import backend
from keras_tfm.backend.kernel import Kernel
from keras_tfm.ops.attention_request import AttentionRequest, ScoreDropout
from keras_tfm.ops.beam_attention import BEAM, look_up
from keras_tfm.ops.block_attention import BLOCK
from keras_tfm.ops.dense_attention import DENSE
from keras_tfm.ops.masks import AttentionMask
from keras_tfm.ops.reference_attention import REFERENCE
from keras_tfm.ops.single_query import SINGLE_QUERY
from keras_tfm.ops.sliding_window import cut_windows, why_not_windows


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
    score=None,
    sink=None,
    mixing=None,
    value_bias=None,
    has_finite_keys=False,
    has_heads_apart=False,
    origins=None,
    label=None,
):
    """Computes `softmax(query · keyᵀ · scale + bias) · value` under a mask.

    Args:
        query: float `[B, T, N, H]`.
        key: float `[B, S, K, H]`; K divides N, and K < N shares each key head among N / K query heads.
        value: float `[B, S, K, Hv]`.
        mask: an `AttentionMask`; `None` allows all.
        bias: what is added to the logits after scaling and capping: a float tensor broadcastable to `[B, N, T, S]`, a
            function of `(query, key, query_positions, key_positions)` that returns one (see `AttentionPosition.bias`),
            or a tuple of these.
        scale: factor on the logits; `None` means 1 / √H.
        logit_soft_cap: `c` turns logits `x` into `c · tanh(x / c)`; `None` leaves them.
        dropout: a function applied to the scores before they weigh the values, or a `ScoreDropout`; `None` for none.
        return_scores: whether the scores are returned as well.
        score: a function of query and key that returns logits `[B, N, T, S]` in place of the scaled dot product.
        sink: float `[N]`, the logit of a key that is always there and has no value: the scores of a row then sum to
            less than 1.
        mixing: an object with `mix_logits` and `mix_scores`, functions of `[B, N, T, S]` (talking heads).
        value_bias: a function of `(scores, query_positions, key_positions)` that returns `[B, T, N, Hv]`, added to
            the output.
        has_finite_keys: whether keys and values are known to be finite everywhere, as in a cache; then none are zeroed.
        has_heads_apart: whether the keys of one head lie side by side in memory, as in a `LoopCache`.
        origins: int32 `[B / G, G, S]`, where rows of a group of G see keys of each other: row j of a group sees at
            position s what row `origins[:, j, s]` of the group holds; `None` where each sees its own.
        label: a name for who asks, shown by reports.

    Returns:
        `(output [B, T, N, Hv], scores)`, scores `[B, N, T, S]` before dropout if asked for, else `None`.

    Masking:
        A query with nothing to attend to gets zeros, as output and as scores, from every kernel. Whatever keys and
        values hold where no query may look, infinities and NaN too, reaches neither outputs nor gradients.

    Numerics:
        The softmax is computed in float32.

    Raises:
        ValueError: the number of key heads does not divide that of the query heads.

    Reference:
        Vaswani et al. 2017, "Attention Is All You Need", equation 1.

    Example:

    >>> import keras
    >>> heads = keras.random.normal((2, 5, 4, 8))
    >>> output, scores = attention(heads, heads, heads, AttentionMask(is_causal=True), return_scores=True)
    >>> tuple(output.shape), tuple(scores.shape)
    ((2, 5, 4, 8), (2, 4, 5, 5))
    """
    request = _request(
        query,
        key,
        value,
        mask,
        bias=bias,
        scale=scale,
        logit_soft_cap=logit_soft_cap,
        dropout=dropout,
        return_scores=return_scores,
        score=score,
        sink=sink,
        mixing=mixing,
        value_bias=value_bias,
        has_finite_keys=has_finite_keys,
        has_heads_apart=has_heads_apart,
        origins=origins,
        label=label,
    )
    return serve_request(request)


def serve_request(request):
    """As `attention`, of an `AttentionRequest`."""
    kernel = _first_kernel(request)
    if request.origins is not None and kernel is not BEAM:
        request = _followed(request)
    for observe in _OBSERVERS.get():
        observe(request, kernel)
    if kernel is SLIDING_WINDOW:
        return _run_windows(request)
    rows = request.live_rows
    output, scores = kernel.run(_without_what_nobody_sees(request, rows))
    if rows is None:
        return output, scores
    output = backend.zeroed(output, _by_token(rows))
    if scores is not None:
        scores = backend.zeroed(scores, ops.expand_dims(rows, -1))
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
    return explain_request(_request(query, key, value, mask, **arguments))


def explain_request(request):
    """As `explain_attention`, of an `AttentionRequest`."""
    return [(kernel.name, kernel.why_not(request) or kernel.why_rather_not(request)) for kernel in kernels()]


def kernels():
    """The kernels of this backend, the preferred first; the reference is always last and serves every request."""
    return (BEAM, SLIDING_WINDOW, *backend.KERNELS, SINGLE_QUERY, BLOCK, DENSE, REFERENCE)


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
    with _set(_FORCED, name):
        yield


@contextlib.contextmanager
def observe_attention(observe):
    """Calls `observe(request, kernel)` for each attention computed inside the `with` block, before it runs."""
    with _set(_OBSERVERS, (*_OBSERVERS.get(), observe)):
        yield


_FORCED = contextvars.ContextVar("keras_tfm_forced_kernel", default=None)
_OBSERVERS = contextvars.ContextVar("keras_tfm_attention_observers", default=())


@contextlib.contextmanager
def _set(variable, value):
    token = variable.set(value)
    try:
        yield
    finally:
        variable.reset(token)


def _request(query, key, value, mask=None, *, bias=None, scale=None, dropout=None, **others):
    query, key, value = (ops.convert_to_tensor(x) for x in (query, key, value))
    if query.shape[2] % key.shape[2]:
        raise ValueError(
            "The number of key heads must divide the number of query heads. "
            f"Received: query.shape={tuple(query.shape)}, key.shape={tuple(key.shape)}"
        )
    scale = 1.0 / math.sqrt(query.shape[-1]) if scale is None else scale
    biases = tuple(each for each in (bias if isinstance(bias, tuple) else (bias,)) if each is not None)
    if dropout is not None and not isinstance(dropout, ScoreDropout):
        dropout = ScoreDropout(dropout)
    mask = AttentionMask() if mask is None else mask
    return AttentionRequest(query, key, value, mask, biases=biases, scale=scale, dropout=dropout, **others)


def _first_kernel(request):
    forced = _FORCED.get()
    for kernel in kernels():
        if forced not in (None, kernel.name):
            continue
        reason = kernel.why_not(request)
        if reason is None and (forced or kernel.why_rather_not(request) is None):
            return kernel
        if forced:
            raise ValueError(f"Kernel {kernel.name!r} cannot serve this request: {reason}.")
    raise RuntimeError("The reference kernel serves every request.")


def _followed(request):
    """The request with keys and values in the rows that see them."""
    key, value = (look_up(x, request.origins) for x in (request.key, request.value))
    return dataclasses.replace(request, key=key, value=value, origins=None)


def _without_what_nobody_sees(request, rows):
    """Zeros in place of keys, values and queries that take no part: a kernel multiplies them by zero, and 0 · NaN."""
    keys = None if request.has_finite_keys else request.mask.live_keys(request.query_length, request.key_length)
    query, key, value = request.query, request.key, request.value
    if keys is not None:
        keys = keys[:, :, None, None]
        key, value = (backend.zeroed(x, keys) for x in (key, value))
    if rows is not None and request.mixing is not None:
        rows = ops.any(rows, axis=1, keepdims=True)  # a head that sees nothing still has logits that others mix in
    if rows is not None:
        query = backend.zeroed(query, _by_token(rows))
    return dataclasses.replace(request, query=query, key=key, value=value)


def _by_token(rows):
    return ops.expand_dims(ops.transpose(rows, (0, 2, 1)), -1)


def _run_windows(request):
    requests, join = cut_windows(request)
    with _set(_FORCED, None):
        return join([serve_request(each)[0] for each in requests]), None


SLIDING_WINDOW = Kernel("sliding_window", why_not_windows, _run_windows)
