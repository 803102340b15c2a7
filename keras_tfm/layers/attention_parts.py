"""The parts of `MultiHeadAttention`: their names, how they are built, and how attention goes through them."""

import functools

import keras

from keras_tfm.layers.additive_score import AdditiveScore
from keras_tfm.layers.alibi import Alibi
from keras_tfm.layers.attention_score import AttentionScore
from keras_tfm.layers.clipped_relative_position import ClippedRelativePosition
from keras_tfm.layers.concat_score import ConcatScore
from keras_tfm.layers.disentangled_position import DisentangledPosition
from keras_tfm.layers.general_score import GeneralScore
from keras_tfm.layers.parts import make_normalization
from keras_tfm.layers.quadratic_position import QuadraticPosition
from keras_tfm.layers.relative_position_bias import RelativePositionBias
from keras_tfm.layers.rotary_embedding import RotaryEmbedding
from keras_tfm.layers.talking_heads import TalkingHeads
from keras_tfm.layers.transformer_xl_position import TransformerXLPosition
from keras_tfm.ops import ScoreDropout
from keras_tfm.ops.attention import attention
from keras_tfm.ops.mask_patterns import MaskPattern

POSITIONS = {
    "rope": RotaryEmbedding,
    "alibi": Alibi,
    "t5": RelativePositionBias,
    "clipped": functools.partial(ClippedRelativePosition, max_distance=16),
    "transformer_xl": TransformerXLPosition,
    "disentangled": functools.partial(DisentangledPosition, max_distance=512, num_buckets=256),
    "quadratic": QuadraticPosition,
}
SCORES = {
    "scaled_dot": AttentionScore,
    "dot": functools.partial(AttentionScore, scale=1.0),
    "general": GeneralScore,
    "additive": AdditiveScore,
    "concat": ConcatScore,
}
HEAD_MIXINGS = {"talking_heads": TalkingHeads}


def named(parts, dtype, argument):
    """The factories of `parts`, for a layer with this dtype policy; the parts go by the name of the argument."""
    return {name: functools.partial(factory, dtype=dtype, name=argument) for name, factory in parts.items()}


def build_parts(layer):
    """Builds the parts of a `MultiHeadAttention`: what it was given, and the norms and the sink it was asked for."""
    query = (None, None, layer.num_heads, layer.key_dim)
    key = (None, None, layer.num_key_value_heads, layer.key_dim)
    value = (None, None, layer.num_key_value_heads, layer.value_dim)
    layer.query_norm = _make_norm(layer, "query_norm", query)
    layer.key_norm = _make_norm(layer, "key_norm", key)
    for part, shapes in (
        (layer.position, (query, key, value)),
        (layer.score, (query, key)),
        (layer.head_mixing, ((None, layer.num_heads, None, None),)),
    ):
        if part is not None and not part.built:
            part.build(*shapes)
    layer.sink = layer.attention_sink
    if layer.attention_sink == "learned":
        layer.sink = layer.add_weight(name="attention_sink", shape=(layer.num_heads,), initializer="zeros")
    elif layer.attention_sink is not None:
        layer.sink = [float(layer.attention_sink)] * layer.num_heads


def attend_with_parts(layer, heads, mask, bias, training, return_scores, **known):
    """Attention of heads by a layer's score, position, sink and mixing: `(output, scores or None)`.

    `known` is what `attention` takes about the keys: `has_finite_keys`, `has_heads_apart`.
    """
    query, key, value = heads
    scale, logits = layer._inverse_sqrt_key_dim, None
    if layer.score is not None:
        query, key = layer.score.transform(query, key)
        scale, logits = layer.score.factor(layer.key_dim), None if layer.score.is_dot_product else layer.score.logits
    return attention(
        query,
        key,
        value,
        mask,
        bias=(bias, _position_hook(layer, "bias")),
        scale=scale,
        logit_soft_cap=layer.logit_soft_cap,
        dropout=_score_dropout(layer) if training and layer.dropout else None,
        return_scores=return_scores,
        score=logits,
        sink=layer.sink,
        mixing=layer.head_mixing,
        value_bias=_position_hook(layer, "value_bias"),
        **known,
        label=layer.path,
    )


def _position_hook(layer, name):
    is_there = layer.position is not None and layer.position.overrides(name)
    return getattr(layer.position, name) if is_there else None


def _score_dropout(layer):
    return ScoreDropout.of(layer.dropout, layer._dropout_layer.seed_generator, layer.seed)


def _make_norm(layer, name, shape):
    if layer.query_key_norm is None:
        return None
    norm = make_normalization(layer.query_key_norm, 1e-6, layer.dtype_policy, name)
    norm.build(shape)
    return norm


def get_pattern(value):
    """A `MaskPattern` from itself, its config or `None`."""
    if isinstance(value, dict):
        value = keras.saving.deserialize_keras_object(value)
    if value is None or isinstance(value, MaskPattern):
        return value
    raise ValueError(f"`attention_pattern` must be a MaskPattern or None. Received: attention_pattern={value!r}")
