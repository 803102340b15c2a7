"""Residual connections: what is added to what, with which weights, and what they start with."""

import keras
import numpy as np
import pytest

from keras_tfm.layers.deep_norm import DeepNorm
from keras_tfm.layers.layer_scale import LayerScale
from keras_tfm.layers.re_zero import ReZero
from keras_tfm.layers.residual import Residual
from tests.layers.check_layer import check_layer
from tests.numerics import assert_close, randomize, to_numpy

RNG = np.random.default_rng(0)
X, UPDATE = (RNG.normal(size=(2, 5, 3)).astype("float32") for _ in range(2))


def made(layer):
    layer.build(X.shape, X.shape)
    return randomize(layer)


def test_a_plain_residual_is_the_sum():
    assert_close(Residual()(X, UPDATE), X + UPDATE)


def test_re_zero_is_the_identity_at_first_and_weighs_by_one_number():
    assert_close(ReZero()(X, UPDATE), X)
    layer = made(ReZero())
    assert [tuple(weight.shape) for weight in layer.weights] == [()]
    assert_close(layer(X, UPDATE), X + to_numpy(layer.alpha) * UPDATE)


def test_layer_scale_weighs_each_feature():
    assert_close(LayerScale(0.25)(X, UPDATE), X + 0.25 * UPDATE)
    layer = made(LayerScale())
    assert_close(layer(X, UPDATE), X + to_numpy(layer.gamma) * UPDATE)


def test_a_layer_scale_that_does_not_train_is_a_constant():
    layer = LayerScale(0.22, trainable=False)
    assert_close(layer(X, UPDATE), X + 0.22 * UPDATE)
    assert layer.trainable_weights == []


def test_deep_norm_weighs_the_stream():
    assert_close(DeepNorm(2.5, 0.5)(X, UPDATE), 2.5 * X + UPDATE)


def test_the_constants_of_deep_norm_are_the_papers():
    """Wang et al. 2022, figure 2."""
    n, m = 18, 6
    table = {
        DeepNorm.of_encoder(n): ((2 * n) ** (1 / 4), (8 * n) ** (-1 / 4)),
        DeepNorm.of_decoder(m): ((2 * m) ** (1 / 4), (8 * m) ** (-1 / 4)),
        DeepNorm.of_encoder(n, m): (0.81 * (n**4 * m) ** (1 / 16), 0.87 * (n**4 * m) ** (-1 / 16)),
        DeepNorm.of_decoder(m, has_encoder=True): ((3 * m) ** (1 / 4), (12 * m) ** (-1 / 4)),
    }
    for layer, constants in table.items():
        np.testing.assert_allclose((layer.alpha, layer.initial_gain), constants, rtol=1e-12)


@pytest.mark.parametrize("make", [Residual, ReZero, LayerScale, lambda **options: DeepNorm(2.0, 0.5, **options)])
def test_it_keeps_the_promises_of_all_layers(make):
    check_layer(lambda **options: make(**options), (X, UPDATE))


@keras.saving.register_keras_serializable(package="keras_tfm_tests")
class Halved(Residual):
    """A residual of one's own."""

    def call(self, inputs, update):
        return inputs + update / 2


def test_a_residual_of_ones_own_is_a_subclass():
    check_layer(lambda **options: Halved(**options), (X, UPDATE))
    assert_close(Halved()(X, UPDATE), X + UPDATE / 2)


@pytest.mark.parametrize("arguments, message", [((0, 1), "`alpha` must be"), ((1, -1), "`beta` must be.*beta=-1")])
def test_bad_arguments(arguments, message):
    with pytest.raises(ValueError, match=message):
        DeepNorm(*arguments)
