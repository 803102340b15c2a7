"""The promises of the random numbers by counter: a reference in unsigned numpy, and statistics."""

import itertools

import keras
import numpy as np
import pytest
from keras import ops

from keras_tfm.ops.counter_random import gumbel, random_bits, row_keys, uniform

BACKEND = keras.backend.backend()


def triple32(words, key=0):
    words = np.asarray(words, "uint32")
    words = (words ^ words >> np.uint32(17)) * np.uint32(0xED5AD4BB)
    words = ((words ^ words >> np.uint32(11)) + np.asarray(key, "uint32")) * np.uint32(0xAC4C1B51)
    words = (words ^ words >> np.uint32(15)) * np.uint32(0x31848BAB)
    return words ^ words >> np.uint32(14)


def expected_keys(seed, rows):
    rows = triple32(np.arange(rows, dtype="uint32") + np.uint32(0x85EBCA6B))
    return triple32(triple32([seed % 2**32]) ^ rows)


def expected_bits(keys, index, size, stream=0):
    golden = np.uint32(0x9E3779B9)
    keys, index = keys[:, None], np.broadcast_to(np.asarray(index).astype("uint32"), keys.shape)[:, None]
    branch = triple32([stream * int(golden) % 2**32])
    first = triple32(triple32(keys) ^ (index + branch))
    second = triple32((keys ^ branch ^ np.uint32(0xC2B2AE35)) + index * golden)
    columns = triple32(np.arange(size, dtype="uint32") + golden)
    return triple32(columns ^ first, second)


def to_numpy(tensor):
    return ops.convert_to_numpy(tensor)


def compiled(function):
    if BACKEND == "jax":
        import jax

        return jax.jit(function)
    if BACKEND == "tensorflow":
        import tensorflow as tf

        return tf.function(function, jit_compile=True)
    return function


def check_uniform(counts, message=""):
    """Chi-square of equally likely cells, at seven standard deviations."""
    counts = np.asarray(counts, "float64").ravel()
    expected = counts.sum() / counts.size
    statistic = ((counts - expected) ** 2 / expected).sum()
    assert abs(statistic - (counts.size - 1)) < 7 * np.sqrt(2 * (counts.size - 1)), message


def check_independent(first, second, cells=8):
    """Every pair of cells is equally likely."""
    first, second = ((np.asarray(each).ravel() * cells).astype(int) for each in (first, second))
    check_uniform(np.bincount(first * cells + second, minlength=cells**2))
    correlation = np.corrcoef(first, second)[0, 1]
    assert abs(correlation) < 5 / np.sqrt(first.size)


@pytest.mark.parametrize("seed", [0, 1, -1, 2**31 - 1, 12345678901])
@pytest.mark.parametrize("how", [lambda function: function, compiled], ids=["eager", "compiled"])
def test_the_bits_are_those_of_unsigned_arithmetic(seed, how):
    places = list(itertools.product([0, 7, 2**31 - 1], [0, 1, 11]))
    keys = expected_keys(seed, 5)
    np.testing.assert_array_equal(to_numpy(row_keys(seed, 5)).view("uint32"), keys)
    drawn = how(lambda: [random_bits(row_keys(seed, 5), index, 13, stream) for index, stream in places])()
    for (index, stream), bits in zip(places, drawn, strict=True):
        assert to_numpy(bits).dtype == "int32"
        np.testing.assert_array_equal(to_numpy(bits).view("uint32"), expected_bits(keys, index, 13, stream))


