"""The feed-forward network against float64, its activations, and its errors."""

import numpy as np
import pytest

from keras_tfm.layers.feed_forward import FeedForward
from tests import oracles
from tests.layers.check_layer import check_layer
from tests.numerics import assert_close, randomize, to_numpy

D, F = 5, 11
X = np.random.default_rng(0).normal(size=(2, 7, D)).astype("float32")


def gelu_tanh(x):
    """Hendrycks & Gimpel 2016, section 2."""
    return 0.5 * x * (1 + np.tanh(np.sqrt(2 / np.pi) * (x + 0.044715 * x**3)))


ACTIVATIONS = {**oracles.ACTIVATIONS, "gelu_tanh": gelu_tanh}


@pytest.mark.parametrize("activation", ACTIVATIONS)
@pytest.mark.parametrize("use_bias", [True, False])
@pytest.mark.parametrize("output_dim", [None, 3])
def test_it_is_two_products_and_an_activation(activation, use_bias, output_dim):
    layer = FeedForward(F, activation, use_bias=use_bias, output_dim=output_dim)
    layer.build((None, None, D))
    randomize(layer)
    parts = layer.intermediate_dense, layer.output_dense
    assert all((part.bias is not None) == use_bias for part in parts)
    (w, v), (b, c) = (
        (to_numpy(part.kernel) for part in parts),
        (to_numpy(part.bias) if use_bias else 0.0 for part in parts),
    )
    assert_close(layer(X), ACTIVATIONS[activation](X @ w + b) @ v + c)


def test_the_two_gelus_differ():
    x = np.linspace(-3, 3, 13)
    assert 1e-4 < np.abs(oracles.gelu(x) - gelu_tanh(x)).max() < 1e-2


@pytest.mark.parametrize("arguments", [{}, {"activation": "gelu_tanh", "use_bias": False}, {"dropout": 0.5}])
def test_it_keeps_the_promises_of_all_layers(arguments):
    check_layer(lambda **options: FeedForward(F, **arguments, **options), X)


@pytest.mark.parametrize(
    "arguments, message",
    [
        ({"intermediate_dim": 0}, "`intermediate_dim` must be a positive.*intermediate_dim=0"),
        ({"dropout": -0.1}, r"`dropout` must be in \[0, 1\].*dropout=-0.1"),
    ],
)
def test_bad_arguments(arguments, message):
    with pytest.raises(ValueError, match=message):
        FeedForward(**{"intermediate_dim": 3, **arguments})
