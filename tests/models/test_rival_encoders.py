"""Models take an encoder without attention: masks, files and decoding are as with attention."""

import keras
import numpy as np
import pytest

from keras_tfm import layers, models, testing
from tests.numerics import assert_close, randomize

SIZES = dict(num_layers=1, hidden_dim=8, intermediate_dim=10, num_heads=2)
IDS = np.array([[5, 6, 7, 3, 9], [9, 4, 2, 0, 0]], "int32")
MIXERS = {"lstm": layers.RecurrentMixer, "gru": layers.RecurrentMixer, "conv": layers.ConvolutionalMixer}
# On JAX each loop is compiled at every call outside a program; `check_layer` has the recurrent layers in programs.
MODELS = {
    "tagger": (models.SequenceTagger, dict(num_classes=5, vocabulary_size=11)),
    "classifier": (models.SequenceClassifier, dict(num_classes=3, vocabulary_size=11)),
    "translator": (models.Seq2SeqTransformer, dict(vocabulary_size=11)),
}


@pytest.mark.parametrize("encoder", MIXERS)
def test_a_tagger_is_saved_and_padding_does_not_matter(encoder, tmp_path):
    model = randomize(models.SequenceTagger(5, vocabulary_size=11, encoder=encoder, **SIZES))
    assert isinstance(model.encoder.blocks[0].self_attention, MIXERS[encoder])
    testing.assert_padding_invariant(model, IDS)
    model.save(tmp_path / "model.keras")
    loaded = keras.saving.load_model(tmp_path / "model.keras")
    assert loaded.get_config()["encoder"] == encoder
    assert_close(loaded(IDS), model(IDS))


def test_a_translator_decodes_what_a_convolution_read():
    model = randomize(models.Seq2SeqTransformer(11, encoder="conv", **SIZES), scale=0.4)
    sequences, _, lengths = model.decode(IDS, max_length=4)
    alone, _, _ = model.decode(IDS[1:, :3], max_length=4)
    assert sequences.shape == (2, 4) and lengths.min() >= 1
    np.testing.assert_array_equal(alone[0], sequences[1])
    assert not isinstance(model.decoder.blocks[0].self_attention, layers.ConvolutionalMixer)
    assert models.Seq2SeqTransformer.from_config(model.get_config()).get_config() == model.get_config()


def test_a_classifier_of_a_rival_learns():
    model = models.SequenceClassifier(3, vocabulary_size=11, encoder="gru", dropout=0.1, **SIZES)
    model.compile("adam", "mse")
    before = model.get_weights()
    assert np.isfinite(model.train_on_batch(IDS, np.zeros((2, 3), "float32")))
    assert any((x != y).any() for x, y in zip(before, model.get_weights(), strict=True))


@pytest.mark.parametrize("name", MODELS)
@pytest.mark.parametrize(
    ("options", "message"),
    [
        (dict(encoder="rnn"), "`encoder` must be one of .*Received: encoder='rnn'"),
        (dict(encoder="conv", position="rope"), "`position` of this kind is of attention.*position='rope'"),
        (dict(encoder="gru", num_key_value_heads=1), "`num_key_value_heads` of this kind is of attention"),
        (dict(encoder="lstm", layer_loop="scan"), "`layer_loop='scan'` needs an `encoder`.*encoder='lstm'"),
    ],
)
def test_what_makes_no_sense_is_refused(name, options, message):
    model_class, arguments = MODELS[name]
    with pytest.raises(ValueError, match=message):
        model_class(**arguments, **options, **SIZES)


@pytest.mark.parametrize("name", ["tagger", "translator"])
def test_packed_rows_need_attention(name):
    model_class, arguments = MODELS[name]
    with pytest.raises(ValueError, match="`packed` of this kind is of attention"):
        model_class(**arguments, encoder="lstm", packed=True, **SIZES)
