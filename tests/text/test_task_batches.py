"""Batches for translation, tagging and classification hold what the losses and the models expect."""

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from keras_tfm.text import ClassificationBatches, TaggingBatches, TranslationBatches

IDS = st.lists(st.integers(3, 96), min_size=1, max_size=13)


@given(st.lists(st.tuples(IDS, IDS), min_size=1, max_size=41), st.integers(1, 5))
def test_targets_begin_with_start_and_labels_end_with_end(pairs, num_widths):
    sources, targets = zip(*pairs, strict=True)
    batches = TranslationBatches(sources, targets, tokens_per_batch=90, num_widths=num_widths, width_multiple=1)
    for index, (inputs, labels) in enumerate(batches):
        for row, source, target, label in zip(batches.rows(index), *inputs.values(), labels, strict=True):
            source, target, label = (ids[ids != 0].tolist() for ids in (source, target, label))
            expected = (list(sources[row]), [1, *targets[row]], [*targets[row], 2]) if row >= 0 else ([], [], [])
            assert (source, target, label) == expected
        assert inputs["target_ids"].dtype == labels.dtype == "int32"
        np.testing.assert_array_equal(inputs["target_ids"] != 0, labels != 0)


def test_other_special_ids_are_kept_to():
    batches = TranslationBatches([[5]], [[6, 7]], start_id=50, end_id=51, pad_id=52, width_multiple=4, row_multiple=1)
    inputs, labels = batches[0]
    assert inputs["target_ids"].tolist() == [[50, 6, 7, 52]]
    assert labels.tolist() == [[6, 7, 51, 52]]
    assert inputs["source_ids"].tolist() == [[5, 52, 52, 52]]


def test_the_end_counts_as_length():
    with pytest.raises(ValueError, match="first is sentence 0 of length 5"):
        TranslationBatches([[5]], [[6] * 4], max_length=4)


@pytest.mark.parametrize(("target", "name"), [([6, 2], "end_id=2"), ([1, 6], "start_id=1")])
def test_targets_that_have_start_or_end_already_are_refused(target, name):
    with pytest.raises(ValueError, match=f"`targets` must not hold {name}, it is added. Received: sentence 1"):
        TranslationBatches([[5], [5]], [[6], target])


def test_each_side_is_checked_against_its_vocabulary():
    TranslationBatches([[9]], [[4]], vocabulary_size=10, target_vocabulary_size=5)
    with pytest.raises(ValueError, match="`target_ids` must be in .*from 5 to 5, vocabulary_size=5"):
        TranslationBatches([[9]], [[5]], vocabulary_size=10, target_vocabulary_size=5)
    with pytest.raises(ValueError, match="`target_ids` must be in .*vocabulary_size=5"):
        TranslationBatches([[4]], [[5]], vocabulary_size=5)


def tagged_sentences(count=83):
    rng = np.random.default_rng(7)
    words = [rng.integers(1, 97, rng.integers(1, 19)).tolist() for _ in range(count)]
    labels = [[1 + word % 5 for word in sentence] for sentence in words]
    characters = [[[1 + (word + i) % 30 for i in range(1 + word % 11)] for word in sentence] for sentence in words]
    return words, labels, characters


def test_labels_and_characters_stay_with_their_words():
    words, labels, characters = tagged_sentences()
    batches = TaggingBatches(words, labels, character_ids=characters, character_length=7, tokens_per_batch=150)
    for index, (inputs, batch_labels) in enumerate(batches):
        token_ids, character_ids = inputs["token_ids"], inputs["character_ids"]
        assert character_ids.shape == (*token_ids.shape, 7)
        np.testing.assert_array_equal(batch_labels, np.where(token_ids > 0, 1 + token_ids % 5, 0))
        assert not character_ids[token_ids == 0].any()
        for place, row in enumerate(batches.rows(index)):
            for step, letters in enumerate(characters[row] if row >= 0 else []):
                assert character_ids[place, step].tolist() == (letters + [0] * 7)[:7]


def test_without_labels_there_are_inputs_alone():
    words, _, _ = tagged_sentences()
    assert all(len(batch) == 1 for batch in TaggingBatches(words, tokens_per_batch=150))


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"labels": [[1]]}, "`labels` must have one entry a sentence, 2. Received: 1"),
        ({"labels": [[1, 2], [1, 2]]}, "`labels` must have one entry a word. Received: sentence 1 with 1 words and 2"),
        ({"labels": [[1, 0], [1]]}, "`labels` must not hold pad_id=0"),
        ({"labels": [[1, 5], [1]], "num_classes": 5}, "`labels` must be in .* from 1 to 5, vocabulary_size=5"),
        ({"character_ids": [[[1], [2]], []]}, "`character_ids` must have one entry a word. Received: sentence 1"),
        ({"character_ids": [[[1], []], [[2]]]}, "`character_ids` must not hold an empty sequence. Received: number 1"),
        (
            {"character_ids": [[[1], [9]], [[2]]], "character_vocabulary_size": 9},
            "`character_ids` must be in .* from 1 to 9",
        ),
    ],
)
def test_labels_and_characters_that_do_not_fit_are_refused(options, message):
    with pytest.raises(ValueError, match=message):
        TaggingBatches([[5, 6], [7]], **options)


def test_rows_of_padding_weigh_nothing_in_a_classification():
    words, _, _ = tagged_sentences()
    labels = [len(sentence) % 3 for sentence in words]
    batches, total = ClassificationBatches(words, labels, tokens_per_batch=150), 0
    for index, (inputs, batch_labels, weights) in enumerate(batches):
        rows = batches.rows(index)
        np.testing.assert_array_equal(weights, (rows >= 0).astype("float32"))
        lengths = np.count_nonzero(inputs["token_ids"], axis=1)
        np.testing.assert_array_equal(batch_labels, np.where(rows >= 0, lengths % 3, 0))
        total += weights.sum()
    assert total == len(words)


@pytest.mark.parametrize(
    ("labels", "message"),
    [
        ([1], r"`labels` must be one int a sentence, 2. Received: shape \(1,\)"),
        ([0, 3], "`labels` must be in .* from 0 to 3, vocabulary_size=3"),
        ([0.5, 1.0], "`labels` must be whole numbers"),
    ],
)
def test_classes_that_do_not_fit_are_refused(labels, message):
    with pytest.raises(ValueError, match=message):
        ClassificationBatches([[5], [6]], labels, num_classes=3)
