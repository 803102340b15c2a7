"""Law 9: no layer erases or ignores a mask it was given, implicit or explicit."""

import keras
import numpy as np
import pytest

from keras_tfm import inspection, layers, testing, training
from tests.numerics import mask_of, randomize, to_numpy, with_mask

MASK = np.array([[True, True, True, True, True], [True, True, True, False, False]])
WIDTH = 8


def some_input(seed=0):
    return np.random.default_rng(seed).normal(size=(2, 5, WIDTH)).astype("float32")


LAYERS = {
    "MultiHeadAttention": lambda: layers.MultiHeadAttention(2, 4),
    "TransformerEncoder": lambda: layers.TransformerEncoder(16, 2),
    "TransformerDecoder": lambda: layers.TransformerDecoder(16, 2),
    "TransformerEncoderStack": lambda: layers.TransformerEncoderStack(2, 16, 2, normalize_first=True),
    "TransformerDecoderStack": lambda: layers.TransformerDecoderStack(2, 16, 2),
    "FeedForward": lambda: layers.FeedForward(16),
    "SinePositionEncoding": lambda: layers.SinePositionEncoding(),
    "PositionEmbedding": lambda: layers.PositionEmbedding(9),
}


@pytest.mark.parametrize("name", LAYERS)
def test_the_mask_stays_on_the_input_and_goes_on_to_the_output(name):
    layer, x = LAYERS[name](), with_mask(some_input(), MASK)
    output = layer(x, x) if name == "MultiHeadAttention" else layer(x)
    np.testing.assert_array_equal(mask_of(x), MASK)
    np.testing.assert_array_equal(mask_of(output), MASK)


def test_two_cross_attentions_leave_the_mask_of_the_memory():
    memory, target = with_mask(some_input(1), MASK), with_mask(some_input(2), MASK)
    layers.TransformerDecoderStack(2, 16, 2)(target, memory)
    np.testing.assert_array_equal(mask_of(memory), MASK)
    np.testing.assert_array_equal(mask_of(target), MASK)


def test_explicit_and_implicit_padding_both_apply():
    block = randomize(_built(layers.TransformerEncoder(16, 2)))
    explicit = np.array([[True, True, True, True, False], [True] * 5])
    both = block(with_mask(some_input(), MASK), padding_mask=explicit)
    together = block(some_input(), padding_mask=explicit & MASK)
    real = explicit & MASK
    np.testing.assert_allclose(to_numpy(both)[real], to_numpy(together)[real], atol=1e-5)
    assert np.abs(to_numpy(both) - to_numpy(block(some_input())))[real].max() > 1e-3


def test_an_explicit_query_mask_empties_its_rows():
    layer, x = layers.MultiHeadAttention(2, 4, use_bias=False), some_input()
    output, scores = layer(x, x, query_mask=MASK, return_attention_scores=True)
    assert np.all(to_numpy(output)[~MASK] == 0) and np.all(to_numpy(scores).transpose(0, 2, 1, 3)[~MASK] == 0)
    assert np.all(to_numpy(scores).sum(-1).transpose(0, 2, 1)[MASK] > 0.99)


def _built(layer):
    layer(some_input())
    return layer


def tied_model():
    ids = keras.Input((None,), dtype="int32", name="ids")
    embed = layers.PositionalEmbedding(
        11, 20, WIDTH, mask_zero=True, position="sinusoidal", embedding_scale="sqrt", name="embed"
    )
    x = layers.TransformerEncoderStack(2, 16, 2)(embed(ids))
    return keras.Model(ids, embed(x, reverse=True))


def test_the_mask_reaches_the_loss_through_scaled_embedding_blocks_and_tied_head():
    model = tied_model()
    model.compile(
        "sgd", keras.losses.SparseCategoricalCrossentropy(from_logits=True), weighted_metrics=[training.Perplexity()]
    )
    ids = np.array([[3, 4, 5, 6], [7, 8, 0, 0]], "int32")
    labels = np.where(ids > 0, (ids + 1) % 11, 0)
    longer = [np.pad(each, ((0, 0), (0, 3))) for each in (ids, labels)]
    loss, perplexity = model.evaluate(ids, labels, verbose=0)
    assert np.allclose([loss, perplexity], model.evaluate(*longer, verbose=0), atol=1e-5)
    np.testing.assert_allclose(np.exp(loss), perplexity, rtol=1e-4)
    assert set(inspection.mask_report(model, print_fn=None).outputs.values()) == {"embed"}


def test_the_report_says_where_a_mask_is_lost():
    ids = keras.Input((None,), dtype="int32", name="ids")
    x = keras.layers.Embedding(11, WIDTH, mask_zero=True, name="embed")(ids)
    model = keras.Model(ids, keras.layers.Dense(3, name="head")(x * 2.0))
    report = inspection.mask_report(model, print_fn=None)
    assert any("LOST" in row.remark for row in report.rows)
    assert report.outputs == {"head": None}
    assert "NO MASK" in str(report)


def test_the_checks_for_users_find_what_is_broken():
    testing.assert_padding_invariant(tied_model())
    testing.assert_batch_invariant(tied_model())
    ids = keras.Input((None,), dtype="int32", name="ids")
    x = layers.PositionalEmbedding(11, 20, WIDTH)(ids)
    model = keras.Model(ids, layers.TransformerEncoder(16, 2)(x))
    with pytest.raises(AssertionError, match="changed an earlier output"):
        testing.assert_causal(model)
    with pytest.raises(AssertionError, match="padding"):
        testing.assert_padding_invariant(model)
