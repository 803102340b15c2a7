"""Encoder and decoder blocks in plain numpy float64, each placement written out from its paper."""

import numpy as np

from tests import oracles
from tests.numerics import to_numpy

EPSILON = 1e-3


def block(layer, x, allowed, memory=None, memory_allowed=None, real=None, depth=None):
    """The output of a `TransformerEncoder` or `TransformerDecoder` whose weights are read.

    Args:
        layer: a built block, made with `layer_norm_epsilon=EPSILON`.
        x: `[B, T, D]`.
        allowed: bool `[B, N, T, T]`.
        memory: `[B, S, D]`, for cross attention.
        memory_allowed: bool `[B, N, T, S]`.
        real: bool `[B, T]`: batch statistics are those of the tokens where it is True; `None` for the moving ones.
        depth: number of blocks, for DeepNorm.
    """
    updates = [("self_attention", lambda y: attention(layer.self_attention, y, y, allowed))]
    if memory is not None:
        updates.append(("cross_attention", lambda y: attention(layer.cross_attention, y, memory, memory_allowed)))
    updates.append(("feed_forward", lambda y: feed_forward(layer.feed_forward, y)))

    def norm(name, y):
        part = getattr(layer, name)
        assert (part is None) == (layer.normalization == "none"), f"{name} is {part}"
        return y if part is None else normalize(part, y, real)

    def add(name, y, update):
        residual = getattr(layer, f"{name}_residual")
        kind = layer.given_parts()["residual"]
        if kind == "deepnorm":  # Wang et al. 2022, figure 2
            return ((2 if memory is None else 3) * depth) ** 0.25 * y + update
        if kind == "rezero":
            return y + to_numpy(residual.alpha) * update
        return y + (1.0 if kind is None else to_numpy(residual.gamma)) * update

    placement = layer.placement or ("pre" if layer.normalize_first else "post")
    return PLACEMENTS[placement](x, updates, norm, add)


def post(x, updates, norm, add):
    for name, f in updates:
        x = norm(f"{name}_norm", add(name, x, f(x)))
    return x


def pre(x, updates, norm, add):
    for name, f in updates:
        x = add(name, x, f(norm(f"{name}_norm", x)))
    return x


def sandwich(x, updates, norm, add):
    for name, f in updates:
        x = add(name, x, norm(f"{name}_output_norm", f(norm(f"{name}_norm", x))))
    return x


def output(x, updates, norm, add):
    for name, f in updates:
        x = add(name, x, norm(f"{name}_output_norm", f(x)))
    return x


def parallel(x, updates, norm, add):
    h = norm("self_attention_norm", x)
    (attention_name, attend), (network_name, network) = updates
    return add(network_name, add(attention_name, x, attend(h)), network(h))


def parallel_two_norms(x, updates, norm, add):
    (attention_name, attend), (network_name, network) = updates
    attended, computed = attend(norm("self_attention_norm", x)), network(norm("feed_forward_norm", x))
    return add(network_name, add(attention_name, x, attended), computed)


PLACEMENTS = {each.__name__: each for each in (post, pre, sandwich, output, parallel, parallel_two_norms)}


def normalize(norm, x, real=None):
    """Layer, RMS or batch normalization, by the weights that the layer has."""
    if hasattr(norm, "moving_mean"):
        mean, variance = to_numpy(norm.moving_mean), to_numpy(norm.moving_variance)
        if real is not None:
            mean, variance = x[real].mean(0), x[real].var(0)
        return (x - mean) / np.sqrt(variance + EPSILON) * to_numpy(norm.gamma) + to_numpy(norm.beta)
    if hasattr(norm, "gamma"):
        return oracles.layer_norm(x, to_numpy(norm.gamma), to_numpy(norm.beta), EPSILON)
    return oracles.rms_norm(x, to_numpy(norm.scale), EPSILON)


def attention(layer, query, value, allowed):
    """Keras' projections around the oracle's attention."""
    parts = {"query": layer._query_dense, "key": layer._key_dense, "value": layer._value_dense}
    parts["output"] = layer._output_dense
    weights = {name: (to_numpy(part.kernel), bias_of(part)) for name, part in parts.items()}
    return oracles.multi_head_attention(weights, query, value, allowed, is_rotary=layer.position is not None)[0]


def bias_of(dense):
    return 0.0 if dense.bias is None else to_numpy(dense.bias)


def feed_forward(layer, x):
    """Two dense layers, or three with a gate of SiLU, or a mixture of two experts of the first kind."""
    if hasattr(layer, "router_kernel"):
        return mixture(layer, x)
    (w, b), (v, c) = ((to_numpy(part.kernel), bias_of(part)) for part in (layer.intermediate_dense, layer.output_dense))
    hidden = x @ w + b
    if hasattr(layer, "gate_dense"):
        gate = x @ to_numpy(layer.gate_dense.kernel) + bias_of(layer.gate_dense)
        return (gate / (1 + np.exp(-gate)) * hidden) @ v + c
    return np.maximum(hidden, 0) @ v + c


def mixture(layer, x):
    logits = x @ to_numpy(layer.router_kernel)
    experts = layer.experts
    (w, b), (v, c) = (
        (to_numpy(part.kernel), bias_of(part)) for part in (experts.intermediate_dense, experts.output_dense)
    )
    y = np.zeros(x.shape)
    for place in np.ndindex(x.shape[:-1]):
        chosen = np.argsort(-logits[place])[: layer.top_k]
        gates = np.exp(logits[place][chosen] - logits[place].max())
        for g, e in zip(gates / gates.sum(), chosen, strict=True):
            y[place] += g * (np.maximum(x[place] @ w[e] + b[e, 0], 0) @ v[e] + c[e, 0])
    return y