def test_numbers_are_made_of_the_bits():
    keys = row_keys(3, 101)
    bits = expected_bits(expected_keys(3, 101), 2, 1009)
    np.testing.assert_array_equal(to_numpy(uniform(keys, 2, 1009)), (bits // 512 + 0.5) * 2.0**-23)
    small = np.minimum((bits + 0.5) * 2.0**-32, 1 - 2.0**-24)
    drawn = to_numpy(gumbel(keys, 2, 1009))
    assert drawn.dtype == "float32" and np.isfinite(drawn).all()
    expected, deciding = -np.log(-np.log1p(-small)), small < 0.9
    np.testing.assert_allclose(drawn[deciding], expected[deciding], rtol=1e-5, atol=2e-6)
    np.testing.assert_allclose(drawn, expected, atol=0.05)  # the least values know little of their 32 bits


@pytest.mark.parametrize("word", [0, 2**31 - 1, -(2**31), -1])
def test_the_interval_is_open_at_the_extreme_bits(word, monkeypatch):
    monkeypatch.setattr("keras_tfm.ops.counter_random.random_bits", lambda *_: ops.convert_to_tensor([[word]], "int32"))
    assert 0 < float(uniform(None, 0, 1)[0, 0]) < 1
    assert np.isfinite(float(gumbel(None, 0, 1)[0, 0]))


@pytest.mark.parametrize("seed", [0, 1, 2024])
def test_every_value_is_equally_likely(seed):
    numbers = to_numpy(uniform(row_keys(seed, 101), ops.arange(101, dtype="int32"), 1009))
    assert 0 < numbers.min() and numbers.max() < 1
    check_uniform(np.bincount((numbers.ravel() * 1000).astype(int), minlength=1000))
    bits = to_numpy(random_bits(row_keys(seed, 101), 3, 1009)).view("uint32")
    for shift in range(0, 32, 8):
        check_uniform(np.bincount((bits >> np.uint32(shift) & np.uint32(255)).ravel(), minlength=256), shift)
    keys = to_numpy(row_keys(seed, 99991)).view("uint32")
    check_uniform(np.bincount(keys >> np.uint32(22), minlength=1024))
    check_uniform(np.bincount(keys & np.uint32(1023), minlength=1024))


@pytest.mark.parametrize("distance", [1, 2, 3, 64, 256])
def test_neighbours_are_independent(distance):
    many = 401
    keys = row_keys(5, 2 * many)
    numbers = to_numpy(uniform(keys, 0, many + distance))
    check_independent(numbers[:, :-distance], numbers[:, distance:])  # columns
    check_independent(numbers[:-distance], numbers[distance:])  # rows
    check_independent(numbers[:, :many], to_numpy(uniform(keys, distance, many)))  # indices
    check_independent(numbers[:, :many], to_numpy(uniform(keys, 0, many, stream=distance)))  # streams
    check_independent(numbers[:, :many], to_numpy(uniform(row_keys(5 + distance, 2 * many), 0, many)))  # seeds


def test_one_column_along_the_indices_is_uniform_and_independent():
    index = ops.arange(9973, dtype="int32")
    numbers = np.stack([to_numpy(uniform(key + 0 * index, index, 5)) for key in row_keys(8, 3)])  # [row, index, column]
    for column in np.moveaxis(numbers, -1, 0):
        for row in column:
            check_uniform(np.bincount((row * 64).astype(int), minlength=64))
            check_independent(row[1:], row[:-1])
        check_independent(column[0], column[1])
    check_independent(numbers[..., 0], numbers[..., 1])


def test_the_greatest_of_the_logits_and_gumbel_is_a_draw_from_their_softmax():
    probabilities = np.array([0.5, 0.3, 0.15, 0.04, 0.0099, 1e-4])
    keys = row_keys(11, 99991)
    drawn = np.argmax(np.log(probabilities) + to_numpy(gumbel(keys, 4, 6)), axis=-1)
    counts, expected = np.bincount(drawn, minlength=6), probabilities / probabilities.sum() * 99991
    assert ((counts - expected) ** 2 / expected).sum() < 30  # 5 degrees of freedom


def test_keys_of_a_seed_are_all_different():
    assert len(np.unique(to_numpy(row_keys(1, 99991)))) == 99991


def test_seeds_and_streams_do_not_overlap():
    drawn = [to_numpy(row_keys(seed, 1009)) for seed in range(20)]
    assert len(np.unique(drawn)) == 20 * 1009
    draws = [to_numpy(random_bits(row_keys(1, 53), index, 3, s)) for index in range(12) for s in range(7)]
    draws = np.concatenate(draws)
    assert len(np.unique(draws, axis=0)) == len(draws)


def test_a_batch_draws_what_its_rows_draw():
    keys = row_keys(3, 7)
    together = to_numpy(random_bits(keys, ops.arange(7, dtype="int32"), 5))
    for row in range(7):
        np.testing.assert_array_equal(to_numpy(random_bits(keys[row : row + 1], row, 5))[0], together[row])
    beams = ops.reshape(row_keys(3, 6), (3, 2))
    np.testing.assert_array_equal(to_numpy(uniform(beams, 1, 5)).reshape(6, 5), to_numpy(uniform(row_keys(3, 6), 1, 5)))


@pytest.mark.skipif(BACKEND != "tensorflow", reason="only TensorFlow has shapes without a size")
def test_the_batch_size_may_be_unknown():
    import tensorflow as tf

    @tf.function(input_signature=[tf.TensorSpec([None], "int32"), tf.TensorSpec([], "int32")])
    def draw(tokens, seed):
        return uniform(row_keys(seed, tf.shape(tokens)[0]), 2, 5)

    expected = to_numpy(uniform(row_keys(9, 3), 2, 5))
    np.testing.assert_array_equal(draw(tf.zeros(3, "int32"), 9), expected)


@pytest.mark.parametrize("function", [random_bits, uniform, gumbel])
@pytest.mark.parametrize("name", ["size", "stream"])
@pytest.mark.parametrize("value", [-1, 2.0, True, None])
def test_a_wrong_argument_is_named(function, name, value):
    with pytest.raises(ValueError, match=f"`{name}` must be an integer of at least 0. Received: {name}={value}"):
        function(row_keys(1, 2), 0, **({"size": 3} | {name: value}))
