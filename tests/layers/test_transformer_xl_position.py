"""Transformer-XL's relative positions: the four terms of the paper, pair by pair."""

import math

import numpy as np
import pytest

from keras_tfm.layers.transformer_xl_position import TransformerXLPosition
from tests.layers.position_hooks import assert_bias_is, built, tensors, weights_of
from tests.layers.position_laws import (
    assert_attention_is,
    assert_finite_in_any_policy,
    assert_is_a_layer,
    assert_laws,
    assert_windows_are_the_whole,
)
from tests.numerics import assert_close, to_numpy


def sinusoid(distance, dim):
    """R of the paper, sines first, of any integer."""
    angles = [distance / 10_000 ** (2 * i / dim) for i in range(dim // 2)]
    return np.array([*map(math.sin, angles), *map(math.cos, angles)])


def logits_in_numpy(query, key, query_positions, key_positions, weights, with_content=True):
    """Terms a to d of section 3.3, all divided by √H."""
    batch, queries, heads, size = query.shape
    result = np.zeros((batch, heads, queries, key.shape[1]))
    for b, n, t, s in np.ndindex(result.shape):
        q, k = query[b, t, n], key[b, s, n // (heads // key.shape[2])]
        kernel = weights["kernel"][:, n]
        r = sinusoid(int(query_positions[b, t] - key_positions[b, s]), len(kernel)) @ kernel
        u, v = weights["content_bias"][n], weights["position_bias"][n]
        terms = [q @ k if with_content else 0.0, q @ r, u @ k, v @ r]
        result[b, n, t, s] = sum(terms) / math.sqrt(size)
    return result


def bias_in_numpy(*arguments):
    return logits_in_numpy(*arguments, with_content=False)


@pytest.mark.parametrize("dim", [None, 2, 10])
def test_the_bias_is_the_papers(dim):
    assert_bias_is(lambda: TransformerXLPosition(dim), bias_in_numpy)


def test_attention_is_the_papers():
    assert_attention_is(TransformerXLPosition, logits_in_numpy)


def test_laws():
    assert_laws(TransformerXLPosition)


def test_distances_are_exact_far_from_the_start():
    """Only the distance counts, also 10,000,000 positions on, where a float32 angle would be off by 1."""
    position = built(TransformerXLPosition)
    heads = np.random.default_rng(0).normal(size=(1, 5, 4, 6))
    expected = to_numpy(position.bias(*tensors(heads, heads, np.arange(5), np.arange(5))))
    for start in (100_000, 10_000_000):
        places = np.arange(5) + start
        assert_close(position.bias(*tensors(heads, heads, places, places)), expected)


def test_the_width_of_the_sinusoids():
    assert weights_of(built(TransformerXLPosition, heads=3, shared=3, size=5))["kernel"].shape == (16, 3, 5)
    assert weights_of(built(lambda: TransformerXLPosition(8)))["kernel"].shape == (8, 4, 6)


def test_sliding_windows():
    assert_windows_are_the_whole(TransformerXLPosition)


def test_reduced_precision():
    assert_finite_in_any_policy(TransformerXLPosition)


def test_as_a_layer():
    assert_is_a_layer(TransformerXLPosition)


def test_bad_arguments():
    with pytest.raises(ValueError, match="`dim` must be even.*dim=7"):
        TransformerXLPosition(7)
    with pytest.raises(ValueError, match="`dim` must be an integer, at least 2.*dim=0"):
        TransformerXLPosition(0)
    with pytest.raises(ValueError, match="`max_wavelength` must be positive.*max_wavelength=0"):
        TransformerXLPosition(max_wavelength=0)
    position = built(TransformerXLPosition, heads=4)
    heads = np.zeros((1, 2, 3, 6))
    with pytest.raises(ValueError, match="built for 4 heads.*num_heads=3"):
        position.bias(*tensors(heads, heads, np.arange(2), np.arange(2)))
