"""Rows taken from others and put back: each is the other's gradient."""

import keras
import numpy as np

from keras_tfm import backend
from tests.numerics import assert_close, value_and_gradients

RNG = np.random.default_rng(0)
PLACES, COUNT = np.array([4, 0, 3]), 6
MANY, FEW = RNG.normal(size=(COUNT, 2, 5)).astype("float32"), RNG.normal(size=(3, 2, 5)).astype("float32")


def spread(rows):
    result = np.zeros((COUNT, *rows.shape[1:]))
    result[PLACES] = rows
    return result


def test_rows_are_taken_and_their_gradient_is_spread():
    places = keras.ops.convert_to_tensor(PLACES)
    value, (gradient,) = value_and_gradients(lambda x: backend.take_rows(x, places), [MANY], FEW)
    assert_close(value, MANY[PLACES])
    assert_close(gradient, spread(FEW))


def test_rows_are_spread_and_their_gradient_is_taken():
    places = keras.ops.convert_to_tensor(PLACES)
    value, (gradient,) = value_and_gradients(lambda x: backend.spread_rows(x, places, COUNT), [FEW], MANY)
    assert_close(value, spread(FEW))
    assert_close(gradient, MANY[PLACES])
