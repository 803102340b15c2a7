"""Rotary positions: both pairings, partial turns, and the four scalings, each written from its formula."""

import math

import keras
import numpy as np
import pytest

from keras_tfm.layers.rotary_embedding import RotaryEmbedding
from tests.layers.position_hooks import tensors
from tests.layers.position_laws import (
    WIDTH,
    assert_attention_is,
    assert_cached_steps_are,
    assert_finite_in_any_policy,
    assert_is_a_layer,
    assert_laws,
    assert_left_padding_changes_nothing,
    attention_layer,
    rotated_logits,
)
from tests.numerics import assert_close, to_numpy, value_and_gradients

SIZE = 12


def plain(dim, length, base=10_000):
    return [base ** (-2 * i / dim) for i in range(dim // 2)], 1.0


def linear(dim, length, factor=4.0):
    return [speed / factor for speed in plain(dim, length)[0]], 1.0


def dynamic_ntk(dim, length, factor=2.0, original=8):
    """The base grows with the length beyond the original one."""
    length = max(length, original)
    base = 10_000 * (factor * length / original - (factor - 1)) ** (dim / (dim - 2))
    return plain(dim, length, base)


def yarn(dim, length, factor=4.0, original=64, fast=32.0, slow=1.0, mscale=1.0, attention=None, truncate=True):
    """Peng et al. 2023, as in the authors' code: which pair makes so many turns, and a ramp between two such pairs."""

    def pair_of(turns):
        return dim * math.log(original / (turns * 2 * math.pi)) / (2 * math.log(10_000))

    low, high = pair_of(fast), pair_of(slow)
    if truncate:
        low, high = math.floor(low), math.ceil(high)
    low, high = max(low, 0), min(high, dim - 1)
    if low == high:
        high += 0.001
    speeds = []
    for i, speed in enumerate(plain(dim, length)[0]):
        ramp = min(max((i - low) / (high - low), 0.0), 1.0)
        keep = 1 - ramp
        speeds.append(speed / factor * (1 - keep) + speed * keep)
    return speeds, 0.1 * mscale * math.log(factor) + 1.0 if attention is None else attention


def llama3(dim, length, factor=8.0, original=64, low=1.0, high=4.0):
    """The code that came with Llama 3.1."""
    speeds = []
    for speed in plain(dim, length)[0]:
        wavelength = 2 * math.pi / speed
        if wavelength < original / high:
            speeds.append(speed)
        elif wavelength > original / low:
            speeds.append(speed / factor)
        else:
            smooth = (original / wavelength - low) / (high - low)
            speeds.append((1 - smooth) * speed / factor + smooth * speed)
    return speeds, 1.0


def rotate(speeds_of, pairing="half", dim=None):
    """Pairs of features as complex numbers, turned one by one; `heads [B, T, N, H]`, `positions [B, T]`."""

    def turn(heads, positions):
        heads = np.array(heads, "float64")
        width = dim or heads.shape[-1]
        for b, t in np.ndindex(positions.shape):
            speeds, magnitude = speeds_of(width, int(positions[b].max()) + 1)
            for i, speed in enumerate(speeds):
                first, second = (i, i + width // 2) if pairing == "half" else (2 * i, 2 * i + 1)
                z = heads[b, t, :, first] + 1j * heads[b, t, :, second]
                z = z * np.exp(1j * speed * int(positions[b, t])) * magnitude
                heads[b, t, :, first], heads[b, t, :, second] = z.real, z.imag
        return heads

    return turn


CASES = {
    "half": ({}, rotate(plain)),
    "interleaved": ({"pairing": "interleaved"}, rotate(plain, "interleaved")),
    "part": ({"rotary_dim": 4}, rotate(plain, dim=4)),
    "share": ({"rotary_dim": 0.5, "pairing": "interleaved"}, rotate(plain, "interleaved", 6)),
    "wavelength": ({"max_wavelength": 500.0}, rotate(lambda dim, length: plain(dim, length, 500))),
    "linear": ({"scaling": {"type": "linear", "factor": 4.0}}, rotate(linear)),
    "yarn": ({"scaling": {"type": "yarn", "factor": 4.0, "original_length": 64}}, rotate(yarn)),
    "yarn with all arguments": (
        {
            "rotary_dim": 10,
            "scaling": {
                "type": "yarn",
                "factor": 3.0,
                "original_length": 4096,
                "beta_fast": 20.0,
                "beta_slow": 2.0,
                "mscale": 0.7,
                "truncate": False,
            },
        },
        rotate(lambda dim, length: yarn(dim, length, 3.0, 4096, 20.0, 2.0, 0.7, truncate=False), dim=10),
    ),
    "yarn of a given temperature": (
        {"scaling": {"type": "yarn", "factor": 4.0, "original_length": 640, "attention_factor": 1.5}},
        rotate(lambda dim, length: yarn(dim, length, original=640, attention=1.5)),
    ),
    "yarn whose blend ends beyond the last pair": (
        {"scaling": {"type": "yarn", "factor": 4.0, "original_length": 200_000}},
        rotate(lambda dim, length: yarn(dim, length, original=200_000)),
    ),
    "llama3": ({"scaling": {"type": "llama3", "factor": 8.0, "original_length": 64}}, rotate(llama3)),
    "llama3 with all arguments": (
        {
            "scaling": {
                "type": "llama3",
                "factor": 5.0,
                "original_length": 1000,
                "low_freq_factor": 2.0,
                "high_freq_factor": 30.0,
            }
        },
        rotate(lambda dim, length: llama3(dim, length, 5.0, 1000, 2.0, 30.0)),
    ),
    "dynamic_ntk of a given length": (
        {"scaling": {"type": "dynamic_ntk", "factor": 2.0, "original_length": 8, "length": 100}},
        rotate(lambda dim, length: dynamic_ntk(dim, 100)),
    ),
}
DYNAMIC = {"scaling": {"type": "dynamic_ntk", "factor": 2.0, "original_length": 8}}


@pytest.mark.parametrize("name", CASES)
def test_heads_turn_as_the_formula_says(name):
    """Exact also at position 100,000."""
    arguments, oracle = CASES[name]
    heads = np.random.default_rng(0).normal(size=(2, 5, 3, SIZE))
    positions = np.array([[0, 1, 7, 99, 100_003], [4, 4, 2, 65_537, 12]])
    position = RotaryEmbedding(**arguments)
    received = to_numpy(position.rotate(*tensors(heads, positions)))
    np.testing.assert_allclose(received, oracle(heads, positions), rtol=0, atol=1e-5)
    one_row = position.rotate(*tensors(heads, positions[0]))
    assert_close(one_row, oracle(heads, np.stack([positions[0]] * 2)))


@pytest.mark.parametrize("name", ["half", "share", "yarn"])
def test_gradients_are_the_turn_back(name):
    arguments, oracle = CASES[name]
    rng = np.random.default_rng(0)
    heads, upstream = rng.normal(size=(2, 2, 5, 3, SIZE))
    positions = np.arange(5) * 7
    position = RotaryEmbedding(**arguments)
    _, (gradient,) = value_and_gradients(lambda x: position.rotate(x, *tensors(positions)), [heads], upstream)
    eye = np.eye(SIZE).reshape(1, 1, SIZE, SIZE)
    turns = [oracle(eye, np.array([[p]]))[0, 0] for p in positions]  # each row: where one feature goes
    expected = np.stack([upstream[:, t] @ turn.T for t, turn in enumerate(turns)], axis=1)
    assert_close(gradient, expected)


@pytest.mark.parametrize("name", CASES)
def test_attention_is_that_of_turned_heads(name):
    arguments, oracle = CASES[name]
    assert_attention_is(lambda: RotaryEmbedding(**arguments), rotated_logits(oracle), size=SIZE)


@pytest.mark.parametrize("name", ["half", "share", "dynamic_ntk of a given length"])
def test_laws(name):
    assert_laws(lambda: RotaryEmbedding(**CASES[name][0]), shift=100_000, size=SIZE)


def test_dynamic_ntk_takes_the_length_of_each_row():
    heads = np.random.default_rng(0).normal(size=(3, 9, 2, SIZE))
    positions = np.arange(9) + np.array([[0], [-2], [40]])
    positions[1] = np.maximum(positions[1], 0)
    received = RotaryEmbedding(**DYNAMIC).rotate(*tensors(heads, positions))
    assert_close(received, rotate(dynamic_ntk)(heads, positions))
    assert_close(received[1], rotate(plain)(heads, positions)[1])  # no longer than the original length
    alone = RotaryEmbedding(**DYNAMIC).rotate(*tensors(heads[2:], positions[2]))
    assert_close(alone, received[2:])


def test_dynamic_ntk_far_out_keeps_to_distances():
    """Its frequencies have an error near 1e-7, the same at all positions: the product of two turned heads is exact."""
    position = RotaryEmbedding(**DYNAMIC)
    query, key = np.random.default_rng(0).normal(size=(2, 1, 1, 1, SIZE))
    products = []
    for places in ([99_000, 99_007, 100_000], [3, 10, 100_000]):  # the last one sets the length
        first, second = (position.rotate(*tensors(np.repeat(x, 3, 1), np.array(places))) for x in (query, key))
        products.append((to_numpy(first)[0, 0, 0] * to_numpy(second)[0, 1, 0]).sum())
    assert abs(products[0] - products[1]) < 1e-4
    oracle = rotate(dynamic_ntk)(np.repeat(query, 3, 1), np.array([places]))
    assert_close(position.rotate(*tensors(np.repeat(query, 3, 1), np.array(places)))[:, :2], oracle[:, :2])


def test_dynamic_ntk_within_the_original_length_is_plain():
    dynamic = attention_layer(RotaryEmbedding(**DYNAMIC), size=SIZE)
    original = attention_layer(RotaryEmbedding(), size=SIZE)
    x = np.random.default_rng(0).normal(size=(2, 7, WIDTH)).astype("float32")
    expected = to_numpy(original(x, x, use_causal_mask=True))
    assert_close(dynamic(x, x, use_causal_mask=True), expected)
    assert_cached_steps_are(dynamic, x, expected)
    assert_left_padding_changes_nothing(dynamic, x)


@pytest.mark.parametrize("name", ["half", "yarn with all arguments"])
def test_reduced_precision(name):
    assert_finite_in_any_policy(lambda: RotaryEmbedding(**CASES[name][0]), size=SIZE)


@pytest.mark.parametrize("name", ["yarn with all arguments"])
def test_as_a_layer(name):
    assert_is_a_layer(lambda **others: RotaryEmbedding(**CASES[name][0], **others), size=SIZE)


def test_as_a_layer_with_dynamic_ntk():
    """In graphs too, where no length is known."""
    scaling = {"type": "dynamic_ntk", "factor": 2.0, "original_length": 3}
    assert_is_a_layer(lambda **others: RotaryEmbedding(scaling=scaling, **others), size=SIZE)


@pytest.mark.parametrize("arguments", [{"rotary_dim": 0.5}, *(arguments for arguments, _ in CASES.values()), DYNAMIC])
def test_config_round_trip(arguments):
    layer = RotaryEmbedding(**arguments)
    copy = keras.saving.deserialize_keras_object(keras.saving.serialize_keras_object(layer))
    assert copy.get_config() == layer.get_config()
    assert copy.scaling == layer.scaling


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ({"max_wavelength": 0}, "`max_wavelength` must be positive.*max_wavelength=0"),
        ({"pairing": "whole"}, "`pairing` must be one of.*pairing='whole'"),
        ({"rotary_dim": 5}, "`rotary_dim` must be.*rotary_dim=5"),
        ({"rotary_dim": 0}, "`rotary_dim` must be.*rotary_dim=0"),
        ({"rotary_dim": 1.5}, "`rotary_dim` must be.*rotary_dim=1.5"),
        ({"rotary_dim": True}, "`rotary_dim` must be.*rotary_dim=True"),
        ({"scaling": "yarn"}, "`scaling` must be None or a dict.*scaling='yarn'"),
    ],
)
def test_bad_arguments(arguments, message):
    with pytest.raises(ValueError, match=message):
        RotaryEmbedding(**arguments)


@pytest.mark.parametrize(
    ("rotary_dim", "key_dim", "message"),
    [
        (None, 7, "even `key_dim`.*key_dim=7"),
        (8, 6, "`rotary_dim` must be an even number.*rotary_dim=8, key_dim=6"),
        (0.5, 6, "`rotary_dim` must be an even number.*rotary_dim=0.5, key_dim=6"),
        (0.1, 6, "`rotary_dim` must be an even number.*rotary_dim=0.1, key_dim=6"),
    ],
)
def test_heads_that_do_not_fit(rotary_dim, key_dim, message):
    with pytest.raises(ValueError, match=message):
        attention_layer(RotaryEmbedding(rotary_dim=rotary_dim), size=key_dim)
