"""Packed equals separate: what a model says and loses on packed rows is what it does on each sequence alone."""

import keras
import numpy as np
import pytest
from keras import ops

from keras_tfm import models
from keras_tfm.text import PackedBatches, PackedTranslationBatches
from keras_tfm.training import TokenAccuracy, TokenCrossEntropy
from tests.numerics import assert_close, randomize, to_numpy

SIZES = dict(num_layers=1, hidden_dim=12, intermediate_dim=20, num_heads=2)
LENGTHS = (3, 5, 1, 7, 2, 4)
RNG = np.random.default_rng(0)
TEXTS = [RNG.integers(3, 17, length).tolist() for length in LENGTHS]
OTHERS = [RNG.integers(3, 17, length).tolist() for length in LENGTHS[::-1]]
LABELS = [[1 + token % 4 for token in text] for text in TEXTS]


def twins(model_class, *args, **options):
    """A packed model and one that is not, with the same random weights."""
    packed, plain = (model_class(*args, **SIZES, **options, packed=packed) for packed in (True, False))
    randomize(packed, 1, scale=0.4)
    plain.set_weights(packed.get_weights())
    return packed, plain


def tagger(**options):
    return twins(models.SequenceTagger, 5, vocabulary_size=17, **options)


def language_model(**options):
    return twins(models.CausalLM, 17, **options)


def translator(**options):
    return twins(models.Seq2SeqTransformer, 17, **options)


def batches_of(texts, labels):
    return PackedBatches(texts, labels, row_length=11, tokens_per_batch=55)


def loss_of(labels, logits, **options):
    return TokenCrossEntropy(label_smoothing=0.1, **options)(ops.convert_to_tensor(labels), logits)


def to_float(scalar):
    return float(to_numpy(scalar))


def padded(sequences):
    """int32 `[B, T]`: a row for each sequence."""
    rows = np.zeros((len(sequences), max(map(len, sequences))), "int32")
    for row, sequence in zip(rows, sequences, strict=True):
        row[: len(sequence)] = sequence
    return rows


def assert_packed_equals_separate(packed, batches, plain, inputs_of_plain, labels_of_plain):
    """Logits, losses and tokens of one batch are those of the plain model with a row for each sequence."""
    (inputs, labels), separate_labels = batches[0], labels_of_plain
    together, separate = packed(inputs, training=False), plain(inputs_of_plain, training=False)
    segments = inputs["target_segment_ids" if "target_ids" in inputs else "segment_ids"]
    logits, separate_logits, seen = to_numpy(together), to_numpy(separate), []
    assert np.isfinite(logits).all()
    for row, members in enumerate(batches.rows(0)):
        seen += list(members)
        for segment, member in enumerate(members, 1):
            length = np.count_nonzero(separate_labels[member])
            assert_close(logits[row][segments[row] == segment], separate_logits[member, :length])
    assert sorted(seen) == list(range(len(LENGTHS)))
    losses = [to_float(loss_of(labels, together)), to_float(loss_of(separate_labels, separate))]
    np.testing.assert_allclose(losses[0], losses[1], rtol=1e-5)
    accuracies = TokenAccuracy(), TokenAccuracy()
    accuracies[0].update_state(ops.convert_to_tensor(labels), together)
    accuracies[1].update_state(ops.convert_to_tensor(separate_labels), separate)
    assert float(accuracies[0].count) == float(accuracies[1].count) == np.count_nonzero(segments)


@pytest.mark.parametrize("position", ["sinusoidal", "learned", "rope"])
def test_taggers(position):
    packed, plain = tagger(position=position)
    assert_packed_equals_separate(packed, batches_of(TEXTS, LABELS), plain, padded(TEXTS), padded(LABELS))


@pytest.mark.parametrize(
    ("position", "mask_zero"), [("learned", False), ("sinusoidal", True), ("rope", False), ("alibi", True)]
)
def test_language_models(position, mask_zero):
    packed, plain = language_model(position=position, mask_zero=mask_zero)
    assert_packed_equals_separate(packed, batches_of(TEXTS, LABELS), plain, padded(TEXTS), padded(LABELS))


