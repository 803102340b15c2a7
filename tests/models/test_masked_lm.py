"""A model of masked tokens: what it predicts with, what it learns from, and how its encoder moves to other tasks."""

import keras
import numpy as np
import pytest

from keras_tfm.models import MaskedLM, SequenceClassifier, SequenceTagger
from keras_tfm.text import MaskedLanguageBatches, TokenMasking
from keras_tfm.training import TokenAccuracy, TokenCrossEntropy
from tests.numerics import assert_close, randomize, to_numpy

SIZES = dict(num_layers=1, hidden_dim=12, intermediate_dim=20, num_heads=2, position="learned", sequence_length=13)
IDS = np.array([[5, 16, 7, 3, 16], [9, 16, 2, 0, 0]], "int32")


@pytest.fixture(scope="module")
def model():
    return randomize(MaskedLM(17, **SIZES), scale=0.4)


def numpy_of(layer):
    return {weight.path.split("/")[-2] + "/" + weight.name: to_numpy(weight.value) for weight in layer.weights}


def test_the_logits_are_those_of_the_head_of_bert(model):
    encoded = to_numpy(keras.Model(model.input, model.get_layer("encoder").output)(IDS))
    weights = numpy_of(model.get_layer("masked_lm_head"))
    table = to_numpy(model.get_layer("token_embedding").weights[0].value)
    x = encoded @ weights["intermediate_dense/kernel"] + weights["intermediate_dense/bias"]
    x = to_numpy(keras.ops.gelu(keras.ops.convert_to_tensor(x.astype("float32")), approximate=False))
    x = (x - x.mean(-1, keepdims=True)) / np.sqrt(x.var(-1, keepdims=True) + 1e-5)
    x = x * weights["intermediate_layer_norm/gamma"] + weights["intermediate_layer_norm/beta"]
    assert_close(model(IDS), x @ table.T + weights["masked_lm_head/output_bias"], factor=3)


def test_asked_for_some_places_it_says_of_them_what_it_says_of_all(model):
    some = MaskedLM.from_config({**model.get_config(), "mask_positions": True})
    some.set_weights(model.get_weights())
    places = np.array([[1, 4], [1, 0]], "int32")
    expected = np.take_along_axis(to_numpy(model(IDS)), places[..., None], axis=1)
    assert_close(some({"token_ids": IDS, "mask_positions": places}), expected)


def test_what_padding_holds_does_not_matter(model):
    longer = np.concatenate([IDS, np.zeros((2, 3), "int32")], axis=1)
    real = IDS != 0
    assert_close(to_numpy(model(longer))[:, :5][real], to_numpy(model(IDS))[real])


def test_saved_and_loaded_it_says_the_same(model, tmp_path):
    model.save(tmp_path / "model.keras")
    loaded = keras.saving.load_model(tmp_path / "model.keras")
    assert isinstance(loaded, MaskedLM) and {**loaded.get_config(), "dtype": 0} == {**model.get_config(), "dtype": 0}
    assert_close(loaded(IDS), model(IDS))


def test_fit_learns_what_is_masked():
    sentences = [[4 + number % 5, 9 + number % 5, 4 + number % 5] for number in range(64)]
    masking = TokenMasking(vocabulary_size=17, mask_id=16, random_share=0.0, mask_share=1.0)
    batches = MaskedLanguageBatches(sentences, masking, tokens_per_batch=64)
    model = MaskedLM(17, **{**SIZES, "position": None}, dropout=0.0)
    model.compile(keras.optimizers.Adam(0.01), TokenCrossEntropy(), metrics=[TokenAccuracy()])
    history = model.fit(batches, epochs=16, verbose=0).history
    assert history["token_accuracy"][-1] > 0.6  # a guess is right in one of ten


@pytest.mark.parametrize("make", [SequenceTagger, SequenceClassifier])
def test_a_task_takes_the_encoder_and_keeps_its_head(make, model):
    task = make(3, vocabulary_size=17, **SIZES, dropout=0.0)
    head = task.get_layer("classes").get_weights()
    assert task.take_encoder(model) is task
    for name in ("token_embedding", "position_embedding", "encoder"):
        for ours, theirs in zip(task.get_layer(name).weights, model.get_layer(name).weights, strict=True):
            np.testing.assert_array_equal(to_numpy(ours.value), to_numpy(theirs.value))
            assert ours.value is not theirs.value  # or training would delete it in both, on JAX
    np.testing.assert_array_equal(task.get_layer("classes").get_weights()[0], head[0])
    part = [keras.Model(each.input, each.get_layer("encoder").output) for each in (task, model)]
    assert_close(part[0](IDS), part[1](IDS))


def test_characters_that_one_model_has_are_left_alone(model):
    tagger = SequenceTagger(3, vocabulary_size=17, character_vocabulary_size=7, **SIZES)
    characters = tagger.get_layer("character_embedding").get_weights()
    tagger.take_encoder(model)
    np.testing.assert_array_equal(tagger.get_layer("character_embedding").get_weights()[0], characters[0])


@pytest.mark.parametrize(
    "other, message",
    [
        (dict(vocabulary_size=18), "vocabulary_size=18 here, 17 in source"),
        (dict(position="rope"), "position='rope' here, 'learned' in source"),
        (dict(sequence_length=14), "sequence_length=14 here, 13 in source"),
        (dict(activation="gelu", num_heads=3), "activation='gelu' here, 'relu' in source; num_heads=3 here, 2"),
    ],
)
def test_an_encoder_that_does_not_fit_is_refused_and_nothing_is_copied(other, message, model):
    tagger = SequenceTagger(3, **{"vocabulary_size": 17, **SIZES, **other})
    before = tagger.get_weights()
    with pytest.raises(ValueError, match=f"`source` must have the vocabulary, positions .* Received: {message}"):
        tagger.take_encoder(model)
    for one, two in zip(tagger.get_weights(), before, strict=True):
        np.testing.assert_array_equal(one, two)


def test_what_is_no_model_with_an_encoder_is_refused(model):
    with pytest.raises(ValueError, match="`source` must be a model with an encoder.*Received: source of type Dense"):
        model.take_encoder(keras.layers.Dense(2))


@pytest.mark.parametrize("name", ["character_vocabulary_size", "feature_dim", "num_classes"])
def test_inputs_that_would_tell_what_is_hidden_are_refused(name):
    with pytest.raises(ValueError, match=f"`{name}` is no argument of MaskedLM.*Received: {name}=5"):
        MaskedLM(17, **SIZES, **{name: 5})
