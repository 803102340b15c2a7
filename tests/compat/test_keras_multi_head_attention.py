"""Our `MultiHeadAttention` against Keras': same weights, same numbers, same shapes."""

import keras
import numpy as np
import pytest

from keras_tfm.layers import AttachMask, MultiHeadAttention
from tests.compat.configurations import CONFIGURATIONS, B, Original, S, T, inputs_of, made
from tests.compat.pairs import (
    assert_same,
    combinations,
    normal,
    pair,
    shapes,
)
from tests.numerics import to_numpy


@pytest.mark.parametrize("name", CONFIGURATIONS)
def test_outputs_and_scores_are_the_originals(name):
    original, ours, inputs = made(name)
    expected = original(*inputs, return_attention_scores=True)  # without scores it fails for value_dim on JAX
    assert_same(expected, ours(*inputs, return_attention_scores=True))
    assert_same(expected[0], ours(*inputs))


@pytest.mark.parametrize("name", ["self", "cross", "gate", "dropout", "columns of images"])
def test_a_causal_mask_is_the_originals(name):
    original, ours, inputs = made(name)
    expected = original(*inputs, use_causal_mask=True, return_attention_scores=True)
    options = (
        {} if inputs[0].ndim > 3 else {"query_positions": np.arange(T), "key_positions": np.arange(inputs[1].shape[1])}
    )
    assert_same(expected, ours(*inputs, use_causal_mask=True, return_attention_scores=True, **options))
    assert_same(expected[0], ours(*inputs, use_causal_mask=True, **options))


@pytest.mark.parametrize("name", CONFIGURATIONS)
def test_symbolic_shapes_are_those_of_the_outputs(name):
    _, ours, inputs = made(name)
    free = [keras.Input(batch_shape=(None, *x.shape[1:])) for x in inputs]
    for scores in (False, True):
        symbolic = ours(*free, return_attention_scores=scores)
        eager = ours(*inputs, return_attention_scores=scores)
        assert [shape[1:] for shape in shapes(symbolic)] == [shape[1:] for shape in shapes(eager)]
        assert [shape[0] for shape in shapes(symbolic)] == [None] * (1 + scores)
    assert ours.compute_output_shape(*(x.shape for x in inputs)) == shapes(eager)[0]


MASKS = ("query", "value", "key", "explicit", "causal", "window")


def test_masks_in_every_combination_are_the_originals():
    """Implicit masks of all inputs, an explicit one, causality and a window, wherever a row has a key left."""
    random = np.random.default_rng(0)
    query, value, key = inputs_of((B, T, 11), (B, T, 11), (B, T, 11))
    real = {name: random.random((B, T)) < 0.8 for name in ("query", "value", "key")}
    explicit = random.random((B, T, T)) < 0.8
    position = np.arange(T)
    bands = {
        "causal": position[:, None] >= position,
        "window": abs(position[:, None] - position) < 3,
    }
    shape = (B, T, 11)
    built = {
        window: pair(Original, MultiHeadAttention, shape, shape, num_heads=2, key_dim=3, sliding_window=window)
        for window in (None, 3)
    }
    for chosen in combinations(*MASKS):
        allowed = np.ones((B, T, T), bool)
        if chosen["query"]:
            allowed = allowed & real["query"][:, :, None]
        for name in ("value", "key"):
            allowed = allowed & (real[name][:, None, :] if chosen[name] else True)
        allowed = allowed & (explicit if chosen["explicit"] else True)
        for name, band in bands.items():
            allowed = allowed & (band if chosen[name] else True)

        def call(layer, chosen=chosen):
            inputs = {"query": query, "value": value, "key": key}
            inputs = {name: AttachMask()([x, real[name]]) if chosen[name] else x for name, x in inputs.items()}
            mask = explicit if chosen["explicit"] else None
            return layer(**inputs, attention_mask=mask, use_causal_mask=chosen["causal"])

        original, ours = built[3 if chosen["window"] else None]
        assert_same(call(original), call(ours), message=chosen, rows=allowed.any(-1))


@pytest.mark.parametrize(
    "shape", [(B, T, S), (1, T, S), (B, 1, S), (B, T, 1), (B, 2, T, S), (B, 1, T, S), (1, 1, T, S)]
)
@pytest.mark.parametrize("dtype", ["bool", "int32"])
def test_explicit_masks_broadcast_as_in_the_original(shape, dtype):
    original, ours, inputs = made("cross")
    mask = (np.random.default_rng(5).random(shape) < 0.7).astype(dtype)
    mask[..., 0] = 1
    for scores in (False, True):
        options = {"attention_mask": mask, "return_attention_scores": scores}
        assert_same(original(*inputs, **options), ours(*inputs, **options))


@pytest.mark.parametrize(
    ("name", "shape"),
    [
        ("rows of images", (B, 4, 5)),
        ("rows of images", (B, 3, 4, 5)),
        ("rows of images", (B, 3, 2, 4, 5)),
        ("columns of images", (B, 4, 3, 5)),
        ("all axes of images", (B, 3, 4, 2, 5)),
        ("all axes of images", (B, 2, 3, 4, 2, 5)),
        ("all axes of images", (B, 1, 3, 1, 1, 5)),
        ("two of three axes", (B, 2, 3, 4, 4, 3)),
        ("first and last axis", (B, 3, 2, 4, 5, 2)),
    ],
)
def test_explicit_masks_over_several_axes_are_the_originals(name, shape):
    original, ours, inputs = made(name)
    mask = np.random.default_rng(5).random(shape) < 0.7
    mask.reshape(-1)[:: shape[-1]] = True
    options = {"attention_mask": mask, "return_attention_scores": True}
    assert_same(original(*inputs, **options), ours(*inputs, **options))


def test_explicit_value_and_key_masks_are_the_originals():
    original, ours, inputs = made("own key")
    random = np.random.default_rng(2)
    masks = {name: random.random((B, S)) < 0.8 for name in ("value_mask", "key_mask")}
    for mask in masks.values():
        mask[:, 0] = True
    assert_same(original(*inputs, **masks), ours(*inputs, **masks))


@pytest.mark.parametrize("name", ["cross", "rows of images"])
def test_gradients_are_the_originals(name):
    original, ours, inputs = made(name)
    free = [keras.Input(x.shape[1:]) for x in inputs]
    for layer in (original, ours):
        model = keras.Model(free, layer(*free))
        model.compile(keras.optimizers.SGD(0.5), "mse")
        model.fit(inputs, np.ones(model.output.shape[1:], "float32")[None].repeat(B, 0), verbose=0)
    assert_same(original.get_weights(), ours.get_weights())


def test_dropout_has_the_originals_rate_and_a_mask_of_its_own():
    shape = (B, 61, 11)
    original, ours = pair(Original, MultiHeadAttention, shape, shape, num_heads=2, key_dim=3, dropout=0.4, seed=7)
    x = normal(*shape)
    assert_same(original(x, x, training=False), ours(x, x, training=False))
    plain = to_numpy(ours(x, x, training=False))
    draws = [np.stack([to_numpy(layer(x, x, training=True)) for _ in range(30)]) for layer in (original, ours)]
    noises = [np.mean((draw - plain) ** 2) for draw in draws]
    np.testing.assert_allclose(noises[1], noises[0], rtol=0.15)
    assert (abs(draws[1].mean(0) - plain) < 6 * draws[1].std(0) / np.sqrt(30)).all()
