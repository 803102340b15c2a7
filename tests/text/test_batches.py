"""Batches: every sentence once an epoch, nothing over budget, few shapes, the same order from the same seed."""

import time
import warnings

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from keras_tfm.text import SequenceBatches, SubwordTokenizer, TranslationBatches, read_parallel

SENTENCES = st.lists(st.lists(st.integers(1, 96), min_size=1, max_size=23), min_size=1, max_size=53)
OPTIONS = st.fixed_dictionaries(
    {},
    optional={
        "tokens_per_batch": st.integers(29, 300),
        "num_widths": st.integers(1, 5),
        "width_multiple": st.integers(1, 5),
        "row_multiple": st.sampled_from([1, 2, 8]),
        "seed": st.integers(0, 99),
        "shuffle": st.booleans(),
    },
)


def random_sentences(count, longest=23, seed=0):
    rng = np.random.default_rng(seed)
    return [rng.integers(1, 97, rng.integers(1, longest + 1)).tolist() for _ in range(count)]


def epoch_of(batches, name="token_ids"):
    return [inputs[name] for (inputs,) in batches]


@given(SENTENCES, OPTIONS)
def test_every_sentence_comes_exactly_once_an_epoch(sentences, options):
    batches = SequenceBatches({"token_ids": sentences}, **options)
    for _ in range(2):
        rows = np.concatenate([batches.rows(index) for index in range(len(batches))])
        ids = [row[row != 0].tolist() for batch in epoch_of(batches) for row in batch]
        batches.on_epoch_end()
        assert sorted(rows[rows >= 0]) == list(range(len(sentences)))
        assert ids == [sentences[row] if row >= 0 else [] for row in rows]


@given(SENTENCES, OPTIONS)
def test_no_batch_is_over_budget_and_shapes_are_few(sentences, options):
    batches = SequenceBatches({"token_ids": sentences}, **options)
    shapes = {batch.shape for batch in epoch_of(batches)}
    assert shapes == set(batches.shapes)
    assert len(shapes) <= options.get("num_widths", 6)
    assert max(rows * width for rows, width in shapes) <= options.get("tokens_per_batch", 4096)


@given(SENTENCES, OPTIONS)
def test_the_statistics_are_those_of_the_batches(sentences, options):
    batches = SequenceBatches({"token_ids": sentences}, **options)
    statistics, epoch = batches.statistics, epoch_of(batches)
    real = sum(np.count_nonzero(batch) for batch in epoch)
    assert (statistics.num_sentences, statistics.num_batches) == (len(sentences), len(epoch))
    assert statistics.num_shapes == len({batch.shape for batch in epoch})
    np.testing.assert_allclose(statistics.padding_share, 1 - real / sum(batch.size for batch in epoch))
    np.testing.assert_allclose(statistics.tokens_per_batch, real / len(epoch))


