"""Stochastic depth: whole sequences, the right share of them, and nothing at inference."""

import keras
import numpy as np
import pytest

from keras_tfm.layers.stochastic_depth import StochasticDepth
from tests.layers.check_layer import check_layer
from tests.numerics import to_numpy

X = np.random.default_rng(0).normal(size=(40, 5, 3)).astype("float32")


def test_whole_sequences_are_dropped_and_the_others_scaled_up():
    output = to_numpy(StochasticDepth(0.4, seed=1)(X, training=True))
    is_kept = np.abs(output).max((1, 2)) > 0
    assert 0 < is_kept.sum() < len(X)
    np.testing.assert_allclose(output[is_kept], X[is_kept] / 0.6, rtol=1e-5)
    assert (output[~is_kept] == 0).all()


def test_the_share_is_the_rate_and_the_mean_stays():
    layer, ones = StochasticDepth(0.3, seed=1), np.ones((20_000, 1), "float32")
    output = to_numpy(layer(ones, training=True))
    assert abs((output == 0).mean() - 0.3) < 0.02
    assert abs(output.mean() - 1) < 0.03


def test_each_call_draws_anew_and_a_seed_repeats():
    layers = [StochasticDepth(0.5, seed=7) for _ in range(2)]
    first, second = ([to_numpy(layer(X, training=True)) for _ in range(2)] for layer in layers)
    np.testing.assert_array_equal(first, second)
    assert np.abs(first[0] - first[1]).max() > 0


@pytest.mark.parametrize("options", [{}, {"training": False}])
def test_at_inference_it_does_exactly_nothing(options):
    np.testing.assert_array_equal(to_numpy(StochasticDepth(0.9)(X, **options)), X.astype("float64"))


def test_a_rate_of_zero_does_nothing_in_training():
    np.testing.assert_array_equal(to_numpy(StochasticDepth(0.0)(X, training=True)), X.astype("float64"))


def test_compiled_steps_draw_anew():
    inputs = keras.Input((3,))
    model = keras.Model(inputs, StochasticDepth(0.5)(keras.layers.Dense(2, use_bias=False)(inputs)))
    model.compile("sgd", "mse")
    x, y = np.ones((8, 3), "float32"), np.full((8, 2), 5.0, "float32")
    seeds = [to_numpy(model.layers[2].seed_generator.state).copy()]
    for _ in range(2):
        assert np.isfinite(model.train_on_batch(x, y))
        seeds.append(to_numpy(model.layers[2].seed_generator.state).copy())
    assert (seeds[0] != seeds[1]).any() and (seeds[1] != seeds[2]).any()


def test_it_keeps_the_promises_of_all_layers():
    check_layer(lambda **options: StochasticDepth(0.5, **options), X)


@pytest.mark.parametrize("rate", [-0.1, 1.0])
def test_bad_rates(rate):
    with pytest.raises(ValueError, match=rf"`rate` must be in \[0, 1\).*rate={rate}"):
        StochasticDepth(rate)
