"""Arguments of blocks that say the same thing twice or contradict each other are refused, naming both."""

import keras
import numpy as np
import pytest

from keras_tfm.layers.deep_norm import DeepNorm
from keras_tfm.layers.feed_forward import FeedForward
from keras_tfm.layers.mixture_of_experts import MixtureOfExperts
from keras_tfm.layers.multi_head_attention import MultiHeadAttention
from keras_tfm.layers.transformer_decoder import TransformerDecoder
from keras_tfm.layers.transformer_encoder import TransformerEncoder
from keras_tfm.layers.transformer_encoder_stack import TransformerEncoderStack

F, N = 11, 3
ATTENTION = MultiHeadAttention(N, 4)


@pytest.mark.parametrize("block_class", [TransformerEncoder, TransformerDecoder])
@pytest.mark.parametrize(
    "arguments, message",
    [
        ({"placement": "middle"}, "`placement` must be.*placement='middle'"),
        ({"placement": "post", "normalize_first": True}, "contradicts.*placement='post', normalize_first=True"),
        ({"placement": "output", "normalize_first": True}, "contradicts.*placement='output', normalize_first=True"),
        ({"residual": "deepnorm", "normalize_first": True}, "'deepnorm'` needs the placement.*normalize_first=True"),
        ({"residual": DeepNorm(2, 1), "placement": "pre"}, "'deepnorm'` needs the placement.*placement='pre'"),
        ({"residual": "highway"}, "`residual` must be.*residual='highway'"),
        ({"residual": keras.layers.Add()}, "`residual` must be None, a `Residual` layer"),
        ({"normalization": "group"}, "`normalization` must be.*normalization='group'"),
        ({"stochastic_depth": 1.0}, r"`stochastic_depth` must be in \[0, 1\).*stochastic_depth=1.0"),
        ({"activation_dropout": -1}, r"`activation_dropout` must be in \[0, 1\)"),
        ({"attention": "additive"}, "`attention` must be None or a layer.*attention='additive'"),
        ({"attention": MultiHeadAttention(2, 4)}, "`num_heads` and `attention`.*num_heads=3.*num_heads=2"),
        ({"attention": MultiHeadAttention(N, 4, position="rope"), "position": "alibi"}, "`position` and `attention`"),
        ({"attention": ATTENTION, "attention_dropout": 0.1}, "`attention_dropout` and `attention`.*=0.1"),
        ({"attention": ATTENTION, "num_key_value_heads": 1}, "`num_key_value_heads` and `attention`"),
        ({"feed_forward": "swish"}, "`feed_forward` must be.*feed_forward='swish'"),
        ({"feed_forward": "swiglu", "activation": "gelu"}, "activation of its own.*'swiglu', activation='gelu'"),
        ({"feed_forward": FeedForward(12)}, "`intermediate_dim` and `feed_forward` contradict.*intermediate_dim=11"),
        ({"feed_forward": FeedForward(F), "activation": "gelu"}, "`activation` and `feed_forward`.*'gelu'"),
        ({"feed_forward": FeedForward(F), "activation_dropout": 0.2}, "`activation_dropout` and `feed_forward`"),
    ],
)
def test_contradictions_are_refused(block_class, arguments, message):
    with pytest.raises(ValueError, match=message):
        block_class(F, N, **arguments)


@pytest.mark.parametrize(
    "sizes, message", [((None, N), "`intermediate_dim` must be.*=None"), ((F, None), "`num_heads` must be.*=None")]
)
def test_sizes_may_only_be_missing_where_a_layer_has_them(sizes, message):
    with pytest.raises(ValueError, match=message):
        TransformerEncoder(*sizes)
    block = TransformerEncoder(None, None, attention=ATTENTION, feed_forward=MixtureOfExperts(2, F))
    assert block.num_heads == N and block.get_config()["intermediate_dim"] is None


@pytest.mark.parametrize("placement", ["pre", "sandwich", "parallel", "parallel_two_norms"])
def test_normalize_first_agrees_with_placements_that_do(placement):
    TransformerEncoder(F, N, normalize_first=True, placement=placement)


@pytest.mark.parametrize("arguments", [{"attention": ATTENTION}, {"attention": ATTENTION, "position": "rope"}])
def test_what_agrees_is_taken(arguments):
    block = TransformerEncoder(F, N, **arguments)
    block.build((None, None, 6))
    assert block.self_attention is not ATTENTION
    assert block.self_attention.key_dim == 4
    assert (block.self_attention.position is None) == ("position" not in arguments)


def test_a_parallel_block_with_cross_attention_is_refused():
    x = np.zeros((1, 3, 6), "float32")
    TransformerDecoder(F, N, placement="parallel")(x)
    with pytest.raises(ValueError, match="no place for cross attention.*placement='parallel'"):
        TransformerDecoder(F, N, placement="parallel")(x, x)


def test_templates_are_nobodys_weights():
    template = FeedForward(F)
    template.build((None, None, 6))
    stack = TransformerEncoderStack(2, F, N, feed_forward=template, normalization=keras.layers.LayerNormalization())
    stack.build((None, None, 6))
    assert not {id(weight) for weight in stack.weights} & {id(weight) for weight in template.weights}
    kinds = [type(layer).__name__ for layer in stack._flatten_layers() if not layer.built]
    assert set(kinds) <= {"TransformerEncoderStack", "TransformerEncoder", "Dropout"}, kinds
