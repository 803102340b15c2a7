"""Sinusoidal positions: layouts, wavelengths, and numbers that are right far out and in every policy."""

import math

import keras
import numpy as np
import pytest
from keras import ops

from keras_tfm.layers import PositionalEmbedding
from keras_tfm.layers.sine_position_encoding import SinePositionEncoding
from tests.layers.check_layer import check_layer
from tests.numerics import assert_close, to_numpy

FAR = np.array([0, 1, 999, 1000, 4095, 4096, 65_536, 99_999, 100_000, 1_000_003])


def encoding(position, dim, layout="interleaved", endpoint=False, longest=10_000):
    """One row, feature by feature: Vaswani et al. 2017 section 3.5, and tensor2tensor's spacing of the wavelengths."""
    pairs = dim // 2
    row = np.zeros(dim)
    for i in range(dim):
        if layout == "interleaved":
            pair, wave = i // 2, math.cos if i % 2 else math.sin
        else:
            sines = pairs if endpoint else dim - pairs
            pair, wave = (i, math.sin) if i < sines else (i - sines, math.cos)
        if endpoint and i >= 2 * pairs:
            continue  # tensor2tensor pads an odd width with zero
        exponent = pair / max(pairs - 1, 1) if endpoint else 2 * pair / dim
        row[i] = wave(position / longest**exponent)
    return row


LAYOUTS = [(layout, endpoint) for layout in ("interleaved", "concatenated") for endpoint in (False, True)]


@pytest.mark.parametrize("dim", [2, 3, 7, 16])
@pytest.mark.parametrize("layout, endpoint", LAYOUTS)
def test_the_table_is_the_papers_far_beyond_any_training_length(layout, endpoint, dim):
    layer = SinePositionEncoding(layout=layout, endpoint=endpoint)
    received = to_numpy(layer(np.zeros((len(FAR), dim), "float32"), positions=FAR))
    expected = np.stack([encoding(position, dim, layout, endpoint) for position in FAR])
    np.testing.assert_allclose(received, expected, rtol=0, atol=2e-6)


def test_the_layouts_have_the_same_features():
    x = np.zeros((1, 9, 7), "float32")
    interleaved, concatenated = (
        to_numpy(SinePositionEncoding(layout=each)(x)) for each in ("interleaved", "concatenated")
    )
    assert_close(concatenated, np.concatenate([interleaved[..., 0::2], interleaved[..., 1::2]], axis=-1))


@pytest.mark.parametrize("max_wavelength", [100, 12_345.6])
def test_the_longest_wavelength(max_wavelength):
    layer = SinePositionEncoding(max_wavelength, endpoint=True)
    row = to_numpy(layer(np.zeros((1, 8), "float32"), positions=np.array([50])))[0]
    assert_close(row[-2:], np.array([math.sin(50 / max_wavelength), math.cos(50 / max_wavelength)]))


def test_explicit_positions_and_start_index():
    layer, x = SinePositionEncoding(), np.zeros((2, 5, 6), "float32")
    table = np.stack([encoding(position, 6) for position in range(40)])
    assert_close(layer(x), np.stack([table[:5]] * 2))
    assert_close(layer(x, start_index=3), np.stack([table[3:8]] * 2))
    assert_close(layer(x, start_index=ops.convert_to_tensor(3)), np.stack([table[3:8]] * 2))
    assert_close(layer(x, positions=np.array([7, 0, 0, 31, 2])), np.stack([table[[7, 0, 0, 31, 2]]] * 2))
    rows = np.array([[7, 0, 0, 31, 2], [1, 2, 3, 4, 39]])
    assert_close(layer(x, positions=rows), table[rows])
    embedding = PositionalEmbedding(11, 20, 6, position=SinePositionEncoding(layout="concatenated"))
    ids = np.full((2, 5), 3)
    difference = to_numpy(embedding(ids, positions=rows)) - to_numpy(embedding.token_embedding(ids))
    expected = np.stack([[encoding(position, 6, "concatenated") for position in row] for row in rows])
    assert_close(difference, expected)


def test_positions_that_are_not_whole():
    layer = SinePositionEncoding()
    places = np.array([0.5, 3.25, 1000.125, 4097.5], "float32")
    received = layer(np.zeros((4, 6), "float32"), positions=places)
    assert_close(received, np.stack([encoding(float(position), 6) for position in places]), factor=20)


@pytest.mark.parametrize("policy", ["bfloat16", "mixed_bfloat16", "float16"])
def test_reduced_precision_rounds_only_the_result(policy):
    """Far rows stay distinct: each is what float64 gives, rounded once."""
    dtype = keras.dtype_policies.get(policy).compute_dtype
    positions = np.concatenate([np.arange(1000), np.arange(1000) + 100_000])
    layer = SinePositionEncoding(dtype=policy)
    received = layer(np.zeros((2000, 16), "float32"), positions=positions)
    assert keras.backend.standardize_dtype(received.dtype) == dtype
    expected = np.stack([encoding(position, 16) for position in positions])
    rounded = to_numpy(ops.cast(ops.convert_to_tensor(expected, "float32"), dtype))
    received = to_numpy(received)
    assert (received != rounded).mean() < 1e-3  # where float64 lies between two numbers, an error of 1e-7 decides
    assert np.abs(received - expected).max() < {"bfloat16": 2**-8, "float16": 2**-11}[dtype] + 1e-6
    assert len(np.unique(received, axis=0)) == len(np.unique(rounded, axis=0)) == 2000


def test_positions_that_come_as_floats_are_not_rounded():
    inputs, places = keras.Input((None, 6)), keras.Input((None,))
    layer = SinePositionEncoding(dtype="mixed_bfloat16")
    model = keras.Model([inputs, places], layer(inputs, positions=places))
    received = model([np.zeros((1, 2, 6), "float32"), np.array([[1001.0, 1002.0]], "float32")])
    expected = np.stack([encoding(position, 6) for position in (1001, 1002)])[None]
    assert_close(received, expected, "bfloat16", factor=0.1)


@pytest.mark.parametrize("layout, endpoint", LAYOUTS)
def test_as_a_layer(layout, endpoint):
    x = np.zeros((2, 5, 7), "float32")
    keywords = {"positions": np.array([[3, 1, 4, 1, 5], [9, 2, 6, 5, 3]], "int32")}
    check_layer(lambda **others: SinePositionEncoding(layout=layout, endpoint=endpoint, **others), x)
    check_layer(lambda **others: SinePositionEncoding(layout=layout, endpoint=endpoint, **others), x, keywords=keywords)


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ({"max_wavelength": -1}, "`max_wavelength` must be positive.*max_wavelength=-1"),
        ({"layout": "sines"}, "`layout` must be one of.*layout='sines'"),
    ],
)
def test_bad_arguments(arguments, message):
    with pytest.raises(ValueError, match=message):
        SinePositionEncoding(**arguments)
