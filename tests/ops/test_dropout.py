"""Dropout: the right rate everywhere, no two masks related, the gradient of what was kept."""

import keras
import numpy as np
import pytest
from keras import ops
from scipy import stats

from keras_tfm.ops.dropout import dropout, keep_factors, keep_mask, keep_signs
from tests.numerics import to_numpy


def _masks(rate, shape, draws=1, seed=7):
    generator = keras.random.SeedGenerator(seed)
    like = ops.zeros((1,))
    return np.stack([to_numpy(keep_mask(shape, rate, generator, like)) for _ in range(draws)])


@pytest.mark.parametrize("rate", [0.0, 0.1, 0.5, 0.93])
def test_the_share_that_is_dropped_is_the_rate(rate):
    dropped = ~_masks(rate, (37, 5, 211), draws=4)
    if rate == 0:
        assert not dropped.any()
        return
    assert stats.binomtest(int(dropped.sum()), dropped.size, rate).pvalue > 1e-4
    for axis in range(4):  # and so in each draw, row and column
        counts = dropped.sum(axis=tuple(other for other in range(4) if other != axis))
        expected = np.full(len(counts), dropped.size / len(counts))
        observed = np.stack([counts, expected - counts])
        assert stats.chisquare(observed[0] / (1 - rate), expected * rate / (1 - rate), sum_check=False).pvalue > 1e-5


def test_neighbours_rows_draws_and_seeds_are_independent():
    masks = np.stack([_masks(0.3, (64, 257), draws=3, seed=seed) for seed in (1, 2, 3)]).reshape(9, 64, 257)
    pairs = [(masks[i], masks[j]) for i in range(9) for j in range(i)]
    pairs += [(masks[:, 1:], masks[:, :-1]), (masks[:, :, 1:], masks[:, :, :-1]), (masks[:, :, 2:], masks[:, :, :-2])]
    for first, second in pairs:
        table = np.array([[np.sum((first == a) & (second == b)) for b in (0, 1)] for a in (0, 1)])
        assert stats.chi2_contingency(table).pvalue > 1e-5


def test_the_corners_of_rectangles_are_independent():
    signs = 2.0 * _masks(0.5, (512, 509), seed=11)[0] - 1  # hashes of row and column could cancel there
    for rows, columns in ((1, 1), (1, 2), (2, 1), (16, 64), (255, 256)):
        sides = signs[rows:] * signs[:-rows]
        corners = sides[:, columns:] * sides[:, :-columns]
        assert stats.norm.sf(abs(corners.sum()) / np.sqrt(corners.size)) > 1e-5


def test_a_seed_draws_the_same_again_and_another_mask_next():
    first, second = _masks(0.4, (11, 13), draws=2), _masks(0.4, (11, 13), draws=2)
    np.testing.assert_array_equal(first, second)
    assert (first[0] != first[1]).any()


def test_what_stays_is_scaled_and_the_expected_value_kept():
    x = np.random.default_rng(0).uniform(1, 2, (200, 301)).astype("float32")
    result = to_numpy(dropout(ops.convert_to_tensor(x), 0.2, keras.random.SeedGenerator(3)))
    kept = result != 0
    np.testing.assert_allclose(result[kept], x[kept] / 0.8, rtol=1e-6)
    assert abs(result.mean() / x.mean() - 1) < 0.01


def test_factors_and_signs_are_those_of_the_mask():
    shape = (5, 300, 64)  # enough for a program of its own, where masks have one

    def draw(function):
        return to_numpy(function(shape, 0.3, keras.random.SeedGenerator(3), ops.ones(1)))

    mask = draw(keep_mask)
    assert 0.69 < mask.mean() < 0.71
    np.testing.assert_array_equal(draw(keep_signs), np.where(mask, 1, -1))
    np.testing.assert_array_equal(draw(keep_factors), np.where(mask, np.float32(1 / 0.7), 0))


def test_a_rate_of_1_leaves_nothing():
    assert not to_numpy(dropout(ops.ones((3, 5)), 1, keras.random.SeedGenerator(3))).any()


def test_infinities_that_are_dropped_leave_no_nan():
    result = to_numpy(dropout(ops.full((50, 7), np.inf), 0.5, keras.random.SeedGenerator(3)))
    assert set(result.ravel().tolist()) == {0.0, np.inf}


def test_training_learns_through_what_was_kept():
    """The gradient is that of the same mask: a linear model on dropped inputs has the gradient of those inputs."""
    layer = keras.Sequential([keras.Input((301,)), _layer(0.5), keras.layers.Dense(1, use_bias=False)])
    layer.compile(keras.optimizers.SGD(1.0), "mean_absolute_error")
    before = to_numpy(layer.layers[-1].kernel)
    layer.train_on_batch(np.ones((1, 301), "float32"), np.full((1, 1), 1e6, "float32"))
    change = (to_numpy(layer.layers[-1].kernel) - before).ravel()
    assert set(np.round(change, 4).tolist()) == {0.0, 2.0}
    assert 100 < (change > 1).sum() < 200


def _layer(rate):
    from keras_tfm.layers import Dropout

    return Dropout(rate, seed=5)
