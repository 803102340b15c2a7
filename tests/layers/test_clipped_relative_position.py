"""Shaw's relative keys and values: equations 3 to 5, pair by pair."""

import math

import numpy as np
import pytest

from keras_tfm.layers import MultiHeadAttention
from keras_tfm.layers.clipped_relative_position import ClippedRelativePosition
from tests.layers.on_backend import weight_gradients
from tests.layers.position_hooks import (
    BATCH,
    HEADS,
    KEYS,
    QUERIES,
    ValueBiasOf,
    assert_bias_is,
    built,
    by_rows,
    forms_of_positions,
    numeric_gradients,
    tensors,
    weights_of,
)
from tests.layers.position_laws import (
    assert_attention_is,
    assert_finite_in_any_policy,
    assert_is_a_layer,
    assert_laws,
    assert_windows_are_the_whole,
    content_logits,
)
from tests.numerics import assert_close, to_numpy, value_and_gradients


def vector(table, query_position, key_position):
    """a_ij: the row of clip(j - i, k)."""
    limit = (len(table) - 1) // 2
    return table[int(np.clip(key_position - query_position, -limit, limit)) + limit]


def bias_in_numpy(query, key, query_positions, key_positions, weights):
    result = np.zeros((query.shape[0], query.shape[2], query.shape[1], key.shape[1]))
    for b, n, t, s in np.ndindex(result.shape):
        a = vector(weights["key_embeddings"], query_positions[b, t], key_positions[b, s])
        result[b, n, t, s] = query[b, t, n] @ a / math.sqrt(query.shape[-1])
    return result


def value_bias_in_numpy(scores, query_positions, key_positions, weights):
    batch, heads, queries, _ = scores.shape
    result = np.zeros((batch, queries, heads, weights["value_embeddings"].shape[1]))
    for b, n, t, s in np.ndindex(scores.shape):
        a = vector(weights["value_embeddings"], query_positions[b, t], key_positions[b, s])
        result[b, t, n] += scores[b, n, t, s] * a
    return result


def logits_in_numpy(query, key, *others):
    return content_logits(query, key) + bias_in_numpy(query, key, *others)


def without_values(max_distance=3, **others):
    return ClippedRelativePosition(max_distance, relative_values=False, **others)


@pytest.mark.parametrize("max_distance", [1, 4])
def test_the_bias_is_the_papers(max_distance):
    assert_bias_is(lambda: without_values(max_distance), bias_in_numpy)


@pytest.mark.parametrize("max_distance", [1, 4])
def test_the_value_bias_is_the_papers(max_distance):
    position = built(lambda: ClippedRelativePosition(max_distance))
    scores = np.random.default_rng(0).normal(size=(BATCH, HEADS, QUERIES, KEYS))
    for places in forms_of_positions(BATCH, QUERIES, KEYS):
        expected = value_bias_in_numpy(scores, *(by_rows(each, BATCH) for each in places), weights_of(position))
        assert_close(position.value_bias(*tensors(scores, *places)), expected)


@pytest.mark.parametrize("form", [0, 1])
def test_gradients_of_the_value_bias(form):
    position = built(lambda: ClippedRelativePosition(2), value_size=3)
    scores = np.random.default_rng(0).normal(size=(2, 2, 3, 3))
    places = forms_of_positions(2, 3, 3)[form]
    rows = [by_rows(each, 2) for each in places]
    table = weights_of(position)["value_embeddings"]
    upstream = np.random.default_rng(7).normal(size=(2, 3, 2, 3))

    def loss(scores, table):
        return (upstream * value_bias_in_numpy(scores, *rows, {"value_embeddings": table})).sum()

    wanted = numeric_gradients(loss, [scores, table])
    places = tensors(*places)
    _, received = value_and_gradients(lambda x: position.value_bias(x, *places), [scores], upstream)
    assert_close(received, wanted[:1], factor=2)
    gradients = weight_gradients(ValueBiasOf(position), (*tensors(scores), *places), {}, {})
    assert_close(gradients[-1:], wanted[1:], factor=2)


def test_attention_is_the_papers():
    assert_attention_is(lambda: ClippedRelativePosition(3), logits_in_numpy, value_bias_in_numpy)
    assert_attention_is(without_values, logits_in_numpy)


@pytest.mark.parametrize("make", [lambda: ClippedRelativePosition(3), without_values])
def test_laws(make):
    assert_laws(make)


def test_the_value_bias_sees_the_scores_after_dropout():
    """With values and value table all ones, heads are twice the sum of the dropped scores; without dropout 2."""
    position = ClippedRelativePosition(3, embeddings_initializer="ones")
    layer = MultiHeadAttention(1, 3, dropout=0.5, position=position, use_bias=False, output_shape=3)
    x = np.ones((2, 7, 1), "float32")
    layer.build(x.shape, x.shape)
    layer._value_dense.set_weights([np.ones((1, 1, 3))])
    layer._output_dense.set_weights([np.eye(3)[None]])
    assert_close(layer(*tensors(x, x)), np.full((2, 7, 3), 2.0))
    dropped = to_numpy(layer(*tensors(x, x), training=True)) * 7 / 4  # scores are 1/7, kept ones are doubled
    assert_close(dropped, np.round(dropped))
    assert np.unique(np.round(dropped)).size > 1


def test_sliding_windows():
    assert_windows_are_the_whole(without_values)


def test_reduced_precision():
    assert_finite_in_any_policy(lambda: ClippedRelativePosition(3))


@pytest.mark.parametrize("make", [lambda **others: ClippedRelativePosition(3, **others), without_values])
def test_as_a_layer(make):
    assert_is_a_layer(make)


def test_without_relative_values_there_is_no_hook_for_them():
    assert ClippedRelativePosition(3).overrides("value_bias")
    position = built(without_values)
    assert not position.overrides("value_bias")
    assert [variable.name for variable in position.weights] == ["key_embeddings"]
    assert position.value_bias(*tensors(np.zeros((1, 4, 2, 2)), np.arange(2), np.arange(2))) is None


def test_tables_start_different():
    position = ClippedRelativePosition(3)
    position.build((None, None, 4, 6), (None, None, 4, 6), (None, None, 4, 6))
    tables = weights_of(position)
    assert np.abs(tables["key_embeddings"] - tables["value_embeddings"]).max() > 1e-3


def test_bad_arguments():
    with pytest.raises(ValueError, match="`max_distance` must be a positive integer.*max_distance=0"):
        ClippedRelativePosition(0)
    position = built(lambda: ClippedRelativePosition(2), size=6)
    heads = np.zeros((1, 2, 4, 5))
    with pytest.raises(ValueError, match="heads of size 6.*key_dim=5"):
        position.bias(*tensors(heads, heads, np.arange(2), np.arange(2)))
