"""There by a matrix, back by its transpose."""

import keras
import numpy as np

from keras_tfm.layers.reversible_projection import ReversibleProjection
from tests.layers.check_layer import check_layer
from tests.numerics import assert_close, randomize, to_numpy

X = np.random.default_rng(0).normal(size=(2, 5, 3)).astype("float32")


def test_there_and_back():
    layer = ReversibleProjection(7)
    layer.build((None, None, 3))
    randomize(layer)
    kernel, bias = to_numpy(layer.kernel), to_numpy(layer.bias)
    there = X @ kernel + bias
    assert_close(layer(X), there)
    assert_close(layer(there.astype("float32"), reverse=True), there @ kernel.T)
    assert layer(keras.KerasTensor((None, 4, 7)), reverse=True).shape == (None, 4, 3)


def test_it_keeps_the_promises_of_all_layers():
    check_layer(lambda **options: ReversibleProjection(7, **options), X)
