"""What is hidden of a text: how much, which tokens together, what stands there, and the same again by seed."""

import numpy as np
import pytest

from keras_tfm.text import MaskedLanguageBatches, TokenMasking
from keras_tfm.text.masked_spans import span_lengths

V, MASK = 103, 101


def masking(**options):
    return TokenMasking(V, MASK, **options)


def rows(count, length, real=None, seed=0):
    """Rows of ids from 5 to 96, with padding after `real` tokens."""
    ids = np.random.default_rng(seed).integers(5, 97, (count, length))
    ids[:, length if real is None else real :] = 0
    return ids


def words_of(count, length, seed=0):
    """Numbers of words of one to four tokens."""
    return np.cumsum(np.random.default_rng(seed).random((count, length)) < 0.4, axis=1)


def runs(hidden):
    """The lengths of the runs of True in a row."""
    edges = np.flatnonzero(np.diff(np.concatenate([[0], hidden.astype(int), [0]])))
    return edges[1::2] - edges[::2]


@pytest.mark.parametrize("unit", ["token", "whole_word", "span"])
@pytest.mark.parametrize("real, expected", [(1, 1), (3, 1), (20, 3), (67, 10)])
def test_so_many_tokens_are_hidden(unit, real, expected):
    _, targets = masking(unit=unit)(rows(41, 67, real), np.random.default_rng(1))
    assert ((targets != 0).sum(1) == expected).all()


@pytest.mark.parametrize("unit", ["token", "whole_word", "span"])
def test_padding_and_special_tokens_stay(unit):
    ids = rows(61, 23, 19)
    ids[:, ::4] = np.array([1, 2, 3, MASK, 1, 0])
    masked_ids, targets = masking(unit=unit, rate=1.0)(ids, np.random.default_rng(1), words_of(61, 23))
    special = np.isin(ids, [0, 1, 2, 3, MASK])
    np.testing.assert_array_equal(targets, np.where(special, 0, ids))
    np.testing.assert_array_equal(masked_ids[special], ids[special])


def test_shares_of_masks_random_tokens_and_kept_ones():
    ids = rows(500, 101)
    masked_ids, targets = masking()(ids, np.random.default_rng(2))
    hidden = targets != 0
    before, after = ids[hidden], masked_ids[hidden]
    shares = (after == MASK).mean(), ((after != MASK) & (after != before)).mean(), (after == before).mean()
    np.testing.assert_allclose(shares, [0.8, 0.1 * 97 / 98, 0.1 + 0.1 / 98], atol=0.02)  # 5 standard deviations
    np.testing.assert_array_equal(targets[hidden], before)
    np.testing.assert_array_equal(masked_ids[~hidden], ids[~hidden])
    assert set(after) <= {*range(4, V)} and not set(after) & {102 + 1, 0, 1, 2, 3}


def test_every_place_is_hidden_alike():
    for unit in ("token", "whole_word"):
        _, targets = masking(unit=unit)(rows(6000, 20), np.random.default_rng(3))
        np.testing.assert_allclose((targets != 0).mean(0), 0.15, atol=0.024)


def test_whole_words_are_hidden_or_stay():
    ids, words = rows(83, 53, 47), words_of(83, 53)
    _, targets = masking(unit="whole_word", rate=0.3)(ids, np.random.default_rng(4), words)
    for row, numbers in zip(targets[:, :47], words[:, :47], strict=True):
        hidden = {number for number in numbers if (row[numbers == number] != 0).any()}
        assert all((row[numbers == number] != 0).all() for number in hidden)
        assert 0 < (row != 0).sum() <= 14  # round(0.3 * 47)


def test_a_word_longer_than_the_number_is_hidden_alone():
    _, targets = masking(unit="whole_word")([[5, 6, 7, 8, 9]] * 7, np.random.default_rng(5), [[0, 0, 0, 1, 1]] * 7)
    np.testing.assert_array_equal(targets, [[0, 0, 0, 8, 9]] * 7)


