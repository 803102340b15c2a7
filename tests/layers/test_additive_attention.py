"""AdditiveAttention against the paper in numpy float64, and against Keras' layer where that is right."""

import functools

import keras
import numpy as np
import pytest
from keras import ops

from keras_tfm.layers.additive_attention import AdditiveAttention
from keras_tfm.layers.multi_head_attention import MultiHeadAttention
from tests.layers.check_layer import check_layer
from tests.numerics import assert_close, mask_of, randomize, to_numpy, value_and_gradients, with_mask

B, T, S, D, E, F, A = 2, 3, 5, 7, 11, 13, 4
RNG = np.random.default_rng(0)
QUERY, VALUE, KEY = (RNG.normal(size=size).astype("float32") for size in ((B, T, D), (B, S, E), (B, S, F)))
SAME = RNG.normal(size=(B, S, D)).astype("float32")
QUERY_MASK = np.array([[True, True, False], [True, True, True]])
VALUE_MASK = np.array([[True, True, False, False, True], [False, True, True, True, True]])


def oracle(layer, query, value, key, allowed):
    """Equations 5 and 6 and appendix A.1.2, one pair at a time."""
    if layer.units is not None:
        query, key = query @ to_numpy(layer.query_dense.kernel), key @ to_numpy(layer.key_dense.kernel)
    vector = 1.0 if layer.scale is None else to_numpy(layer.scale)
    scores = np.zeros((B, query.shape[1], key.shape[1]))
    for b, t in np.ndindex(scores.shape[:2]):
        keys = np.flatnonzero(allowed[b, t])
        energies = np.exp([np.sum(vector * np.tanh(query[b, t] + key[b, s])) for s in keys])
        scores[b, t, keys] = energies / energies.sum()
    return scores @ value, scores


def built(*inputs, **options):
    layer = AdditiveAttention(**options)
    layer.build([x.shape for x in inputs])
    layer.built = True
    return randomize(layer)


@pytest.mark.parametrize("use_scale", [True, False])
@pytest.mark.parametrize("causal", [True, False])
def test_it_is_the_papers_score(use_scale, causal):
    layer = built(QUERY, VALUE, KEY, units=A, use_scale=use_scale)
    explicit = RNG.random((B, T, S)) < 0.8
    allowed = VALUE_MASK[:, None] & explicit
    if causal:
        allowed = allowed & (np.arange(T)[:, None] + S - T >= np.arange(S))
    received = layer(
        [QUERY, VALUE, KEY],
        padding_mask=VALUE_MASK,
        attention_mask=explicit,
        use_causal_mask=causal,
        return_attention_scores=True,
    )
    assert_close(received, oracle(layer, QUERY, VALUE, KEY, allowed))


@pytest.mark.parametrize("use_scale", [True, False])
@pytest.mark.parametrize("masks", [None, [QUERY_MASK, VALUE_MASK]])
def test_without_units_it_is_keras_layer(use_scale, masks):
    original = keras.layers.AdditiveAttention(use_scale=use_scale)
    expected = original([QUERY, SAME], mask=masks, return_attention_scores=True)
    ours = built(QUERY, SAME, use_scale=use_scale)
    ours.set_weights(original.get_weights())
    received = ours([QUERY, SAME], mask=masks, return_attention_scores=True)
    assert_close(received[0], expected[0])
    live = np.ones((B, T), bool) if masks is None else QUERY_MASK
    assert_close(to_numpy(received[1])[live], to_numpy(expected[1])[live])
    assert isinstance(ours, keras.layers.AdditiveAttention)


def test_weights_and_config_of_keras_layer_load(tmp_path):
    inputs = [keras.Input((T, D)), keras.Input((S, D))]
    models = [
        keras.Model(inputs, make(dropout=0.3, seed=1)(inputs))
        for make in (keras.layers.AdditiveAttention, AdditiveAttention)
    ]
    models[0].save_weights(tmp_path / "model.weights.h5")
    models[1].load_weights(tmp_path / "model.weights.h5")
    assert_close(models[1]([QUERY, SAME]), models[0]([QUERY, SAME]))
    theirs, ours = (model.layers[-1].get_config() for model in models)
    assert {**ours, "name": theirs["name"]}.items() >= theirs.items()
    assert AdditiveAttention.from_config(theirs).dropout == 0.3


