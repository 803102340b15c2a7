"""Minimum-Bayes-risk decoding: of many samples, the one that is most like all the others."""

import collections
import functools
from typing import NamedTuple

import numpy as np


class MinimumBayesRisk(NamedTuple):
    """What `minimum_bayes_risk` found, as numpy arrays.

    Args:
        indices: int32 `[B]`, which sample of each sentence is the best; the first of equals.
        sequences: int32 `[B, L]`, these samples.
        lengths: int32 `[B]`, their lengths.
        expected_utilities: float64 `[B, n]`, of every sample.
    """

    indices: np.ndarray
    sequences: np.ndarray
    lengths: np.ndarray
    expected_utilities: np.ndarray


def ngram_f_score(hypothesis, reference, *, max_order=4, beta=2.0):
    """How much two sequences share of their n-grams, from 0 to 1: chrF with token ids in the place of characters.

    Args:
        hypothesis: sequence of ids.
        reference: sequence of ids.
        max_order: orders 1 to `max_order` are averaged, those for which both are too short left out. Default 4.
        beta: weight of recall against precision. Default 2.

    Returns:
        A float, 1 for equal sequences.

    Reference:
        Popović 2015, "chrF: character n-gram F-score for automatic MT evaluation", equation 1.

    Example:

    >>> print(ngram_f_score([5, 6, 7], [5, 6, 7]), round(ngram_f_score([5, 6, 7], [5, 6, 8], max_order=2), 3))
    1.0 0.583
    """
    hypothesis, reference = tuple(hypothesis), tuple(reference)
    if hypothesis == reference:
        return 1.0
    orders = [order for order in range(1, max_order + 1) if max(len(hypothesis), len(reference)) >= order]
    ours, theirs = ([_ngrams(ids, order) for order in orders] for ids in (hypothesis, reference))
    shared = [(one & other).total() for one, other in zip(ours, theirs, strict=True)]
    precision = sum(n / max(one.total(), 1) for n, one in zip(shared, ours, strict=True)) / len(orders)
    recall = sum(n / max(one.total(), 1) for n, one in zip(shared, theirs, strict=True)) / len(orders)
    weighted = beta**2 * precision + recall
    return (1 + beta**2) * precision * recall / weighted if weighted else 0.0


@functools.lru_cache(maxsize=4096)
def _ngrams(ids, order):
    return collections.Counter(zip(*(ids[i:] for i in range(order)), strict=False))


def minimum_bayes_risk(samples, lengths, *, utility=ngram_f_score, weights=None, end_id=None):
    """Reranks samples by how useful each is on average if any of the others were the truth.

    The most probable sequence of a model is often an odd one. Samples show what the model believes as a whole, and the
    one that agrees most with the others is taken. It runs in numpy, outside of compiled programs; equal samples are
    compared once.

    Args:
        samples: int `[B, n, L]`, as `Sampling(num_samples=n)` gives them; or an n-best list.
        lengths: int `[B, n]`, the number of tokens of each.
        utility: callable `(hypothesis, reference) -> float`, both tuples of ids; the greater the better. It need not be
            symmetric. Default `ngram_f_score`.
        weights: float `[B, n]`, what each sample counts as a reference, not negative and not all 0. `None` counts all
            alike, which is right for samples of the model itself. For an n-best list give `exp(scores)`.
        end_id: id, or several, left out at the end of a sequence before it is compared.

    Returns:
        `MinimumBayesRisk`.

    Raises:
        ValueError: shapes that do not fit, no samples, lengths outside `[0, L]`, or weights that are no weights.

    Reference:
        Eikema and Aziz 2020, "Is MAP Decoding All You Need?", section 5: every sample is a hypothesis and a
        reference.

    Example:

    >>> samples = np.array([[[5, 6, 7], [5, 6, 8], [9, 0, 0], [5, 6, 7]]])
    >>> best = minimum_bayes_risk(samples, [[3, 3, 1, 3]])
    >>> print(best.indices, best.sequences, best.expected_utilities[:, 2])
    [0] [[5 6 7]] [0.25]
    """
    samples, lengths = _check_samples(samples, lengths)
    weights = _check_weights(weights, lengths.shape)
    ends = set() if end_id is None else set(np.atleast_1d(list(end_id) if np.iterable(end_id) else end_id).tolist())
    expected = np.zeros(lengths.shape)
    for row, (sequences, sizes, shares) in enumerate(zip(samples, lengths, weights, strict=True)):
        hypotheses = [_without_end(ids[:size].tolist(), ends) for ids, size in zip(sequences, sizes, strict=True)]
        expected[row] = _expected_utilities(hypotheses, shares, utility)
    indices = expected.argmax(axis=1).astype("int32")
    rows = np.arange(len(samples))
    return MinimumBayesRisk(indices, samples[rows, indices], lengths[rows, indices], expected)


def _expected_utilities(hypotheses, weights, utility):
    """Of each hypothesis, float64 `[n]`; `weights [n]` sum to 1."""
    shares = {}
    for ids, weight in zip(hypotheses, weights, strict=True):
        shares[ids] = shares.get(ids, 0.0) + weight
    references = [(ids, share) for ids, share in shares.items() if share > 0]
    expected = {ids: sum(share * utility(ids, other) for other, share in references) for ids in shares}
    return [expected[ids] for ids in hypotheses]


def _without_end(ids, ends):
    return tuple(ids[:-1] if ids and ids[-1] in ends else ids)


def _check_samples(samples, lengths):
    samples, lengths = np.asarray(samples), np.asarray(lengths)
    if samples.ndim != 3 or not np.issubdtype(samples.dtype, np.integer) or samples.shape[1] == 0:
        raise ValueError(
            "`samples` must be integers [B, n, L] with n >= 1. "
            f"Received: samples of shape {samples.shape} and dtype {samples.dtype}"
        )
    if lengths.shape != samples.shape[:2] or not np.issubdtype(lengths.dtype, np.integer):
        raise ValueError(
            f"`lengths` must be integers of shape {samples.shape[:2]}, one for each sample. "
            f"Received: lengths of shape {lengths.shape} and dtype {lengths.dtype}"
        )
    if ((lengths < 0) | (lengths > samples.shape[2])).any():
        raise ValueError(f"`lengths` must be in [0, {samples.shape[2]}]. Received: lengths={lengths.tolist()}")
    return samples.astype("int32"), lengths.astype("int32")


def _check_weights(weights, shape):
    """float64 `[B, n]`, each row's sum 1."""
    if weights is None:
        return np.full(shape, 1 / shape[1])
    weights = np.asarray(weights, "float64")
    if weights.shape != shape:
        raise ValueError(f"`weights` must have the shape {shape}. Received: weights of shape {weights.shape}")
    totals = weights.sum(axis=1, keepdims=True)
    if not (np.isfinite(weights).all() and (weights >= 0).all() and (totals > 0).all()):
        raise ValueError(
            f"`weights` must be finite, not negative and not all 0 for a sentence. Received: weights={weights.tolist()}"
        )
    return weights / totals
