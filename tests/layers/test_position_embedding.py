"""Learned positions: looked up, and stretched over inputs that are longer than the table."""

import numpy as np
import pytest
from keras import ops

from keras_tfm.layers import PositionalEmbedding
from keras_tfm.layers.position_embedding import PositionEmbedding
from tests.layers.check_layer import check_layer
from tests.layers.on_backend import weight_gradients
from tests.numerics import assert_close, randomize, to_numpy

ROWS, DIM = 5, 3


def built(**arguments):
    layer = PositionEmbedding(ROWS, **arguments)
    layer.build((None, None, DIM))
    return randomize(layer)


def stretched(table, length):
    """`numpy.interp`, feature by feature: `length` rows from the first row of the table to its last."""
    places = np.linspace(0, len(table) - 1, length)
    return np.stack([np.interp(places, np.arange(len(table)), column) for column in table.T], axis=-1)


@pytest.mark.parametrize("length", [6, 7, 9, 13, 100])
def test_longer_inputs_see_the_table_stretched(length):
    layer = built(interpolation="linear")
    table = to_numpy(layer.position_embeddings)
    received = layer(np.zeros((2, length, DIM), "float32"))
    assert_close(received, np.stack([stretched(table, length)] * 2))
    assert_close(received[:, 0], np.stack([table[0]] * 2))
    assert_close(received[:, -1], np.stack([table[-1]] * 2))


@pytest.mark.parametrize("interpolation", [None, "linear"])
@pytest.mark.parametrize("length", [1, 4, 5])
def test_inputs_that_fit_see_the_table_itself(interpolation, length):
    layer = built(interpolation=interpolation)
    table = to_numpy(layer.position_embeddings)
    x = np.zeros((2, length, DIM), "float32")
    np.testing.assert_array_equal(to_numpy(layer(x)), np.stack([table[:length]] * 2))
    if length < ROWS:
        np.testing.assert_array_equal(to_numpy(layer(x, start_index=1)), np.stack([table[1 : length + 1]] * 2))


def test_explicit_positions():
    layer, x = built(), np.zeros((2, 4, DIM), "float32")
    table = to_numpy(layer.position_embeddings)
    for places in (np.array([4, 0, 0, 2]), np.array([[4, 0, 0, 2], [1, 1, 3, 0]])):
        assert_close(layer(x, positions=places), np.broadcast_to(table[places], (2, 4, DIM)))


def test_each_row_of_explicit_positions_has_its_own_length():
    """A row that is padded on the left is stretched as it would be alone, one that fits is not stretched."""
    layer = built(interpolation="linear")
    table = to_numpy(layer.position_embeddings)
    places = np.array([np.arange(9), np.maximum(np.arange(9) - 2, 0), np.maximum(np.arange(9) - 6, 0)])
    received = to_numpy(layer(np.zeros((3, 9, DIM), "float32"), positions=places))
    assert_close(received[0], stretched(table, 9))
    assert_close(received[1, 2:], stretched(table, 7))
    assert_close(received[2, 6:], table[:3])


def test_a_later_start_counts_as_length():
    layer = built(interpolation="linear")
    x = np.zeros((1, 3, DIM), "float32")
    expected = stretched(to_numpy(layer.position_embeddings), 9)[None, 6:]
    assert_close(layer(x, start_index=6), expected)
    assert_close(layer(x, start_index=ops.convert_to_tensor(6)), expected)


def test_one_row_serves_all_positions():
    layer = PositionEmbedding(1, "ones", interpolation="linear")
    assert_close(layer(np.zeros((2, 4, DIM), "float32")), np.ones((2, 4, DIM)))


def test_gradients_of_a_stretched_table():
    layer = built(interpolation="linear")
    x = ops.zeros((2, 9, DIM))
    (gradient,) = weight_gradients(layer, (x,), {}, {})
    upstream = np.random.default_rng(7).normal(size=(2, 9, DIM)).sum(0)
    shares = stretched(np.eye(ROWS), 9)
    assert_close(gradient, shares.T @ upstream)


def test_in_a_positional_embedding():
    layer = PositionalEmbedding(11, ROWS, DIM, position=PositionEmbedding(ROWS, interpolation="linear"))
    ids = np.full((2, 8), 3)
    difference = to_numpy(layer(ids)) - to_numpy(layer.token_embedding(ids))
    assert_close(difference[0], stretched(to_numpy(layer.position_embedding.position_embeddings), 8))


@pytest.mark.parametrize("policy", ["mixed_bfloat16", "bfloat16"])
def test_reduced_precision_blends_in_float32(policy):
    layer = built(interpolation="linear", dtype=policy)
    table = to_numpy(layer.position_embeddings)
    expected = stretched(table, 777)
    received = to_numpy(layer(np.zeros((1, 777, DIM), "float32")))[0]
    assert np.abs(received - expected).max() <= np.abs(expected).max() * 2**-8


@pytest.mark.parametrize("interpolation, length", [(None, 5), ("linear", 5), ("linear", 9)])
def test_as_a_layer(interpolation, length):
    x = np.zeros((2, length, DIM), "float32")
    check_layer(lambda **others: PositionEmbedding(ROWS, interpolation=interpolation, **others), x)


def test_inputs_longer_than_the_table_are_refused_without_interpolation():
    layer = built()
    message = r"Positions must be in \[0, sequence_length\).*positions from {} to {}, sequence_length=5"
    for arguments, span in (
        ({}, (0, 5)),
        ({"start_index": 2}, (2, 7)),
        ({"positions": np.array([0, 1, 2, 3, 4, 9])}, (0, 9)),
    ):
        with pytest.raises(ValueError, match=message.format(*span)):
            layer(np.zeros((1, 6, DIM), "float32"), **arguments)


def test_negative_positions_are_refused():
    for interpolation in (None, "linear"):
        with pytest.raises(ValueError, match="Positions must be.*from -1 to 3"):
            built(interpolation=interpolation)(np.zeros((1, 2, DIM), "float32"), positions=np.array([-1, 3]))


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ({"sequence_length": 0}, "`sequence_length` must be a positive integer.*sequence_length=0"),
        ({"sequence_length": 3, "interpolation": "cubic"}, "`interpolation` must be one of.*interpolation='cubic'"),
    ],
)
def test_bad_arguments(arguments, message):
    with pytest.raises(ValueError, match=message):
        PositionEmbedding(**arguments)
