import keras
import numpy as np
import pytest
from scipy import stats

from keras_tfm.text import Word2VecBatches

V, W = 13, 3


def corpus(num=60, longest=11, seed=0):
    rng = np.random.default_rng(seed)
    frequency = 1 / np.arange(1, V)
    return [rng.choice(np.arange(1, V), rng.integers(1, longest), p=frequency / frequency.sum()) for _ in range(num)]


def make(rows, **options):
    return Word2VecBatches(rows, **{"vocabulary_size": V, "window": W, "row_length": 17, **options})


def all_rows(batches):
    """The arrays of an epoch, row after row."""
    drawn = [inputs for (inputs,) in batches]
    return {name: np.concatenate([inputs[name] for inputs in drawn]) for name in drawn[0]}


def pairs(rows):
    """(radius, distance, center, neighbour) of each pair, by loops."""
    found = []
    for ids, segments, radii in zip(rows["token_ids"], rows["segment_ids"], rows["radii"], strict=True):
        for i, radius in enumerate(radii):
            for j in range(max(i - radius, 0), min(i + radius + 1, len(ids))):
                if i != j and segments[i] == segments[j]:
                    found.append((int(radius), abs(i - j), int(ids[i]), int(ids[j])))
    return found


def test_every_pair_of_every_window_comes_once():
    """With windows of radius 1 and no subsampling the pairs are the neighbours in the text, whatever the rows."""
    sentences = [row for row in corpus() if len(row) > 1]
    expected = sorted(
        pair
        for row in sentences
        for one, other in zip(row, row[1:], strict=False)
        for pair in ((one, other), (other, one))
    )
    for shuffle in (False, True):
        rows = all_rows(make(sentences, window=1, row_length=7, subsampling=0, shuffle=shuffle))
        assert sorted(pair[2:] for pair in pairs(rows)) == expected


def test_pairs_are_counted():
    batches = make(corpus())
    rows = all_rows(batches)
    expected = {"skip_gram": len(pairs(rows)), "cbow": np.count_nonzero(rows["radii"])}
    batches.seek(0)
    for architecture, count in expected.items():
        assert batches.pairs_per_batch(architecture) * len(batches) == pytest.approx(count)
    with pytest.raises(ValueError, match="`architecture` must be 'skip_gram' or 'cbow'. Received: .*'glove'"):
        batches.pairs_per_batch("glove")


def test_no_window_is_cut_at_the_edge_of_a_row():
    text = np.arange(1, 500) % (V - 1) + 1
    rows = all_rows(make([text], subsampling=0, shuffle=False))
    seen = pairs(rows)
    radii = [int(radius) for radius in rows["radii"].ravel() if radius]
    assert len(radii) == len(text)
    missing_at_the_ends = 2 * sum(radii) - len(seen)
    assert 0 <= missing_at_the_ends <= 2 * sum(range(1, W + 1))


def test_radii_are_equally_likely():
    rows = all_rows(make([np.ones(9000, int)], subsampling=0))
    counts = np.bincount(rows["radii"][rows["radii"] > 0], minlength=W + 1)[1:]
    assert stats.chisquare(counts).pvalue > 1e-3


def test_sentences_do_not_see_each_other():
    rows = all_rows(make([[1] * 5, [2] * 4, [3] * 7] * 9, subsampling=0))
    assert {center == neighbour for *_, center, neighbour in pairs(rows)} == {True}


def test_words_are_kept_as_often_as_the_formula_says():
    counts = np.array([0, 9000, 3000, 900, 90])
    words = np.random.default_rng(0).permutation(np.repeat(np.arange(5), counts))
    batches = Word2VecBatches([words], vocabulary_size=5, subsampling=1e-2)
    threshold = 1e-2 * counts.sum()
    expected = np.minimum((np.sqrt(counts[1:] / threshold) + 1) * threshold / counts[1:], 1)  # as gensim writes it
    np.testing.assert_allclose(batches.keep_probabilities[1:], expected, rtol=1e-12)
    assert expected[3] == 1 and expected[0] < 0.2
    rows = all_rows(batches)
    kept = np.bincount(rows["token_ids"][rows["radii"] > 0], minlength=5)[1:]
    spread = np.sqrt(counts[1:] * expected * (1 - expected))
    assert (np.abs(kept - counts[1:] * expected) <= 4 * spread + 1).all()


def test_negatives_follow_the_counts_to_the_power():
    batches = make(corpus(300), negatives_per_row=101, row_length=7)
    weights = batches.counts**0.75
    np.testing.assert_allclose(batches.negative_probabilities, weights / weights.sum(), rtol=1e-12)
    drawn = np.bincount(all_rows(batches)["negative_ids"].ravel(), minlength=V)
    assert drawn[0] == 0
    expected = weights / weights.sum() * drawn.sum()
    assert stats.chisquare(drawn[1:], expected[1:]).pvalue > 1e-3


def test_seed_and_epoch_decide_everything():
    one, other, third = make(corpus()), make(corpus()), make(corpus(), seed=1)
    first = all_rows(one)
    one.on_epoch_end()
    second = all_rows(one)
    assert one.epoch == 1 and not np.array_equal(first["radii"], second["radii"])
    other.seek(epoch=1)
    for name, array in all_rows(other).items():
        np.testing.assert_array_equal(array, second[name])
    assert not np.array_equal(all_rows(third)["negative_ids"], first["negative_ids"])


def test_all_batches_have_one_shape_and_padding_has_no_window():
    batches = make(corpus(), tokens_per_batch=70)
    shapes = {tuple(array.shape for array in inputs.values()) for (inputs,) in batches}
    assert shapes == {((4, 17), (4, 17), (4, 17), (4, 64))}
    for (inputs,) in batches:
        assert {str(array.dtype) for array in inputs.values()} == {"int32"}
        is_padding = inputs["token_ids"] == 0
        assert not inputs["radii"][is_padding].any() and not inputs["segment_ids"][is_padding].any()
        assert (inputs["segment_ids"][~is_padding] > 0).all()


def test_a_corpus_of_single_words_has_no_pairs():
    rows = all_rows(make([[1], [2], [3]], subsampling=0))
    assert not rows["token_ids"].any() and not rows["radii"].any()


def test_it_is_a_dataset_and_may_leave_negatives_out():
    batches = make(corpus(), negatives_per_row=0)
    assert isinstance(batches, keras.utils.PyDataset)
    assert "negative_ids" not in batches[0][0]


@pytest.mark.parametrize(
    "options, message",
    [
        (dict(window=0), "`window` must be an integer of at least 1. Received: window=0"),
        (dict(row_length=6), "`row_length` must be an integer of at least 7. Received: row_length=6"),
        (dict(tokens_per_batch=16), "`tokens_per_batch` must be an integer of at least 17"),
        (dict(negatives_per_row=-1), "`negatives_per_row` must be an integer of at least 0"),
        (dict(subsampling=-1.0), "`subsampling` must be at least 0. Received: subsampling=-1.0"),
        (dict(counts=np.ones(5, int)), r"`counts` must be an int array of shape \(13,\)"),
        (dict(counts=np.zeros(V, int)), "`counts` must be positive for every word"),
        (dict(vocabulary_size=4), "vocabulary_size"),
    ],
)
def test_wrong_arguments_are_refused(options, message):
    with pytest.raises(ValueError, match=message):
        make(corpus(), **options)


def test_an_empty_corpus_is_refused():
    with pytest.raises(ValueError, match="at least one sentence"):
        make([])