def test_two_streams_stay_together():
    sources = random_sentences(101, seed=1)
    targets = [[len(source), source[0]] * (1 + len(source) // 3) for source in sources]
    for (inputs,) in SequenceBatches({"a": sources, "b": targets}, tokens_per_batch=200):
        real = inputs["b"][:, 0] != 0
        np.testing.assert_array_equal(np.count_nonzero(inputs["a"], axis=1)[real], inputs["b"][real, 0])
        np.testing.assert_array_equal(inputs["a"][real, 0], inputs["b"][real, 1])


def test_epochs_differ_and_the_same_seed_gives_them_again():
    def two_epochs(seed):
        batches = SequenceBatches({"token_ids": random_sentences(97)}, tokens_per_batch=100, seed=seed)
        epochs = []
        for _ in range(2):
            epochs.append([batch.tobytes() for batch in epoch_of(batches)])
            batches.on_epoch_end()
        return epochs

    first, again, other = two_epochs(5), two_epochs(5), two_epochs(6)
    assert first == again
    assert first[0] != first[1] and first[0] != other[0]


def test_without_shuffling_every_epoch_goes_from_short_to_long():
    batches = SequenceBatches({"token_ids": random_sentences(97)}, tokens_per_batch=100, shuffle=False)
    first = epoch_of(batches)
    batches.on_epoch_end()
    assert all((one == two).all() for one, two in zip(first, epoch_of(batches), strict=True))
    widths = [batch.shape[1] for batch in first]
    assert widths[2:] == sorted(widths[2:])


def test_widths_of_one_set_serve_another():
    train = SequenceBatches({"token_ids": random_sentences(97)}, tokens_per_batch=100)
    dev = SequenceBatches({"token_ids": random_sentences(97, seed=1)}, tokens_per_batch=100, widths=train.widths)
    assert dev.shapes == train.shapes


def test_longer_sentences_than_allowed_are_refused_or_dropped_aloud():
    sentences = [[5], [6] * 11, [7], [8] * 12]
    told = "2 of 4, first is sentence 1 of length 11"
    with pytest.raises(
        ValueError, match=f"no sentence may be longer than `max_length`. Received: max_length=10; {told}"
    ):
        SequenceBatches({"token_ids": sentences}, max_length=10)
    with pytest.warns(UserWarning, match=f"dropped sentences longer than max_length=10: {told}"):
        batches = SequenceBatches({"token_ids": sentences}, max_length=10, too_long="drop", shuffle=False)
    assert batches.rows(0).tolist()[:2] == [0, 2]
    assert batches.statistics.num_sentences == 2


def test_no_width_is_larger_than_the_longest_allowed():
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        batches = SequenceBatches({"token_ids": random_sentences(97, longest=23)}, max_length=23, width_multiple=8)
    assert batches.widths.max() == 23


@pytest.mark.parametrize(
    ("streams", "options", "message"),
    [
        ({"a": [[5], [6]], "b": [[7]]}, {}, r"`streams` must be of the same number of sentences.*\{'a': 2, 'b': 1\}"),
        ({"a": []}, {}, "`streams` must be of the same number of sentences, at least one"),
        ({"a": [[5], []]}, {}, "`a` must not hold an empty sequence. Received: number 1"),
        ({"a": [[5], [4, 0]]}, {}, "`a` must not hold pad_id=0"),
        ({"a": [[5], [9]]}, {"vocabulary_size": 9}, "`a` must be in .* Received: a from 5 to 9, vocabulary_size=9"),
        ({"a": [[5]], "b": [[9]]}, {"vocabulary_size": {"b": 9}}, "`b` must be in"),
        ({"a": [[5] * 30]}, {"tokens_per_batch": 31}, "`tokens_per_batch` must hold one sentence .* 32 tokens"),
        ({"a": [[5]]}, {"too_long": "cut"}, "`too_long` must be 'error' or 'drop'. Received: too_long='cut'"),
        ({"a": [[5] * 7]}, {"widths": [[4]]}, r"`widths` must hold the longest sentence, \[7\]. Received: \[4\]"),
        ({"a": [[5]]}, {"widths": [[8], [4]]}, "`widths` must be .* and not fall"),
        ({"a": [[5]]}, {"widths": [4, 8]}, "`widths` must be "),
    ],
)
def test_bad_data_is_refused_before_training(streams, options, message):
    with pytest.raises(ValueError, match=message):
        SequenceBatches(streams, **options)


def test_multi30k_is_planned_and_cut_in_no_time(data_dir):
    folder = data_dir / "multi30k"
    pairs = read_parallel(folder / "train.lc.norm.tok.en", folder / "train.lc.norm.tok.de")
    pytest.importorskip("tokenizers")
    tokenizer = SubwordTokenizer.train([text for pair in pairs for text in pair], 8000)
    sources, targets = (tokenizer.encode_batch(side) for side in zip(*pairs, strict=True))
    batches = TranslationBatches(sources, targets, vocabulary_size=tokenizer.vocabulary_size)
    statistics = batches.statistics
    assert statistics.num_sentences == 29000
    assert statistics.num_shapes <= 6 and statistics.padding_share < 0.2
    start = time.process_time()
    batches.seek(1)
    planned = time.process_time()
    for _ in batches:
        pass
    assert planned - start < 0.3
    assert (time.process_time() - planned) / len(batches) < 0.002
