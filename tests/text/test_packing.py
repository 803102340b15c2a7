"""Packing: every sequence once and whole, full rows, neighbours told apart, the same order from the same seed."""

import time

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from keras_tfm.text import PackedBatches, PackedTranslationBatches, TranslationBatches, pack, read_parallel

LENGTHS = st.lists(st.integers(1, 23), min_size=1, max_size=97)
IDS = st.lists(st.integers(3, 96), min_size=1, max_size=13)
PAIRS = st.lists(st.tuples(IDS, IDS), min_size=1, max_size=41)


def best_fit_decreasing(lengths, capacity):
    """The number of rows, one sequence after the other, as the textbooks have it."""
    space = []
    for length in sorted(lengths, reverse=True):
        fitting = [row for row, left in enumerate(space) if left >= length]
        if not fitting:
            space.append(capacity)
            fitting = [len(space) - 1]
        space[min(fitting, key=lambda row: space[row])] -= length
    return len(space)


@given(LENGTHS, st.integers(23, 61))
def test_packing_is_best_fit_decreasing(lengths, capacity):
    rows = pack(lengths, capacity)
    assert sorted(np.concatenate(rows)) == list(range(len(lengths)))
    assert all(sum(lengths[index] for index in row) <= capacity for row in rows)
    assert len(rows) == best_fit_decreasing(lengths, capacity)


@given(st.lists(st.tuples(st.integers(1, 23), st.integers(1, 7)), min_size=1, max_size=97), st.integers(23, 61))
def test_every_stream_of_a_row_fits(lengths, capacity):
    rows = pack(np.array(lengths), (capacity, 7))
    assert sorted(np.concatenate(rows)) == list(range(len(lengths)))
    for row in rows:
        assert (np.array(lengths)[row].sum(axis=0) <= (capacity, 7)).all()


def test_nothing_makes_no_rows():
    assert pack([], 5) == []


@pytest.mark.parametrize(
    ("lengths", "capacity", "message"),
    [
        ([3, 9, 11], 8, "longer than a row, `capacity`. Received: capacity=8; sequence 1 of length 9, 2 such .* of 3"),
        ([[3, 4], [3, 9]], (9, 8), r"Received: capacity=\[9, 8\]; sequence 1 of length \[3, 9\]"),
        ([3, 0], 8, "`lengths` must be positive ints"),
        ([3.5], 8, "`lengths` must be positive ints"),
        ([[[3]]], 8, "`lengths` must be positive ints"),
        ([3], (8, 8), "`capacity` must be one positive int for each of 1 streams. Received: capacity=.8, 8."),
        ([3], 0, "`capacity` must be one positive int"),
    ],
)
def test_what_cannot_be_packed_is_named(lengths, capacity, message):
    with pytest.raises(ValueError, match=message):
        pack(lengths, capacity)


def test_a_hundred_thousand_sequences_take_no_time():
    rng = np.random.default_rng(0)
    start = time.process_time()
    rows = pack(rng.integers(1, 513, 100_000), 512)
    pack(rng.integers(3, 41, (100_000, 2)), (128, 128))
    assert time.process_time() - start < 5
    assert len(rows) < 51_500


def segments_of(inputs, labels, row, prefix="", ids="token_ids"):
    """The tokens, positions and labels of segments 1, 2, ... of a row, as lists."""
    segments = inputs[f"{prefix}segment_ids"][row]
    for segment in range(1, segments.max(initial=0) + 1):
        here = segments == segment
        yield [array[row][here].tolist() for array in (inputs[ids], inputs[f"{prefix}positions"], labels)]


