"""T5's relative position bias: its buckets, its table, one instance for several layers."""

import math

import keras
import numpy as np
import pytest

from keras_tfm.layers import MultiHeadAttention
from keras_tfm.layers.relative_position_bias import RelativePositionBias
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
from tests.numerics import assert_close, randomize, to_numpy


def bucket(distance, num_buckets, max_distance, bidirectional):
    """The bucket of one distance, key minus query; Raffel et al. 2020 and the code that came with it."""
    first = 0
    if bidirectional:
        num_buckets //= 2
        first = num_buckets if distance > 0 else 0
        distance = abs(distance)
    else:
        distance = max(-distance, 0)
    exact = num_buckets // 2
    if distance < exact:
        return first + distance
    # 1e-9: where a power falls on an integer, float64 may come out just below it.
    share = math.log(distance / exact) / math.log(max_distance / exact)
    return first + min(exact + int(share * (num_buckets - exact) + 1e-9), num_buckets - 1)


def bias_in_numpy(num_buckets, max_distance, bidirectional):
    def bias(query, key, query_positions, key_positions, weights):
        result = np.zeros((query.shape[0], query.shape[2], query.shape[1], key.shape[1]))
        for b, n, t, s in np.ndindex(result.shape):
            distance = int(key_positions[b, s] - query_positions[b, t])
            result[b, n, t, s] = weights["embeddings"][bucket(distance, num_buckets, max_distance, bidirectional), n]
        return result

    return bias


CASES = [(8, 16, True), (8, 16, False), (32, 128, True), (6, 20, True), (2, 3, False)]


@pytest.mark.parametrize("arguments", CASES)
def test_the_bias_is_the_papers(arguments):
    assert_bias_is(lambda: RelativePositionBias(*arguments), bias_in_numpy(*arguments))


@pytest.mark.parametrize("bidirectional", [True, False])
def test_attention_is_the_papers(bidirectional):
    def logits(query, key, *others):
        return content_logits(query, key) + bias_in_numpy(8, 16, bidirectional)(query, key, *others)

    assert_attention_is(lambda: RelativePositionBias(8, 16, bidirectional), logits)


@pytest.mark.parametrize("bidirectional", [True, False])
def test_laws(bidirectional):
    assert_laws(lambda: RelativePositionBias(8, 16, bidirectional))


def test_sliding_windows():
    assert_windows_are_the_whole(lambda: RelativePositionBias(8, 16))


def test_reduced_precision():
    assert_finite_in_any_policy(lambda: RelativePositionBias(8, 16))


@pytest.mark.parametrize("bidirectional", [True, False])
def test_as_a_layer(bidirectional):
    assert_is_a_layer(lambda **others: RelativePositionBias(8, 16, bidirectional, **others))


def test_the_table_starts_as_the_initializer_says():
    position = RelativePositionBias(embeddings_initializer="ones")
    position.build((None, None, 4, 6), (None, None, 4, 6), (None, None, 4, 6))
    assert_close(position.embeddings, np.ones((32, 4)))


def shared_model():
    position = RelativePositionBias(8, 16, name="shared")
    inputs = keras.Input((None, 11))
    x = MultiHeadAttention(4, 6, position=position, name="first")(inputs, inputs)
    x = MultiHeadAttention(4, 6, position=position, name="second")(x, x)
    return keras.Model(inputs, x)


def test_one_instance_has_its_weights_once_and_gets_the_gradients_of_all_layers():
    model = shared_model()
    paths = [variable.path for variable in model.weights]
    assert len(paths) == len(set(paths)) == 2 * 8 + 1
    x = np.random.default_rng(0).normal(size=(2, 5, 11)).astype("float32")
    randomize(model)
    table = next(variable for variable in model.weights if "embeddings" in variable.path)
    before, outputs = to_numpy(model(x)), []
    for name in ("first", "second"):
        layer = model.get_layer(name)
        assert layer.position.embeddings is table
        outputs.append(to_numpy(layer(x, x)))
    table.assign(-table.value)
    assert np.abs(to_numpy(model(x)) - before).max() > 1e-3
    for name, output in zip(("first", "second"), outputs, strict=True):
        assert np.abs(to_numpy(model.get_layer(name)(x, x)) - output).max() > 1e-3


def test_one_instance_stays_shared_through_a_file(tmp_path):
    model = randomize(shared_model())
    model.save(tmp_path / "model.keras")
    copy = keras.models.load_model(tmp_path / "model.keras")
    assert copy.get_layer("first").position is copy.get_layer("second").position
    assert len(copy.weights) == len(model.weights)
    x = np.random.default_rng(0).normal(size=(2, 5, 11)).astype("float32")
    assert_close(copy(x), model(x))


def test_one_instance_stays_shared_through_a_weights_file(tmp_path):
    model = randomize(shared_model())
    x = np.random.default_rng(0).normal(size=(2, 5, 11)).astype("float32")
    model.save_weights(tmp_path / "model.weights.h5")
    other = shared_model()
    other.load_weights(tmp_path / "model.weights.h5")
    assert_close(other(x), model(x))


def test_bad_arguments():
    with pytest.raises(ValueError, match="`num_buckets` must be an integer, at least 4.*num_buckets=2"):
        RelativePositionBias(2)
    with pytest.raises(ValueError, match="`num_buckets` must be even.*num_buckets=7"):
        RelativePositionBias(7)
    with pytest.raises(ValueError, match="`max_distance` must be an integer, at least 9.*max_distance=8"):
        RelativePositionBias(32, 8)
    position = built(RelativePositionBias, heads=4)
    heads = np.zeros((1, 2, 3, 6))
    with pytest.raises(ValueError, match="built for 4 heads.*num_heads=3"):
        position.bias(*tensors(heads, heads, np.arange(2), np.arange(2)))


def test_layers_that_share_may_differ_in_head_size():
    position = RelativePositionBias(8, 16)
    for size in (6, 10):
        layer = attention_layer(position, size=size)
        assert layer.position is position
