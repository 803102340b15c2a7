"""Multi-head attention with all its parts, in plain numpy float64 and from the papers' equations, without Keras."""

import math

import numpy as np

from tests import oracles


def multi_head_attention(weights, options, query, value, allowed, query_positions, key_positions):
    """The layer's output and scores.

    Args:
        weights: dict of name to float64 array, see `named_weights`.
        options: `AttentionLayer`, of which the names of parts are read.
        query, value: `[B, T, D]`, `[B, S, D']`.
        allowed: bool `[B, N, T, S]`.
        query_positions, key_positions: int `[B, T]`, `[B, S]`.

    Returns:
        `(output [B, T, D], scores [B, N, T, S])`.
    """
    queries = _project(weights, "query", query)
    keys, values = _project(weights, "key", value), _project(weights, "value", value)
    queries, keys = _norm(weights, "query_norm", queries), _norm(weights, "key_norm", keys)
    repeats = queries.shape[2] // keys.shape[2]
    keys, values = (np.repeat(x, repeats, axis=2) for x in (keys, values))
    position = POSITIONS[options.position]
    queries, keys = position.rotate(queries, query_positions), position.rotate(keys, key_positions)
    logits = SCORES[options.score](weights, queries, keys, repeats)
    if options.soft_cap is not None:
        logits = options.soft_cap * np.tanh(logits / options.soft_cap)
    logits = logits + position.bias(weights, queries, keys, query_positions, key_positions)
    if options.mixing:
        logits = np.einsum("bnts,nm->bmts", logits, weights["mixing/logits"])
    scores = _softmax_with_sink(logits, allowed, _sink(weights, options, logits.shape[1]))
    if options.mixing:
        scores = np.einsum("bnts,nm->bmts", scores, weights["mixing/scores"]) * allowed
    heads = np.einsum("bnts,bsnh->btnh", scores, values)
    heads = heads * allowed.any(-1).transpose(0, 2, 1)[..., None]
    if options.gate:
        heads = heads / (1 + np.exp(-_project(weights, "gate", query)))
    return np.einsum("btnh,nhd->btd", heads, weights["output/kernel"]) + weights["output/bias"], scores


def named_weights(layer):
    """The variables of a `MultiHeadAttention` by the names that the oracle has for them."""
    parts = {"query": layer._query_dense, "key": layer._key_dense, "value": layer._value_dense}
    parts["output"] = layer._output_dense
    if layer._use_gate:
        parts["gate"] = layer._gate_dense
    named = {f"{name}/{kind}": getattr(dense, kind) for name, dense in parts.items() for kind in ("kernel", "bias")}
    for name in ("query_norm", "key_norm"):
        norm = getattr(layer, name)
        if norm is not None:
            named |= {f"{name}/{variable.name}": variable for variable in norm.trainable_variables}
    score = layer.score
    if hasattr(score, "dense"):
        named["score/kernel"] = score.dense.kernel
    if hasattr(score, "query_dense"):
        named |= {"score/query": score.query_dense.kernel, "score/key": score.key_dense.kernel}
    elif hasattr(score, "vector"):
        named["score/joint"] = score.kernel
    if hasattr(score, "vector"):
        named["score/vector"] = score.vector
    if layer.attention_sink == "learned":
        named["sink"] = layer.sink
    if layer.head_mixing is not None:
        named |= {"mixing/logits": layer.head_mixing.logits_kernel, "mixing/scores": layer.head_mixing.scores_kernel}
    if layer.position is not None:
        named |= {f"position/{variable.name}": variable for variable in layer.position.trainable_variables}
    return named


def _project(weights, name, x):
    return np.einsum("btd,dnh->btnh", x, weights[f"{name}/kernel"]) + weights[f"{name}/bias"]


def _norm(weights, name, heads):
    if f"{name}/scale" in weights:
        return oracles.rms_norm(heads, weights[f"{name}/scale"], 1e-6)
    if f"{name}/gamma" in weights:
        return oracles.layer_norm(heads, weights[f"{name}/gamma"], weights[f"{name}/beta"], 1e-6)
    return heads


def _sink(weights, options, num_heads):
    if options.sink is None:
        return None
    return weights["sink"] if options.sink == "learned" else np.full(num_heads, float(options.sink))


def _softmax_with_sink(logits, allowed, sink):
    scores = np.zeros(logits.shape)
    for b, n, t in np.ndindex(logits.shape[:-1]):
        keys = allowed[b, n, t]
        if keys.any():
            exponents = list(logits[b, n, t][keys]) + ([] if sink is None else [sink[n]])
            exponentials = np.exp(exponents - np.max(exponents))
            scores[b, n, t][keys] = (exponentials / exponentials.sum())[: keys.sum()]
    return scores


def _dot(queries, keys, scale):
    return scale * np.einsum("btnh,bsnh->bnts", queries, keys)


def _additive(queries, keys, vector):
    hidden = np.tanh(queries[:, :, None] + keys[:, None])
    return np.einsum("btsna,na->bnts", hidden, vector)


def _additive_score(weights, queries, keys, repeats):
    key_kernel = np.repeat(weights["score/key"], repeats, axis=0)
    queries, keys = (
        np.einsum("btnh,nha->btna", x, kernel) for x, kernel in ((queries, weights["score/query"]), (keys, key_kernel))
    )
    return _additive(queries, keys, weights["score/vector"])


def _concat_score(weights, queries, keys, repeats):
    batch, _, num_heads, size = queries.shape
    pairs = np.zeros((batch, queries.shape[1], keys.shape[1], num_heads, 2 * size))
    pairs[..., :size], pairs[..., size:] = queries[:, :, None], keys[:, None]
    hidden = np.tanh(np.einsum("btsnh,nha->btsna", pairs, weights["score/joint"]))
    return np.einsum("btsna,na->bnts", hidden, weights["score/vector"])


SCORES = {
    None: lambda weights, q, k, repeats: _dot(q, k, 1 / math.sqrt(q.shape[-1])),
    "scaled_dot": lambda weights, q, k, repeats: _dot(q, k, 1 / math.sqrt(q.shape[-1])),
    "dot": lambda weights, q, k, repeats: _dot(q, k, 1.0),
    "general": lambda weights, q, k, repeats: np.einsum("btnh,nhg,bsng->bnts", q, weights["score/kernel"], k),
    "additive": _additive_score,
    "concat": _concat_score,
}


class NoPosition:
    def rotate(self, heads, positions):
        return heads

    def bias(self, weights, queries, keys, query_positions, key_positions):
        return 0.0


class Rotary(NoPosition):
    def rotate(self, heads, positions):
        return np.stack([oracles.rotate(row[None], places)[0] for row, places in zip(heads, positions, strict=True)])


class Alibi(NoPosition):
    """Press et al. 2022, section 3: for a power of two heads 2^(-8/N), 2^(-16/N), ...; else those of its neighbours."""

    def bias(self, weights, queries, keys, query_positions, key_positions):
        slopes = np.array(_alibi_slopes(queries.shape[2]))
        distances = abs(query_positions[:, :, None] - key_positions[:, None])
        return -slopes[None, :, None, None] * distances[:, None]


def _alibi_slopes(num_heads):
    lower = 2 ** int(math.log2(num_heads))
    slopes = [2 ** (-8 * (i + 1) / lower) for i in range(lower)]
    return slopes + [2 ** (-8 * (i + 0.5) / lower) for i in range(num_heads - lower)]


POSITIONS = {None: NoPosition(), "rope": Rotary(), "alibi": Alibi()}
