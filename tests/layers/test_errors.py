"""Bad input gets an error that names the argument, the rule and what was received, before any tensor maths."""

import keras
import numpy as np
import pytest

from keras_tfm import layers, models

X = np.zeros((3, 5, 8), "float32")


@pytest.mark.parametrize(
    ("make", "message"),
    [
        (lambda: layers.TransformerEncoder(16, 3)(X), "`num_heads` must divide.*num_heads=3"),
        (lambda: layers.TransformerEncoder(0, 2), "`intermediate_dim` must be a positive.*intermediate_dim=0"),
        (lambda: layers.TransformerEncoder(16, 2, dropout=1.5), r"`dropout` must be in \[0, 1\).*dropout=1.5"),
        (lambda: layers.MultiHeadAttention(4, 8, num_key_value_heads=3), "`num_key_value_heads` must divide"),
        (lambda: layers.MultiHeadAttention(2, 8, position="ropes"), "`position` must be .*position='ropes'"),
        (lambda: layers.MultiHeadAttention(2, 7, position="rope"), "even `key_dim`.*key_dim=7"),
        (lambda: layers.TransformerEncoder(16, 2, normalization="group")(X), "`normalization`.*'group'"),
        (lambda: layers.TransformerDecoderStack(0, 16, 2), "`num_layers` must be.*num_layers=0"),
        (lambda: layers.PositionalEmbedding(0, 5, 8), "`vocabulary_size` must be.*vocabulary_size=0"),
        (lambda: layers.PositionEmbedding(4)(X), "Positions must be in.*sequence_length=4"),
        (lambda: models.Seq2SeqTransformer(9, position="rotary"), "`position` must be .*position='rotary'"),
        (lambda: models.SequenceTagger(5), "One of `vocabulary_size`"),
    ],
)
def test_bad_arguments(make, message):
    with pytest.raises(ValueError, match=message):
        make()


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ({"attention_mask": np.ones((3, 5), bool)}, "`padding_mask`"),
        ({"attention_mask": np.zeros((3, 5, 5), "float32")}, "`attention_bias`"),
        ({"attention_mask": np.ones((3, 5, 4), bool)}, "`attention_mask` does not fit"),
        ({"padding_mask": np.ones((3, 4), bool)}, "`padding_mask` does not fit"),
        ({"padding_mask": np.ones((3, 5), "float32")}, "`padding_mask` must be boolean"),
        ({"cache_update_index": 0}, "`cache_update_index` should not be set"),
    ],
)
def test_bad_call_arguments_of_attention(arguments, message):
    with pytest.raises(ValueError, match=message):
        layers.MultiHeadAttention(2, 4)(X, X, **arguments)


def test_a_cache_that_is_too_short_is_refused():
    layer = layers.MultiHeadAttention(2, 4)
    layer(X, X)
    with pytest.raises(ValueError, match="cache|fit"):
        layer(X, X, cache=layer.create_cache(3, 4), cache_update_index=0)


def test_the_inputs_of_a_decoder_do_not_change():
    with_cross, without = layers.TransformerDecoder(16, 2), layers.TransformerDecoder(16, 2)
    with_cross(X, X)
    without(X)
    for call in (lambda: with_cross(X), lambda: without(X, X)):
        with pytest.raises(ValueError, match="must not change"):
            call()


def test_ids_outside_the_vocabulary_are_refused_before_training():
    model = models.SequenceTagger(3, 1, 8, 16, 2, vocabulary_size=6)
    model.compile("sgd", keras.losses.SparseCategoricalCrossentropy(from_logits=True))
    with pytest.raises(ValueError, match=r"token_ids\[0, 1\]=6, vocabulary_size=6"):
        model.fit(np.array([[1, 6]]), np.array([[0, 0]]), verbose=0)
    with pytest.raises(ValueError, match="ids from 1 to 9, vocabulary_size=6"):
        layers.PositionalEmbedding(6, 5, 8)(np.array([[1, 9]], "int32"))
