"""What the layers should compute, in plain numpy float64 and from the papers' equations, without Keras."""

import itertools
import math

import numpy as np


def attention(query, key, value, allowed=None, *, bias=0.0, scale=None, soft_cap=None):
    """`softmax(q · k · scale + bias) · v`, head by head.

    Args:
        query, key, value: `[B, T, N, H]`, `[B, S, K, H]`, `[B, S, K, Hv]`.
        allowed: bool, broadcastable to `[B, N, T, S]`.
        bias: broadcastable to `[B, N, T, S]`.

    Returns:
        `(output [B, T, N, Hv], scores [B, N, T, S])`; a row that may attend to nothing is zero.
    """
    logits = _capped(_raw_logits(query, key, scale), soft_cap) + bias
    scores = _softmax(logits, allowed)
    output = np.zeros((*query.shape[:3], value.shape[-1]))
    for b, n in itertools.product(range(query.shape[0]), range(query.shape[2])):
        output[b, :, n] = scores[b, n] @ value[b, :, _shared_head(n, query, key)]
    return output, scores


def attention_gradients(query, key, value, upstream, allowed=None, *, bias=0.0, scale=None, soft_cap=None):
    """Gradients of `sum(output · upstream)` with respect to query, key and value, by the chain rule."""
    scale = 1 / math.sqrt(query.shape[-1]) if scale is None else scale
    raw = _raw_logits(query, key, scale)
    scores = _softmax(_capped(raw, soft_cap) + bias, allowed)
    gradients = [np.zeros(x.shape) for x in (query, key, value)]
    for b, n in itertools.product(range(query.shape[0]), range(query.shape[2])):
        k = _shared_head(n, query, key)
        above = upstream[b, :, n]
        gradients[2][b, :, k] += scores[b, n].T @ above
        of_scores = above @ value[b, :, k].T
        of_logits = scores[b, n] * (of_scores - (scores[b, n] * of_scores).sum(-1, keepdims=True))
        if soft_cap is not None:
            of_logits = of_logits / np.cosh(raw[b, n] / soft_cap) ** 2
        gradients[0][b, :, n] += scale * of_logits @ key[b, :, k]
        gradients[1][b, :, k] += scale * of_logits.T @ query[b, :, n]
    return gradients


def allowed_pairs(
    batch, heads, queries, keys, *, causal=False, window=None, key_padding=None, query_padding=None, segments=None,
    explicit=None, offset=0, prefix=None, pattern=None, query_positions=None, key_positions=None,
):  # fmt: skip
    """bool `[B, N, T, S]`: whether each pair may attend, one pair at a time.

    Args:
        prefix: int `[B]`, how many first keys causality does not hide.
        pattern: a function of two positions, those of query and key.
        query_positions, key_positions: int `[B, T]` and `[B, S]`; by default the indices, the queries' after `offset`.
    """
    allowed = np.zeros((batch, heads, queries, keys), bool)
    for b, n, t, s in np.ndindex(allowed.shape):
        here = t + offset if query_positions is None else query_positions[b, t]
        there = s if key_positions is None else key_positions[b, s]
        rules = [
            not causal or there <= here or (prefix is not None and there < prefix[b]),
            window is None or abs(here - there) < window,
            pattern is None or pattern(here, there),
            key_padding is None or key_padding[b, s],
            query_padding is None or query_padding[b, t],
            segments is None or segments[0][b, t] == segments[1][b, s],
            explicit is None or (explicit[b, t, s] if explicit.ndim == 3 else explicit[b, n, t, s]),
        ]
        allowed[b, n, t, s] = all(rules)
    return allowed