def test_it_is_one_head_of_the_additive_score():
    heads = MultiHeadAttention(1, D, score="additive", use_bias=False)
    heads(QUERY, SAME)
    for name in ("query", "key", "value", "output"):
        part = getattr(heads, f"{name}_dense")
        part.kernel.assign(ops.reshape(ops.eye(D), part.kernel.shape))
    layer = built(QUERY, SAME, units=D)
    score = heads.score
    score.query_dense.kernel.assign(layer.query_dense.kernel.value[None])
    score.key_dense.kernel.assign(layer.key_dense.kernel.value[None])
    score.vector.assign(layer.scale.value[None])
    assert_close(heads(QUERY, SAME), layer([QUERY, SAME]))


def test_asking_for_scores_changes_nothing_and_rows_sum_to_one():
    layer = built(QUERY, VALUE, units=A, dropout=0.5)
    output, scores = layer([QUERY, VALUE], return_attention_scores=True)
    assert_close(layer([QUERY, VALUE]), output)
    np.testing.assert_allclose(to_numpy(scores).sum(-1), 1, atol=1e-5)
    _, trained = layer([QUERY, VALUE], return_attention_scores=True, training=True)
    assert_close(trained, scores, message="scores are those before dropout")


def test_every_implicit_mask_applies_and_the_querys_goes_on():
    key_mask = np.array([[True, False, True, True, True]] * B)
    layer = built(QUERY, VALUE, KEY, units=A)
    output = layer([with_mask(QUERY, QUERY_MASK), with_mask(VALUE, VALUE_MASK), with_mask(KEY, key_mask)])
    expected, _ = oracle(layer, QUERY, VALUE, KEY, (VALUE_MASK & key_mask)[:, None] & QUERY_MASK[..., None])
    assert_close(output, expected)
    np.testing.assert_array_equal(mask_of(output), QUERY_MASK)
    more = layer([with_mask(QUERY, QUERY_MASK), with_mask(VALUE, VALUE_MASK), KEY], padding_mask=key_mask)
    assert_close(more, expected)


def test_a_row_with_nothing_to_attend_to_is_zero():
    layer = built(QUERY, VALUE, units=A)
    padding = np.array([[False] * S, [True] * S])
    output, scores = layer([QUERY, VALUE], padding_mask=padding, return_attention_scores=True)
    assert not to_numpy(output)[0].any()
    assert not to_numpy(scores)[0].any()
    assert to_numpy(output)[1].any()


def test_padding_does_not_matter_not_even_nan():
    layer = built(QUERY, VALUE, units=A)

    def function(query, value):
        return layer([query, value], mask=[QUERY_MASK, VALUE_MASK])

    expected = function(QUERY, VALUE)
    for filler in (1e30, np.inf, np.nan):
        inputs = [np.where(mask[..., None], x, filler) for x, mask in ((QUERY, QUERY_MASK), (VALUE, VALUE_MASK))]
        received, gradients = value_and_gradients(function, inputs, np.ones((B, T, E)))
        assert_close(received, to_numpy(expected))
        assert all(np.isfinite(gradient).all() for gradient in gradients)


@pytest.mark.parametrize(
    ("call", "message"),
    [
        (lambda: AdditiveAttention()(QUERY), r"`inputs` must be a list \[query, value\]"),
        (lambda: AdditiveAttention()([QUERY]), "`inputs` must be a list .*Received: a list of 1"),
        (lambda: AdditiveAttention()([QUERY, VALUE]), "`units` is needed.*units=None"),
        (lambda: AdditiveAttention(units=0), "`units` must be a positive integer.*units=0"),
        (lambda: AdditiveAttention(dropout=1.0), r"`dropout` must be in \[0, 1\).*dropout=1.0"),
        (lambda: AdditiveAttention(units=A)([QUERY, VALUE], mask=[None, QUERY_MASK]), "`value_mask` does not fit"),
        (lambda: AdditiveAttention(units=A)([QUERY, VALUE], attention_mask=VALUE_MASK), "`padding_mask`"),
    ],
)
def test_what_does_not_fit_is_refused(call, message):
    with pytest.raises(ValueError, match=message):
        call()


@pytest.mark.parametrize("options", [{"units": A}, {"units": A, "dropout": 0.5}, {"use_scale": False}])
def test_the_promises_of_every_layer(options):
    value = VALUE if "units" in options else SAME
    check_layer(
        functools.partial(AdditiveAttention, **options),
        ([QUERY, value],),
        options={"return_attention_scores": True},
        tolerance=4,
    )
