"""Buckets: widths that waste the least, every sentence dealt once, no batch over its budget."""

from itertools import combinations

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from keras_tfm.text.buckets import choose_widths, fit_widths, sort_into_buckets

LENGTHS = st.lists(st.integers(1, 41), min_size=1, max_size=71)


def padded_tokens(lengths, widths):
    return sum(min(width for width in widths if width >= length) for length in lengths)


@given(st.lists(st.integers(1, 13), min_size=1, max_size=19), st.integers(1, 4))
def test_no_other_widths_waste_less(lengths, num_widths):
    widths = choose_widths(np.array(lengths), num_widths)
    others = [*combinations(range(1, max(lengths)), min(num_widths, max(lengths)) - 1)]
    best = min(padded_tokens(lengths, (*other, max(lengths))) for other in others)
    assert len(widths) <= num_widths
    assert padded_tokens(lengths, widths) == best


@given(LENGTHS, st.integers(1, 7), st.integers(1, 8))
def test_widths_are_multiples_and_hold_the_longest(lengths, num_widths, multiple):
    widths = choose_widths(np.array(lengths), num_widths, width_multiple=multiple)
    assert list(widths) == sorted(set(widths))
    assert all(width % multiple == 0 for width in widths)
    assert max(lengths) <= widths[-1] < max(lengths) + multiple


def test_the_longest_width_keeps_to_the_limit():
    assert choose_widths(np.array([3, 9, 50]), 3, width_multiple=8, max_length=50) == (8, 16, 50)


def test_very_long_texts_do_not_make_a_large_table():
    lengths = np.arange(1, 40_001)
    widths = choose_widths(lengths, 5)
    assert widths[-1] >= 40_000
    np.testing.assert_allclose(widths, 8000 * np.arange(1, 6), rtol=0.03)  # equal steps are best for equal counts


@given(st.data(), LENGTHS, st.integers(1, 5))
def test_widths_of_each_stream_never_fall_from_bucket_to_bucket(data, lengths, num_widths):
    others = data.draw(st.lists(st.integers(1, 41), min_size=len(lengths), max_size=len(lengths)))
    pairs = np.array([lengths, others]).T
    widths = fit_widths(pairs, num_widths, width_multiple=3, max_length=41)
    assert (np.diff(widths, axis=0) >= 0).all()
    assert (widths[-1] >= pairs.max(axis=0)).all() and widths.max() <= 41


@given(st.data(), LENGTHS, st.integers(1, 6), st.integers(41, 300), st.sampled_from([1, 2, 8]), st.booleans())
def test_every_sentence_is_dealt_once_within_the_budget(data, lengths, num_widths, budget, multiple, shuffled):
    others = data.draw(st.lists(st.integers(1, 41), min_size=len(lengths), max_size=len(lengths)))
    pairs = np.array([lengths, others]).T
    widths = fit_widths(pairs, num_widths)
    buckets = sort_into_buckets(pairs, widths, budget, row_multiple=multiple)
    batches = buckets.deal(np.random.default_rng(0) if shuffled else None)
    dealt = np.concatenate([rows for _, rows in batches])
    np.testing.assert_array_equal(np.sort(dealt[dealt >= 0]), np.arange(len(pairs)))
    for bucket, rows in batches:
        assert len(rows) == buckets.rows[bucket]
        assert len(rows) % multiple == 0 or len(rows) < multiple
        assert len(rows) * buckets.widths[bucket].max() <= budget
        assert (pairs[rows[rows >= 0]] <= buckets.widths[bucket]).all()


@given(LENGTHS, st.integers(1, 6))
def test_only_the_last_batch_of_the_widest_bucket_has_empty_rows(lengths, num_widths):
    lengths = np.array(lengths)[:, None]
    buckets = sort_into_buckets(lengths, fit_widths(lengths, num_widths), 200)
    with_empty_rows = [bucket for bucket, rows in buckets.deal(np.random.default_rng(0)) if (rows < 0).any()]
    assert with_empty_rows in ([], [len(buckets.members) - 1])


@pytest.mark.parametrize("shuffled", [True, False])
def test_an_epoch_opens_with_the_narrowest_and_the_widest_batch(shuffled):
    lengths = np.random.default_rng(3).integers(1, 31, (997, 2))
    buckets = sort_into_buckets(lengths, fit_widths(lengths, 5), 300)
    for seed in range(7):
        order = [bucket for bucket, _ in buckets.deal(np.random.default_rng(seed) if shuffled else None)]
        assert order[:2] == [min(order), max(order)]


def test_the_number_of_batches_is_the_same_in_every_epoch():
    lengths = np.random.default_rng(3).integers(1, 31, (211, 1))
    buckets = sort_into_buckets(lengths, fit_widths(lengths, 5), 100)
    assert len({len(buckets.deal(np.random.default_rng(seed))) for seed in range(11)}) == 1