def sinusoid(positions, dim, max_wavelength=10_000):
    """`[len(positions), dim]`: Vaswani et al. 2017, section 3.5."""
    table = np.zeros((len(positions), dim))
    for row, position in enumerate(positions):
        for i in range(dim):
            angle = position / max_wavelength ** (2 * (i // 2) / dim)
            table[row, i] = math.cos(angle) if i % 2 else math.sin(angle)
    return table


def rotate(heads, positions, max_wavelength=10_000):
    """`heads [B, T, N, H]`, each pair `(i, i + H/2)` as one complex number that is turned by its position's angle."""
    half = heads.shape[-1] // 2
    angles = np.asarray(positions, "float64")[:, None] / max_wavelength ** (np.arange(half) / half)
    turned = (heads[..., :half] + 1j * heads[..., half:]) * np.exp(1j * angles)[:, None]
    return np.concatenate([turned.real, turned.imag], axis=-1)


def multi_head_attention(weights, query, value, allowed=None, *, is_rotary=False):
    """Projections, heads, projection.

    Args:
        weights: dict of `"query" | "key" | "value" | "output"` to `(kernel, bias)`.
        query, value: `[B, T, D]` and `[B, S, D']`.

    Returns:
        `(output [B, T, D], scores [B, N, T, S])`.
    """
    queries, keys, values = (
        np.einsum("btd,dnh->btnh", x, weights[name][0]) + weights[name][1]
        for name, x in (("query", query), ("key", value), ("value", value))
    )
    if is_rotary:
        queries, keys = rotate(queries, np.arange(query.shape[1])), rotate(keys, np.arange(value.shape[1]))
    heads, scores = attention(queries, keys, values, allowed)
    kernel, bias = weights["output"]
    return np.einsum("btnh,nhd->btd", heads, kernel) + bias, scores


def layer_norm(x, gain, bias, epsilon):
    """Ba et al. 2016, over the last axis."""
    centred = x - x.mean(-1, keepdims=True)
    return centred / np.sqrt((centred**2).mean(-1, keepdims=True) + epsilon) * gain + bias


def rms_norm(x, gain, epsilon):
    """Zhang & Sennrich 2019, over the last axis."""
    return x / np.sqrt((x**2).mean(-1, keepdims=True) + epsilon) * gain


def relu(x):
    return np.maximum(x, 0)


def gelu(x):
    """Hendrycks & Gimpel 2016, exact."""
    return 0.5 * x * (1 + np.vectorize(math.erf)(x / math.sqrt(2)))


ACTIVATIONS = {"relu": relu, "gelu": gelu}


def feed_forward(weights, x, activation="relu"):
    """`activation(x W + b) W' + b'`."""
    (first, first_bias), (second, second_bias) = weights
    return ACTIVATIONS[activation](x @ first + first_bias) @ second + second_bias


def residual(x, norm, update, normalize_first):
    """One sub-layer: `x + f(norm(x))` or `norm(x + f(x))`."""
    return x + update(norm(x)) if normalize_first else norm(x + update(x))


def cross_entropy(logits, targets, is_real):
    """The mean of `-log p(target)` over what is real."""
    shifted = logits - logits.max(-1, keepdims=True)
    log_p = shifted - np.log(np.exp(shifted).sum(-1, keepdims=True))
    return -np.take_along_axis(log_p, targets[..., None], -1)[..., 0][is_real].mean()


def _raw_logits(query, key, scale):
    scale = 1 / math.sqrt(query.shape[-1]) if scale is None else scale
    logits = np.zeros((query.shape[0], query.shape[2], query.shape[1], key.shape[1]))
    for b, n in itertools.product(range(query.shape[0]), range(query.shape[2])):
        logits[b, n] = scale * query[b, :, n] @ key[b, :, _shared_head(n, query, key)].T
    return logits


def _shared_head(n, query, key):
    return n // (query.shape[2] // key.shape[2])


def _capped(logits, soft_cap):
    return logits if soft_cap is None else soft_cap * np.tanh(logits / soft_cap)


def _softmax(logits, allowed):
    allowed = np.broadcast_to(True if allowed is None else allowed, logits.shape)
    scores = np.zeros(logits.shape)
    for row in np.ndindex(logits.shape[:-1]):
        keys = allowed[row]
        if keys.any():
            exponentials = np.exp(logits[row][keys] - logits[row][keys].max())
            scores[row][keys] = exponentials / exponentials.sum()
    return scores