def test_spans_have_the_lengths_of_spanbert():
    lengths = span_lengths(50_000, np.random.default_rng(6), 0.2, 10)
    expected = 0.2 * 0.8 ** np.arange(10)
    np.testing.assert_allclose(np.bincount(lengths, minlength=11)[1:] / 50_000, expected / expected.sum(), atol=0.01)
    _, targets = masking(unit="span", rate=0.02, max_span=4)(rows(2000, 500), np.random.default_rng(6))
    runs_of = np.concatenate([runs(row != 0) for row in targets])
    assert 1.9 < runs_of.mean() < 2.6  # the mean up to 4 is 2.25; spans are cut at the number, or touch


def test_a_span_has_one_fate_and_stays_within_sentences():
    ids = rows(200, 60)
    ids[:, 29] = 2
    masked_ids, targets = masking(unit="span", rate=0.1, random_share=0.0)(ids, np.random.default_rng(7))
    for row, shown, target in zip(ids, masked_ids, targets, strict=True):
        assert target[29] == 0
        for run in np.split(np.arange(60), np.flatnonzero(np.diff(target != 0)) + 1):
            if (target[run] != 0).all():
                kinds = set(np.where(shown[run] == MASK, "mask", np.where(shown[run] == row[run], "kept", "other")))
                assert kinds in ({"mask"}, {"kept"}) or len(run) > 1
    single = masking(unit="span", rate=0.1, max_span=10, mask_share=0.5, random_share=0.0, span_probability=0.01)
    shown, target = single(rows(300, 60), np.random.default_rng(8))
    alike = [len(set(s[t != 0] == MASK)) == 1 for s, t in zip(shown, target, strict=True)]
    assert np.mean(alike) > 0.5  # six tokens in one or two spans; of single fates there were 2 of 64


def test_spans_begin_with_words():
    words = np.repeat(np.arange(30), 2)[None].repeat(50, 0)
    _, targets = masking(unit="span", rate=0.2)(rows(50, 60), np.random.default_rng(9), words)
    hidden = targets != 0
    assert (hidden.sum(1) == 12).all()
    starts = hidden & ~np.concatenate([np.zeros((50, 1), bool), hidden[:, :-1]], axis=1)
    assert not starts[:, 1::2].any()


@pytest.mark.parametrize("unit", ["token", "whole_word", "span"])
def test_a_generator_in_the_same_state_hides_the_same(unit):
    first, second, other = (masking(unit=unit)(rows(5, 31), np.random.default_rng(seed)) for seed in (1, 1, 2))
    np.testing.assert_array_equal(first, second)
    assert (first[1] != other[1]).any()


@pytest.mark.parametrize(
    "options, message",
    [
        (dict(unit="word"), "`unit` must be one of .* Received: unit='word'"),
        (dict(rate=0.0), r"`rate` must be in \(0, 1\]. Received: rate=0.0"),
        (dict(mask_share=0.8, random_share=0.3), "together at most 1. Received: mask_share=0.8, random_share=0.3"),
        (dict(span_probability=1.0), "`span_probability` must be in .* Received: span_probability=1.0"),
        (dict(max_span=0), "`max_span` must be a positive integer. Received: max_span=0"),
        (dict(special_ids=range(V)), "`vocabulary_size` must leave ids that are not special. Received: vocabulary_si"),
        (dict(pad_id=MASK), "`mask_id` must be an id of the vocabulary, and not the padding. Received: mask_id=101"),
    ],
)
def test_arguments_out_of_their_range_are_refused(options, message):
    with pytest.raises(ValueError, match=message):
        masking(**options)


def test_arrays_that_do_not_fit_are_refused():
    rng = np.random.default_rng(0)
    with pytest.raises(ValueError, match=r"`token_ids` must be ints \[B, T\]. Received: token_ids of shape \(2,\)"):
        masking()([5, 6], rng)
    with pytest.raises(ValueError, match="`token_ids` must be in .* from 5 to 103, vocabulary_size=103"):
        masking()([[5, 103]], rng)
    with pytest.raises(ValueError, match=r"`word_ids` must have the shape of .*word_ids of shape \(1, 1\)"):
        masking()([[5, 6]], rng, [[0]])


