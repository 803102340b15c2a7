"""Quadratic positions: the paper's encoding over sequences and images, and the convolution that it can be."""

import numpy as np
import pytest

from keras_tfm.layers import MultiHeadAttention
from keras_tfm.layers.quadratic_position import QuadraticPosition
from tests.layers.position_hooks import assert_bias_is, built, tensors, weights_of
from tests.layers.position_laws import (
    assert_attention_is,
    assert_finite_in_any_policy,
    assert_is_a_layer,
    assert_laws,
    assert_windows_are_the_whole,
    attention_layer,
    content_logits,
)
from tests.numerics import assert_close, randomize, to_numpy


def bias_in_numpy(grid_shape=None):
    """-α (|δ - Δ|² - |Δ|²), one pair at a time; δ runs from query to key."""

    def coordinates(position):
        if grid_shape is None:
            return np.array([position])
        rest = np.prod(grid_shape[1:], dtype=int)
        return np.array([position // rest, *np.unravel_index(position % rest, grid_shape[1:])])

    def bias(query, key, query_positions, key_positions, weights):
        result = np.zeros((query.shape[0], query.shape[2], query.shape[1], key.shape[1]))
        for b, n, t, s in np.ndindex(result.shape):
            shift = coordinates(key_positions[b, s]) - coordinates(query_positions[b, t])
            center = weights["centers"][n]
            alpha = weights["sharpness"][n] ** 2 / 2
            result[b, n, t, s] = -alpha * (((shift - center) ** 2).sum() - (center**2).sum())
        return result

    return bias


GRIDS = [None, (5, 8), (3, 4, 5)]


@pytest.mark.parametrize("grid_shape", GRIDS)
def test_the_bias_is_the_papers(grid_shape):
    assert_bias_is(lambda: QuadraticPosition(grid_shape), bias_in_numpy(grid_shape))


@pytest.mark.parametrize("grid_shape", GRIDS[:2])
def test_attention_is_the_papers(grid_shape):
    def logits(query, key, *others):
        bias = bias_in_numpy(grid_shape)(query, key, *others)
        return content_logits(query, key) + bias - bias.max(-1, keepdims=True)

    assert_attention_is(lambda: QuadraticPosition(grid_shape), logits)


def test_laws():
    assert_laws(QuadraticPosition)


def test_laws_on_a_grid():
    """There a shift of all positions changes nothing by whole rows."""
    layer = attention_layer(QuadraticPosition((4, 3)))
    x = np.random.default_rng(0).normal(size=(2, 12, 11)).astype("float32")
    expected = layer(x, x)
    assert_close(layer(x, x, query_positions=tensors(np.arange(12) + 300)[0]), expected, factor=4)
    assert np.abs(to_numpy(layer(x, x, query_positions=tensors(np.arange(12) + 1)[0])) - to_numpy(expected)).max() > 0.1


def test_an_image_needs_no_flattening():
    """`attention_axes` count the pixels row by row, as the grid does."""
    layer = MultiHeadAttention(4, 6, attention_axes=(1, 2), position=QuadraticPosition((3, 4)))
    x = np.random.default_rng(0).normal(size=(2, 3, 4, 11)).astype("float32")
    layer.build(x.shape, x.shape)
    randomize(layer)
    flat = MultiHeadAttention(4, 6, position=layer.position)
    rows = x.reshape(2, 12, 11)
    flat.build(rows.shape, rows.shape)
    flat.set_weights(layer.get_weights())
    assert_close(layer(x, x), to_numpy(flat(rows, rows)).reshape(2, 3, 4, 11))


def test_nine_sharp_heads_are_a_convolution():
    """Theorem 1 of the paper: heads centred on the pixels of a 3 x 3 kernel compute its convolution."""
    height, width, channels, filters = 5, 7, 2, 3
    shifts = [(row, column) for row in (-1, 0, 1) for column in (-1, 0, 1)]
    rng = np.random.default_rng(0)
    image, kernel = rng.normal(size=(height, width, channels)), rng.normal(size=(3, 3, channels, filters))
    position = QuadraticPosition((height, width))
    layer = MultiHeadAttention(9, 2, value_dim=channels, position=position, output_shape=filters, use_bias=False)
    pixels = image.reshape(1, -1, channels).astype("float32")
    layer.build(pixels.shape, pixels.shape)
    for dense, values in (
        (layer._query_dense, np.zeros((channels, 9, 2))),  # attention by position alone
        (layer._value_dense, np.repeat(np.eye(channels)[:, None], 9, axis=1)),
        (layer._output_dense, kernel.reshape(9, channels, filters)),
    ):
        dense.set_weights([values])
    position.centers.assign(shifts)
    position.sharpness.assign(np.full(9, 20.0))
    received = to_numpy(layer(pixels, pixels)).reshape(height, width, filters)
    expected = sum(np.roll(image, (-row, -column), axis=(0, 1)) @ kernel[row + 1, column + 1] for row, column in shifts)
    assert_close(received[1:-1, 1:-1], expected[1:-1, 1:-1])


def test_weights_start_apart():
    position = QuadraticPosition((5, 8))
    position.build((None, None, 9, 6), (None, None, 9, 6), (None, None, 9, 6))
    weights = weights_of(position)
    assert weights["centers"].shape == (9, 2)
    assert len(np.unique(weights["centers"])) == 18
    assert_close(weights["sharpness"], np.ones(9))


def test_sliding_windows():
    assert_windows_are_the_whole(QuadraticPosition)


def test_reduced_precision():
    assert_finite_in_any_policy(QuadraticPosition)


@pytest.mark.parametrize("grid_shape", GRIDS[:2])
def test_as_a_layer(grid_shape):
    assert_is_a_layer(lambda **others: QuadraticPosition(grid_shape, **others))


def test_bad_arguments():
    with pytest.raises(ValueError, match="`grid_shape` must be a tuple of sizes or None.*grid_shape=5"):
        QuadraticPosition(5)
    with pytest.raises(ValueError, match="`grid_shape` must be a positive integer.*grid_shape=0"):
        QuadraticPosition((5, 0))
    with pytest.raises(ValueError, match=r"`grid_shape` must be a tuple of sizes.*grid_shape=\(\)"):
        QuadraticPosition(())
    position = built(QuadraticPosition, heads=4)
    heads = np.zeros((1, 2, 3, 6))
    with pytest.raises(ValueError, match="built for 4 heads.*num_heads=3"):
        position.bias(*tensors(heads, heads, np.arange(2), np.arange(2)))
