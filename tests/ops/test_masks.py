"""AttentionMask: ingredients, what `&` and `|` make of them, and who is left with nothing."""

import keras
import numpy as np
from hypothesis import given
from hypothesis import strategies as st

from keras_tfm import ops
from tests.numerics import to_numpy
from tests.properties.configurations import SOME_SIZES, allowed, attention_mask, masks, seeds

SIZES = SOME_SIZES[0]
T, S = SIZES.queries, SIZES.keys


def pairs(mask):
    """bool `[B, N, T, S]`, query padding included."""
    dense = mask.materialize(T, S)
    dense = np.ones((1, 1, 1, 1), bool) if dense is None else to_numpy(dense)
    if mask.query_padding is not None:
        dense = dense & to_numpy(mask.query_padding)[:, None, :, None]
    return np.broadcast_to(dense, (SIZES.batch, SIZES.heads, T, S))


@given(first=masks, second=masks, third=masks, seed=seeds)
def test_and_and_or_are_those_of_the_pairs(first, second, third, seed):
    rng = np.random.default_rng(seed)
    drawn = [each.draw(rng, SIZES) for each in (first, second, third)]
    (a, b, c), (x, y, z) = map(attention_mask, drawn), (allowed(parts, SIZES) for parts in drawn)
    np.testing.assert_array_equal(pairs(a), x)
    np.testing.assert_array_equal(pairs(a & b), x & y)
    np.testing.assert_array_equal(pairs(a | b), x | y)
    np.testing.assert_array_equal(pairs((a | b) & c), (x | y) & z)
    np.testing.assert_array_equal(pairs(a & b | c), x & y | z)


@given(first=masks, second=masks, either=st.booleans(), seed=seeds)
def test_rows_and_keys_in_use(first, second, either, seed):
    rng = np.random.default_rng(seed)
    drawn = [each.draw(rng, SIZES) for each in (first, second)]
    a, b = map(attention_mask, drawn)
    mask = a | b if either else a & b
    dense = pairs(mask)
    rows = mask.live_rows(T, S)
    assert rows is not None or dense.any(-1).all()
    if rows is not None:
        np.testing.assert_array_equal(np.broadcast_to(to_numpy(rows), dense.shape[:-1]), dense.any(-1))
    keys = mask.live_keys(T, S)
    if keys is not None:
        np.testing.assert_array_equal(np.broadcast_to(to_numpy(keys), (SIZES.batch, S)), dense.any((1, 2)))


@given(seed=seeds, causal=st.booleans(), window=st.sampled_from([None, 1, 2]), padded=st.booleans())
def test_of_one_sequence_in_segments_each_sees_itself(seed, causal, window, padded):
    rng = np.random.default_rng(seed)
    segments, places = (keras.ops.convert_to_tensor(rng.integers(0, 3, (SIZES.batch, T))) for _ in range(2))
    padding = keras.ops.convert_to_tensor(rng.random((SIZES.batch, T)) < 0.5) if padded else None
    for positions in (None, places):
        mask = ops.AttentionMask(
            is_causal=causal,
            window=window,
            segments=(segments, segments),
            query_padding=padding,
            query_positions=positions,
            key_positions=positions,
        )
        assert not mask.can_empty_a_row
        dense = to_numpy(mask.materialize(T, T))
        assert dense.any(-1).all() and dense.any(-2).all()
        assert padded or mask.live_keys(T, T) is None
        copy = keras.ops.copy(segments)  # keys of another sequence may be in other segments
        assert ops.AttentionMask(segments=(segments, copy)).can_empty_a_row


def test_padding_that_is_finite_has_nothing_to_be_zeroed_but_what_other_masks_hide():
    padding = keras.ops.convert_to_tensor(np.arange(S)[None] < [[S], [1]])
    given = {"key_padding": padding, "has_finite_padding": True}
    assert ops.AttentionMask(is_causal=True, **given).live_keys(T, S) is None
    segments = tuple(keras.ops.zeros((2, size), "int32") for size in (T, S))
    keys = ops.AttentionMask(segments=segments, **given).live_keys(T, S)
    np.testing.assert_array_equal(to_numpy(keys), to_numpy(padding))


def test_nothing_given_allows_all():
    assert ops.AttentionMask().materialize(T, S) is None
    assert (ops.AttentionMask() | ops.AttentionMask(is_causal=True)).materialize(T, S) is None
