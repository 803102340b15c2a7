"""Subclasses that compute attention themselves get heads and masks in the shapes that Keras' own class hands over."""

import keras
from keras import ops

from keras_tfm import backend


def overrides_attention(layer):
    """Whether the layer's class has a `_compute_attention` of its own, the hook that Keras documents."""
    return type(layer)._compute_attention is not keras.layers.MultiHeadAttention._compute_attention


def parts_of_scores(layer):
    """What a layer puts in the place of plain scaled dot products, by name; `None` where it does not."""
    names = ("position", "score", "attention_sink", "head_mixing", "logit_soft_cap")
    parts = {name: getattr(layer, name) for name in names}
    position = layer.position
    if position is not None and not (position.overrides("bias") or position.overrides("value_bias")):
        del parts["position"]  # what it does to the heads is done before
    return parts


def attend_by_hook(layer, axes, inputs, heads, mask, bias, training, return_scores):
    """Calls `layer._compute_attention`.

    Args:
        layer: the layer.
        axes: its `AttentionAxes`.
        inputs: query and value as they came in, for their shapes.
        heads: query `[B', T, N, H]`, key `[B', S, K, H]` and value `[B', S, K, Hv]`; shared heads are repeated.
        mask: an `AttentionMask`; the hook gets it dense, `[B, T, S]` for inputs `[B, T, D]`.
        bias: must be `None`, as the hook has no argument for it.
        training: whether dropout applies.
        return_scores: whether scores are asked for.

    Returns:
        Heads `[B', T, N, Hv]`, zero at queries with nothing to attend to, and what the hook returned as scores.

    Raises:
        ValueError: there are biases or a soft cap, which the hook would not see.
    """
    given = {"attention_bias": bias, **parts_of_scores(layer)}
    if any(part is not None for part in given.values()):
        raise ValueError(
            "A class with its own `_compute_attention` must see to biases, scores, sinks, mixing and soft caps itself. "
            f"Received: {', '.join(f'{name}={part}' for name, part in given.items())}"
        )
    query, value = inputs
    repeats = layer.num_heads // layer.num_key_value_heads
    shared = heads if repeats == 1 else (heads[0], *(ops.repeat(x, repeats, axis=2) for x in heads[1:]))
    lengths = ops.shape(heads[0])[1], ops.shape(heads[1])[1]
    dense = axes.unfold_mask(mask.materialize(*lengths), query, value)
    unfolded = [axes.unfold(x, like) for x, like in zip(shared, (query, value, value), strict=True)]
    output, scores = layer._compute_attention(*unfolded, dense, training, return_scores)
    output = axes.fold(output)
    rows = mask.live_rows(*lengths)
    if rows is None:
        return output, scores
    return backend.zeroed(output, ops.transpose(rows, (0, 2, 1))[..., None]), scores
