"""Minimum-Bayes-risk reranking is the sum over all pairs, whatever the order of the samples."""

import re

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from keras_tfm.generation.minimum_bayes_risk import minimum_bayes_risk, ngram_f_score

seeds = st.integers(0, 2**31)


def draw(seed, batch_size=3, num_samples=7, max_length=5, size=3):
    """Few ids, so that samples are often equal."""
    rng = np.random.default_rng(seed)
    return rng.integers(1, 1 + size, (batch_size, num_samples, max_length)), rng.integers(
        0, max_length + 1, (batch_size, num_samples)
    )


def overlap(hypothesis, reference):
    """Not symmetric: recall of tokens, less a price for length."""
    return len(set(hypothesis) & set(reference)) / (1 + len(set(reference))) - 0.01 * len(hypothesis)


def plain_f_score(hypothesis, reference, max_order, beta):
    """chrF by lists and counting."""
    precisions, recalls = [], []
    for order in range(1, max_order + 1):
        ours, theirs = (
            [tuple(ids[i : i + order]) for i in range(len(ids) - order + 1)] for ids in (hypothesis, reference)
        )
        if not ours and not theirs:
            continue
        shared = sum(min(ours.count(gram), theirs.count(gram)) for gram in set(ours))
        precisions.append(shared / len(ours) if ours else 0.0)
        recalls.append(shared / len(theirs) if theirs else 0.0)
    precision, recall = np.mean(precisions), np.mean(recalls)
    return (1 + beta**2) * precision * recall / (beta**2 * precision + recall) if precision + recall else 0.0


@given(seed=seeds, is_weighted=st.booleans())
def test_it_is_the_sum_over_all_pairs(seed, is_weighted):
    samples, lengths = draw(seed)
    weights = np.random.default_rng(seed).random(lengths.shape) if is_weighted else None
    best = minimum_bayes_risk(samples, lengths, utility=overlap, weights=weights)
    for b in range(len(samples)):
        texts = [samples[b, i, : lengths[b, i]].tolist() for i in range(7)]
        shares = np.ones(7) if weights is None else weights[b]
        pairs = np.array([[overlap(one, other) for other in texts] for one in texts])
        np.testing.assert_allclose(best.expected_utilities[b], pairs @ shares / shares.sum(), atol=1e-12)
        index = best.indices[b]
        assert index == best.expected_utilities[b].argmax()
        np.testing.assert_array_equal(best.sequences[b], samples[b, index])
        assert best.lengths[b] == lengths[b, index]


@given(seed=seeds)
def test_the_order_of_the_samples_does_not_matter(seed):
    samples, lengths = draw(seed)
    order = np.random.default_rng(seed).permutation(7)
    straight = minimum_bayes_risk(samples, lengths)
    permuted = minimum_bayes_risk(samples[:, order], lengths[:, order])
    np.testing.assert_allclose(permuted.expected_utilities, straight.expected_utilities[:, order], atol=1e-12)


@given(seed=seeds, max_order=st.sampled_from([1, 2, 6]), beta=st.sampled_from([1.0, 2.0]))
def test_the_f_score_is_that_of_the_paper(seed, max_order, beta):
    samples, lengths = draw(seed, batch_size=1)
    texts = [samples[0, i, : lengths[0, i]].tolist() for i in range(7)]
    for hypothesis in texts:
        for reference in texts:
            score = ngram_f_score(hypothesis, reference, max_order=max_order, beta=beta)
            if hypothesis == reference:
                assert score == 1
            else:
                np.testing.assert_allclose(score, plain_f_score(hypothesis, reference, max_order, beta), atol=1e-12)


def test_what_was_drawn_most_often_wins():
    samples = np.array([[[1, 2], [3, 4], [5, 6], [3, 4], [7, 8]]])
    best = minimum_bayes_risk(samples, np.full((1, 5), 2))
    assert best.indices.tolist() == [1]
    np.testing.assert_allclose(best.expected_utilities[0], [0.2, 0.4, 0.2, 0.4, 0.2])


def test_a_heavy_reference_wins_and_one_without_weight_is_not_asked():
    samples, lengths = np.array([[[1, 2], [3, 4], [3, 4]]]), np.full((1, 3), 2)
    assert minimum_bayes_risk(samples, lengths, weights=[[0.9, 0.05, 0.05]]).indices.tolist() == [0]

    def utility(hypothesis, reference):
        assert reference != (1, 2)
        return float(hypothesis == reference)

    assert minimum_bayes_risk(samples, lengths, weights=[[0, 1, 0]], utility=utility).indices.tolist() == [1]


@pytest.mark.parametrize("end_id", [2, [2, 9], {2}])
def test_the_end_is_left_out_and_ends_within_are_not(end_id):
    seen = set()

    def utility(hypothesis, reference):
        seen.add(hypothesis)
        return 0.0

    samples = np.array([[[5, 2, 0], [5, 2, 6], [2, 0, 0]]])
    minimum_bayes_risk(samples, [[2, 3, 1]], utility=utility, end_id=end_id)
    assert seen == {(5,), (5, 2, 6), ()}


def test_an_empty_batch_gives_empty_results():
    best = minimum_bayes_risk(np.zeros((0, 3, 4), int), np.zeros((0, 3), int))
    assert [x.shape for x in best] == [(0,), (0, 4), (0,), (0, 3)]


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        (
            dict(samples=np.ones((2, 3), int)),
            "`samples` must be integers [B, n, L] with n >= 1. Received: samples of s",
        ),
        (dict(samples=np.ones((2, 3, 4))), "dtype float64"),
        (dict(samples=np.ones((2, 0, 4), int)), "(2, 0, 4)"),
        (dict(lengths=[[1, 2]]), "`lengths` must be integers of shape (2, 3)"),
        (dict(lengths=np.full((2, 3), 5)), "`lengths` must be in [0, 4]. Received: lengths=[[5, 5, 5], [5, 5, 5]]"),
        (dict(weights=[1.0]), "`weights` must have the shape (2, 3). Received: weights of shape (1,)"),
        (dict(weights=np.zeros((2, 3))), "`weights` must be finite, not negative and not all 0"),
        (dict(weights=np.full((2, 3), np.nan)), "`weights` must be finite"),
    ],
)
def test_a_wrong_argument_is_named(changes, message):
    arguments = dict(samples=np.ones((2, 3, 4), int), lengths=np.full((2, 3), 4)) | changes
    with pytest.raises(ValueError, match=re.escape(message)):
        minimum_bayes_risk(**arguments)