@given(st.lists(IDS, min_size=1, max_size=53), st.integers(13, 40), st.integers(0, 99), st.booleans())
def test_every_sequence_comes_whole_once_an_epoch(sequences, row_length, seed, shuffle):
    labels = [[token % 5 + 1 for token in sequence] for sequence in sequences]
    batches = PackedBatches(sequences, labels, row_length=row_length, tokens_per_batch=90, seed=seed, shuffle=shuffle)
    for _ in range(2):
        seen, shapes = [], set()
        for index, (inputs, targets) in enumerate(batches):
            shapes.add(inputs["token_ids"].shape)
            for row, members in enumerate(batches.rows(index)):
                found = list(segments_of(inputs, targets, row))
                seen += members.tolist()
                assert found == [
                    [sequences[member], list(range(len(sequences[member]))), labels[member]] for member in members
                ]
            is_padding = inputs["segment_ids"] == 0
            assert not any(array[is_padding].any() for array in (*inputs.values(), targets))
            assert all(array.dtype == "int32" for array in (*inputs.values(), targets))
        batches.on_epoch_end()
        assert sorted(seen) == list(range(len(sequences)))
        assert len(shapes) == 1 and np.prod(*shapes) <= 90


@given(PAIRS, st.integers(0, 99))
def test_pairs_share_rows_and_segments(pairs, seed):
    sources, targets = zip(*pairs, strict=True)
    batches = PackedTranslationBatches(
        sources, targets, source_length=17, target_length=19, tokens_per_batch=80, seed=seed
    )
    seen = []
    for index, (inputs, labels) in enumerate(batches):
        assert inputs["source_ids"].shape[1] == 17 and labels.shape[1] == 19
        for row, members in enumerate(batches.rows(index)):
            seen += members.tolist()
            read = segments_of(inputs, inputs["source_ids"], row, "source_", "source_ids")
            assert [each[0] for each in read] == [sources[member] for member in members]
            written = list(segments_of(inputs, labels, row, "target_", "target_ids"))
            assert written == [
                [[1, *targets[member]], list(range(len(targets[member]) + 1)), [*targets[member], 2]]
                for member in members
            ]
    assert sorted(seen) == list(range(len(pairs)))


def test_the_loss_counts_the_labels_of_padded_batches():
    rng = np.random.default_rng(3)
    sources, targets = ([rng.integers(3, 50, rng.integers(1, 12)).tolist() for _ in range(61)] for _ in range(2))
    packed = PackedTranslationBatches(sources, targets, source_length=31, tokens_per_batch=200)
    padded = TranslationBatches(sources, targets, tokens_per_batch=200)
    counts = [
        np.bincount(np.concatenate([y.ravel() for _, y in batches]), minlength=50) for batches in (packed, padded)
    ]
    np.testing.assert_array_equal(counts[0][1:], counts[1][1:])


def random_sequences(count=151):
    rng = np.random.default_rng(2)
    return [rng.integers(1, 97, rng.integers(1, 12)).tolist() for _ in range(count)]


def epochs_of(batches, count=2):
    epochs = []
    for _ in range(count):
        epochs.append([inputs["token_ids"].tobytes() for (inputs,) in batches])
        batches.on_epoch_end()
    return epochs


def test_epochs_differ_and_the_same_seed_gives_them_again():
    def two_epochs(seed):
        return epochs_of(PackedBatches(random_sequences(), row_length=32, tokens_per_batch=128, seed=seed))

    first, again, other = two_epochs(5), two_epochs(5), two_epochs(6)
    assert first == again
    assert first[0] != first[1] and first[0] != other[0]
    assert len(first[0]) == len(first[1])


def test_sequences_have_other_neighbours_in_every_epoch():
    batches = PackedBatches(random_sequences(), row_length=32, tokens_per_batch=128)
    rows = []
    for _ in range(2):
        rows.append({tuple(sorted(row)) for index in range(len(batches)) for row in batches.rows(index)})
        batches.seek(1)
    assert len(rows[0] & rows[1]) < len(rows[0]) / 4


def test_an_epoch_goes_on_in_the_middle():
    def make():
        return PackedBatches(random_sequences(), row_length=32, tokens_per_batch=128)

    whole = epochs_of(make())
    batches = make()
    batches.seek(1, 3)
    assert epochs_of(batches, 1) == [whole[1][3:]]


