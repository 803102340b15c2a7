"""ALiBi: the paper's slopes and biases, for keys before and after the query, fixed and learned."""

import keras
import numpy as np
import pytest

from keras_tfm.layers.alibi import Alibi
from keras_tfm.ops.relative_positions import alibi_slopes
from tests.layers.position_hooks import assert_bias_is, built, tensors
from tests.layers.position_laws import (
    assert_attention_is,
    assert_finite_in_any_policy,
    assert_is_a_layer,
    assert_laws,
    assert_windows_are_the_whole,
    attention_layer,
    content_logits,
)
from tests.numerics import assert_close, to_numpy

PAPER_OF_4 = [1 / 4, 1 / 16, 1 / 64, 1 / 256]


def bias_in_numpy(direction):
    """One pair at a time; `weights` has the learned slopes, if there are any."""

    def bias(query, key, query_positions, key_positions, weights):
        heads = query.shape[2]
        fixed = [2 ** (-8 * (head + 1) / heads) for head in range(heads)]
        sides = weights.get("slopes", [fixed])
        result = np.zeros((query.shape[0], heads, query.shape[1], key.shape[1]))
        for b, n, t, s in np.ndindex(result.shape):
            distance = query_positions[b, t] - key_positions[b, s]
            if distance >= 0:
                result[b, n, t, s] = -sides[0][n] * distance
            elif direction != "causal":
                result[b, n, t, s] = sides[-1][n] * distance
        return result

    return bias


CASES = [("symmetric", False), ("causal", False), ("symmetric", True), ("causal", True), ("asymmetric", True)]


@pytest.mark.parametrize("direction, learnable", CASES)
def test_the_bias_is_the_papers(direction, learnable):
    assert_bias_is(lambda: Alibi(direction, learnable), bias_in_numpy(direction))


@pytest.mark.parametrize("direction, learnable", [("symmetric", False), ("asymmetric", True)])
def test_attention_is_the_papers(direction, learnable):
    def logits(query, key, *others):
        return content_logits(query, key) + bias_in_numpy(direction)(query, key, *others)

    assert_attention_is(lambda: Alibi(direction, learnable), logits)


@pytest.mark.parametrize("direction, learnable", CASES)
def test_laws(direction, learnable):
    assert_laws(lambda: Alibi(direction, learnable))


@pytest.mark.parametrize(
    "heads, slopes",
    [
        (1, [2**-8]),
        (4, PAPER_OF_4),
        (8, [2**-i for i in range(1, 9)]),
        (3, [2**-4, 2**-8, 2**-2]),
        (6, [*PAPER_OF_4, 2**-1, 2**-3]),
        (12, [*(2**-i for i in range(1, 9)), *(2**-i for i in (0.5, 1.5, 2.5, 3.5))]),
    ],
)
def test_slopes_of_any_number_of_heads(heads, slopes):
    """Numbers from the paper's section 3 and, where N is no power of two, from the authors' `get_slopes`."""
    np.testing.assert_allclose(alibi_slopes(heads), slopes, rtol=1e-12)
    position = built(Alibi, heads=heads)
    query = np.zeros((1, 1, heads, 6))
    assert_close(position.bias(*tensors(query, query, np.array([0]), np.array([5])))[0, :, 0, 0], -5 * np.array(slopes))


def test_learned_slopes_start_at_the_papers():
    position = Alibi("asymmetric", learnable=True)
    position.build((None, None, 4, 6), (None, None, 4, 6), (None, None, 4, 6))
    assert_close(position.slopes, np.array([PAPER_OF_4, PAPER_OF_4]))


def test_under_a_causal_mask_symmetric_is_causal():
    x = np.random.default_rng(0).normal(size=(2, 5, 11)).astype("float32")
    outputs = [to_numpy(attention_layer(Alibi(each))(x, x, use_causal_mask=True)) for each in ("symmetric", "causal")]
    assert_close(*outputs)


def test_sliding_windows():
    assert_windows_are_the_whole(Alibi)


def test_reduced_precision():
    assert_finite_in_any_policy(lambda: Alibi("asymmetric", learnable=True))
    assert_finite_in_any_policy(Alibi)


@pytest.mark.parametrize("direction, learnable", [("symmetric", False), ("asymmetric", True)])
def test_as_a_layer(direction, learnable):
    assert_is_a_layer(lambda **others: Alibi(direction, learnable, **others))


def test_config_round_trip():
    layer = keras.saving.deserialize_keras_object(keras.saving.serialize_keras_object(Alibi("causal", learnable=True)))
    assert (layer.direction, layer.learnable) == ("causal", True)


def test_bad_arguments():
    with pytest.raises(ValueError, match="`direction` must be one of.*direction='left'"):
        Alibi("left")
    with pytest.raises(ValueError, match="needs `learnable=True`.*learnable=False"):
        Alibi("asymmetric")
    position = built(lambda: Alibi(learnable=True), heads=4)
    heads = np.zeros((1, 2, 3, 6))
    with pytest.raises(ValueError, match="built for 4 heads.*num_heads=3"):
        position.bias(*tensors(heads, heads, np.arange(2), np.arange(2)))