SENTENCES = [[5 + (3 * number + step) % 90 for step in range(3 + number % 11)] for number in range(71)]
WORDS = [[step // 2 for step in range(len(sentence))] for sentence in SENTENCES]


def epoch_of(batches):
    """A dict from sentence to `(masked ids, targets)`, for one epoch."""
    found = {}
    for index, (inputs, targets) in enumerate(batches):
        sentences = batches.rows(index)
        for sentence, ids, target in zip(sentences, inputs["token_ids"], targets, strict=True):
            if sentence >= 0:
                found[int(sentence)] = ids.tolist(), target.tolist()
    batches.on_epoch_end()
    return found


def batches_of(**options):
    return MaskedLanguageBatches(SENTENCES, masking(rate=0.4), tokens_per_batch=96, **options)


def test_the_batches_hold_every_sentence():
    found = epoch_of(batches_of())
    assert len(found) == len(SENTENCES)
    for number, sentence in enumerate(SENTENCES):
        ids, targets = found[number]
        assert [t or i for i, t in zip(ids, targets, strict=True) if i or t] == sentence
        assert any(targets)


def test_static_masks_are_those_of_every_epoch_and_dynamic_ones_are_new():
    static, dynamic = batches_of(dynamic=False, num_widths=1), batches_of(num_widths=1)
    first, second = epoch_of(static), epoch_of(static)
    assert first == second and list(first) != list(second)  # in another order
    first, second = epoch_of(dynamic), epoch_of(dynamic)
    assert sum(first[sentence] == second[sentence] for sentence in first) < len(first) / 2


@pytest.mark.parametrize("unit", ["token", "span"])
def test_a_resumed_epoch_is_the_one_that_was_interrupted(unit):
    whole, resumed = (
        MaskedLanguageBatches(SENTENCES, masking(unit=unit), tokens_per_batch=96, word_ids=WORDS, seed=3)
        for _ in range(2)
    )
    list(whole), whole.on_epoch_end()
    resumed.seek(1, 2)
    for (inputs, targets), (others, other_targets) in zip(list(whole)[2:], resumed, strict=True):
        np.testing.assert_array_equal(inputs["token_ids"], others["token_ids"])
        np.testing.assert_array_equal(targets, other_targets)


@pytest.mark.parametrize("unit", ["token", "whole_word", "span"])
def test_places_say_where_the_targets_stand(unit):
    options = dict(tokens_per_batch=96, word_ids=WORDS, shuffle=False)
    every = MaskedLanguageBatches(SENTENCES, masking(unit=unit), **options)
    some = MaskedLanguageBatches(SENTENCES, masking(unit=unit), mask_positions=True, **options)
    for (inputs, targets), (others, few) in zip(every, some, strict=True):
        positions = others["mask_positions"]
        np.testing.assert_array_equal(inputs["token_ids"], others["token_ids"])
        assert positions.shape == few.shape and positions.dtype == few.dtype == np.int32
        assert positions.shape[1] == masking(unit=unit).most(targets.shape[1], 2)
        spread = np.zeros_like(targets)
        np.add.at(spread, (np.arange(len(few))[:, None], positions), few)
        np.testing.assert_array_equal(spread, targets)


def test_batches_that_do_not_fit_are_refused():
    with pytest.raises(ValueError, match="`masking` must be a TokenMasking. Received: masking='span'"):
        MaskedLanguageBatches(SENTENCES, "span")
    with pytest.raises(ValueError, match=r"`word_ids` must have one entry a token. Received: \[1, 1\] .* for \[2, 1\]"):
        MaskedLanguageBatches([[5, 6], [7]], masking(), word_ids=[[0], [0]])
    with pytest.raises(ValueError, match="`pad_id` must be that of `masking`, 0. Received: pad_id=4"):
        MaskedLanguageBatches([[5]], masking(), pad_id=4)
    with pytest.raises(ValueError, match="`token_ids` must be in .* from 5 to 103, vocabulary_size=103"):
        MaskedLanguageBatches([[5, 103]], masking())