@pytest.mark.parametrize("position", ["sinusoidal", "rope"])
def test_translation(position):
    packed, plain = translator(position=position)
    batches = PackedTranslationBatches(TEXTS, OTHERS, source_length=13, target_length=17, tokens_per_batch=51)
    inputs = {"source_ids": padded(TEXTS), "target_ids": padded([[1, *target] for target in OTHERS])}
    assert_packed_equals_separate(packed, batches, plain, inputs, padded([[*target, 2] for target in OTHERS]))


def test_a_text_of_a_row_is_as_it_is_alone():
    packed, plain = language_model(position="rope")
    batches = batches_of(TEXTS, LABELS)
    inputs, _ = batches[0]
    second = batches.rows(0)[0][1]
    logits = to_numpy(packed(inputs))[0][inputs["segment_ids"][0] == 2]
    assert_close(logits, to_numpy(plain(np.array([TEXTS[second]])))[0])


def test_two_vocabularies_and_half_precision():
    packed, _ = twins(models.Seq2SeqTransformer, 17, target_vocabulary_size=19, dtype="mixed_bfloat16")
    (inputs, labels), *_ = PackedTranslationBatches(TEXTS, OTHERS, source_length=13, tokens_per_batch=51)
    logits = packed(inputs)
    assert logits.shape == (*labels.shape, 19) and np.isfinite(to_numpy(logits)).all()


def test_fit_learns_from_packed_rows():
    keras.utils.set_random_seed(0)
    model = models.CausalLM(17, **SIZES, packed=True, dropout=0.1)
    model.compile(keras.optimizers.Adam(0.02), TokenCrossEntropy(), metrics=[TokenAccuracy()])
    cycles = [[3 + (start + step) % 7 for step in range(length + 1)] for start, length in enumerate(LENGTHS * 3)]
    batches = PackedBatches([x[:-1] for x in cycles], [x[1:] for x in cycles], row_length=11, tokens_per_batch=44)
    history = model.fit(batches, epochs=12, verbose=0).history
    assert history["loss"][-1] < history["loss"][0] / 2


def test_decoding_is_as_before():
    packed, plain = language_model(end_id=2)
    ours, theirs = (each.generate(TEXTS[:3], max_length=4) for each in (packed, plain))
    np.testing.assert_array_equal(ours.sequences, theirs.sequences)
    packed, plain = translator()
    ours, theirs = (each.generate(TEXTS[:3], max_length=4) for each in (packed, plain))
    np.testing.assert_array_equal(ours.sequences, theirs.sequences)


@pytest.mark.parametrize("make", [tagger, language_model, translator])
def test_packed_models_are_saved(make, tmp_path):
    packed, _ = make(position="rope")
    path = str(tmp_path / "model.keras")
    packed.save(path)
    loaded = keras.saving.load_model(path)
    assert [each.name for each in loaded.inputs] == [each.name for each in packed.inputs]
    rows = {each.name: np.ones((2, 3), "int32") for each in packed.inputs}
    assert_close(loaded(rows), to_numpy(packed(rows)))


@pytest.mark.parametrize("make", [tagger, language_model, translator])
def test_weights_move_between_packed_and_plain_models(make, tmp_path):
    packed, plain = make(position="learned")
    path = str(tmp_path / "model.weights.h5")
    packed.save_weights(path)
    randomize(plain, 2)
    plain.load_weights(path)
    for ours, theirs in zip(packed.get_weights(), plain.get_weights(), strict=True):
        np.testing.assert_array_equal(ours, theirs)


def test_what_has_one_output_for_a_row_is_not_packed():
    with pytest.raises(ValueError, match="`packed` needs an output for each token, .* Received: packed=True"):
        models.SequenceClassifier(3, **SIZES, vocabulary_size=17, packed=True)