def test_without_shuffling_every_epoch_is_the_same():
    first, second = epochs_of(PackedBatches(random_sequences(), row_length=32, tokens_per_batch=128, shuffle=False))
    assert first == second


def test_the_statistics_are_those_of_the_batches():
    batches = PackedBatches(random_sequences(), row_length=32, tokens_per_batch=128)
    arrays = [inputs["token_ids"] for (inputs,) in batches]
    real, size = sum(np.count_nonzero(array) for array in arrays), sum(array.size for array in arrays)
    statistics = batches.statistics
    assert (statistics.num_sentences, statistics.num_batches, statistics.num_shapes) == (151, len(arrays), 1)
    np.testing.assert_allclose(statistics.padding_share, 1 - real / size)
    np.testing.assert_allclose(statistics.tokens_per_batch, real / len(arrays))


def test_padding_has_the_id_it_was_given():
    inputs, labels = PackedBatches([[5, 0]], [[0, 6]], row_length=3, pad_id=9)[0]
    assert inputs["token_ids"].tolist() == [[5, 0, 9]] and labels.tolist() == [[0, 6, 9]]
    assert inputs["segment_ids"].tolist() == [[1, 1, 0]]


@pytest.mark.parametrize(
    ("arguments", "options", "message"),
    [
        ([[[5] * 9]], {}, "longer than a row, .* sequence 0 of length 9"),
        ([[]], {}, "at least one sequence"),
        ([[[5], []]], {}, "`token_ids` must not hold an empty sequence. Received: number 1"),
        ([[[5, 0]]], {}, "`token_ids` must not hold pad_id=0"),
        ([[[5]]], {"vocabulary_size": 5}, "`token_ids` must be in .* vocabulary_size=5"),
        ([[[5]]], {"tokens_per_batch": 7}, "`tokens_per_batch` must hold a row, 8 tokens. Received: .*=7"),
        ([[[5]], [[1], [2]]], {}, "`labels` must have one entry a sequence, 1. Received: 2"),
        ([[[5], [5, 6]], [[1], [2]]], {}, "`labels` must have one entry a token. Received: sequence 1 with 2 tokens"),
        ([[[5]], [[4]]], {"num_classes": 4}, "`labels` must be in .* vocabulary_size=4"),
    ],
)
def test_bad_data_is_refused_before_training(arguments, options, message):
    with pytest.raises(ValueError, match=message):
        PackedBatches(*arguments, row_length=8, **options)


@pytest.mark.parametrize(
    ("sources", "targets", "message"),
    [
        ([[5]], [[6], [7]], "the same number of sentences. Received: 1 sources, 2 targets"),
        ([[5]], [[6, 2]], "`targets` must not hold end_id=2, it is added. Received: sentence 0"),
        ([[5]], [[6] * 8], r"longer than a row, .* sequence 0 of length \[1, 9\]"),
        ([[9]], [[6]], "`source_ids` must be in"),
    ],
)
def test_bad_pairs_are_refused(sources, targets, message):
    with pytest.raises(ValueError, match=message):
        PackedTranslationBatches(sources, targets, source_length=8, vocabulary_size=9)


def test_multi30k_fills_the_rows(data_dir):
    folder = data_dir / "multi30k"
    pairs = read_parallel(folder / "train.lc.norm.tok.en", folder / "train.lc.norm.tok.de")
    lengths = np.array([[len(text.split()) for text in pair] for pair in pairs])
    start = time.process_time()
    fill = {capacity: lengths[:, 0].sum() / (len(pack(lengths[:, 0], capacity)) * capacity) for capacity in (64, 128)}
    both = lengths.sum() / (len(pack(lengths, (128, 128))) * 256)
    assert time.process_time() - start < 2
    assert min(fill.values()) > 0.98 and both > 0.94
