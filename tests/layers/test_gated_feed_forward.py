"""Gated linear units against float64."""

import numpy as np
import pytest

from keras_tfm.layers.activations import gelu_tanh
from keras_tfm.layers.gated_feed_forward import GATED_ACTIVATIONS, GatedFeedForward
from keras_tfm.layers.transformer_encoder import TransformerEncoder
from tests import oracles
from tests.layers.check_layer import check_layer
from tests.numerics import assert_close, randomize, to_numpy

D, F = 5, 11
X = np.random.default_rng(0).normal(size=(2, 7, D)).astype("float32")
GATES = {
    "bilinear": lambda x: x,
    "glu": lambda x: 1 / (1 + np.exp(-x)),
    "reglu": oracles.relu,
    "geglu": oracles.gelu,
    "swiglu": lambda x: x / (1 + np.exp(-x)),
}


@pytest.mark.parametrize("kind", GATES)
@pytest.mark.parametrize("use_bias", [True, False])
def test_the_gate_multiplies_the_inner_features(kind, use_bias):
    """Shazeer 2020, equations 5 and 6."""
    layer = GatedFeedForward(F, GATED_ACTIVATIONS[kind], use_bias=use_bias)
    layer.build((None, None, D))
    randomize(layer)
    parts = layer.gate_dense, layer.intermediate_dense, layer.output_dense
    w, v, u = (to_numpy(part.kernel) for part in parts)
    b, c, d = (to_numpy(part.bias) if use_bias else 0.0 for part in parts)
    assert_close(layer(X), (GATES[kind](X @ w + b) * (X @ v + c)) @ u + d)


@pytest.mark.parametrize("kind", ["gated", *GATES])
def test_blocks_know_it_by_name(kind):
    block = TransformerEncoder(F, 1, feed_forward=kind, activation="gelu_tanh" if kind == "gated" else "relu")
    block.build((None, None, D))
    assert isinstance(block.feed_forward, GatedFeedForward)
    expected = gelu_tanh if kind == "gated" else GatedFeedForward(F, GATED_ACTIVATIONS[kind]).activation
    assert block.feed_forward.activation is expected


@pytest.mark.parametrize("arguments", [{}, {"use_bias": False, "activation": "gelu_tanh"}, {"dropout": 0.5}])
def test_it_keeps_the_promises_of_all_layers(arguments):
    check_layer(lambda **options: GatedFeedForward(F, **arguments, **options), X)
