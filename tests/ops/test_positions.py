"""Angles, sinusoids and turns: exact in float32 however far the position, eager and compiled."""

import keras
import numpy as np
import pytest
from keras import ops

from keras_tfm.ops.positions import frequencies, rotate, sine_and_cosine, sinusoid
from tests.numerics import assert_close, to_numpy, value_and_gradients

FAR = np.array([0, 1, 4095, 4096, 4097, 99_999, 100_000, 1_000_003, 2**24 - 1, -1, -4096, -100_001])


def compiled(function):
    """The function through the backend's own compiler."""
    backend = keras.backend.backend()
    if backend == "jax":
        import jax

        return jax.jit(function)
    if backend == "tensorflow":
        import tensorflow as tf

        return tf.function(function, jit_compile=True)
    return function


@pytest.mark.parametrize("is_compiled", [False, True])
@pytest.mark.parametrize("endpoint", [False, True])
@pytest.mark.parametrize("dim", [64, 512])
def test_angles_are_exact_up_to_16_million(dim, endpoint, is_compiled):
    speeds = frequencies(dim, endpoint=endpoint)

    def function(positions):
        return sine_and_cosine(positions, speeds)

    received = (compiled(function) if is_compiled else function)(ops.convert_to_tensor(FAR, dtype="int32"))
    angles = FAR[:, None] * speeds
    for wave, expected in zip(received, (np.sin(angles), np.cos(angles)), strict=True):
        assert keras.backend.standardize_dtype(wave.dtype) == "float32"
        np.testing.assert_allclose(to_numpy(wave), expected, rtol=0, atol=1e-6)


def test_a_float32_product_would_be_wrong():
    """What the splitting is for: this is the error without it."""
    speeds = frequencies(64, endpoint=True)
    angles = np.float32(100_000) * speeds.astype("float32")
    assert np.abs(np.sin(angles) - np.sin(100_000 * speeds)).max() > 1e-3


def test_frequencies_that_are_tensors():
    """Exact for the float32 frequency that they are, one for each row."""
    speeds = np.array([[0.9], [0.0123]], "float32")
    positions = np.array([[99_999, 3], [100_000, 65_537]])
    sine, cosine = sine_and_cosine(ops.convert_to_tensor(positions), ops.convert_to_tensor(speeds)[:, None])
    # The step to turns rounds once more, by a part that is the same at all positions.
    turns = (speeds * np.float32(1 / (2 * np.pi))).astype("float64") * 2 * np.pi
    angles = positions[..., None] * turns[:, None]
    np.testing.assert_allclose(to_numpy(sine), np.sin(angles), rtol=0, atol=1e-6)
    np.testing.assert_allclose(to_numpy(cosine), np.cos(angles), rtol=0, atol=1e-6)


@pytest.mark.parametrize("shape", [(), (3,), (2, 3), (2, 3, 5)])
def test_positions_of_any_shape(shape):
    positions = np.random.default_rng(0).integers(0, 100, shape)
    received = sinusoid(ops.convert_to_tensor(positions, dtype="int32"), 7)
    assert tuple(received.shape) == (*shape, 7)
    rows = to_numpy(sinusoid(ops.arange(100), 7))
    assert_close(received, rows[positions])


@pytest.mark.parametrize("dtype", ["uint8", "int16", "int64", "float32"])
def test_positions_of_any_dtype(dtype):
    rows = to_numpy(sinusoid(ops.arange(256), 6))
    positions = np.array([3, 200, 17])
    assert_close(sinusoid(ops.convert_to_tensor(positions.astype(dtype)), 6), rows[positions])


def test_frequencies_in_float64():
    np.testing.assert_allclose(frequencies(4), [1, 10_000**-0.5], rtol=1e-14)
    np.testing.assert_allclose(frequencies(5), [1, 10_000 ** (-2 / 5), 10_000 ** (-4 / 5)], rtol=1e-14)
    np.testing.assert_allclose(frequencies(6, 100.0, endpoint=True), [1, 0.1, 0.01], rtol=1e-14)
    np.testing.assert_allclose(frequencies(7, 100.0, endpoint=True), [1, 0.1, 0.01], rtol=1e-14)
    np.testing.assert_allclose(frequencies(2, endpoint=True), [1], rtol=1e-14)


def test_gradients_reach_positions_that_are_not_whole():
    """Splitting and the taking off of whole turns have a derivative of 1."""
    positions = np.array([0.5, 3.25, 5000.5])
    _, (gradient,) = value_and_gradients(lambda x: sinusoid(x, 4), [positions], np.ones((3, 4)))
    angles = positions[:, None] * frequencies(4)
    expected = (frequencies(4) * (np.cos(angles) - np.sin(angles))).sum(-1)
    assert_close(gradient, expected, factor=50)


@pytest.mark.parametrize("pairing", ["half", "interleaved"])
def test_a_turn_keeps_lengths_and_depends_on_distance(pairing):
    rng = np.random.default_rng(0)
    query, key = (ops.convert_to_tensor(x, dtype="float32") for x in rng.normal(size=(2, 1, 1, 3, 10)))
    logits = []
    for start in (0, 100_000):
        first = to_numpy(rotate(query, ops.convert_to_tensor([start + 7]), rotary_dim=6, pairing=pairing))
        second = to_numpy(rotate(key, ops.convert_to_tensor([start]), rotary_dim=6, pairing=pairing))
        logits.append((first * second).sum(-1))
        assert_close((first**2).sum(-1), (to_numpy(query) ** 2).sum(-1))
        assert_close(first[..., 6:], to_numpy(query)[..., 6:])
    assert_close(logits[1], logits[0])


@pytest.mark.parametrize("dtype", ["bfloat16", "float16"])
def test_a_turn_is_in_float32_and_rounds_once(dtype):
    heads = ops.cast(np.random.default_rng(0).normal(size=(2, 5, 3, 8)), dtype)
    positions = ops.arange(5) + 99_990
    received = rotate(heads, positions)
    assert keras.backend.standardize_dtype(received.dtype) == dtype
    exact = to_numpy(rotate(ops.cast(heads, "float32"), positions))
    assert (
        np.abs(to_numpy(received) - exact).max() <= np.abs(exact).max() * {"bfloat16": 2**-8, "float16": 2**-11}[dtype]
    )
