"""The layer: Keras' dropout with another mask."""

import keras
import numpy as np
import pytest

from keras_tfm import layers
from tests.numerics import to_numpy


def test_it_is_keras_dropout_otherwise():
    layer = layers.Dropout(0.3, seed=1)
    assert isinstance(layer, keras.layers.Dropout)
    assert layer.get_config().keys() == keras.layers.Dropout(0.3).get_config().keys()
    x = np.ones((2, 3), "float32")
    np.testing.assert_array_equal(to_numpy(layer(x)), x)
    np.testing.assert_array_equal(to_numpy(layers.Dropout(0.0)(x, training=True)), x)


def test_a_noise_shape_is_broadcast_as_in_keras():
    dropped = to_numpy(layers.Dropout(0.5, noise_shape=(None, 1, None), seed=2)(np.ones((5, 7, 11)), training=True))
    np.testing.assert_array_equal(dropped, np.broadcast_to(dropped[:, :1], dropped.shape))
    assert {0.0, 2.0} == set(dropped.ravel().tolist())


@pytest.mark.parametrize("rate", [-0.1, 1.5])
def test_a_rate_is_a_probability(rate):
    with pytest.raises(ValueError, match="rate"):
        layers.Dropout(rate)
