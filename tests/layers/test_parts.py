"""Parts by name, layer or config, copied or shared."""

import keras
import numpy as np
import pytest

from keras_tfm.layers.activations import gelu_tanh, get_activation
from keras_tfm.layers.feed_forward import FeedForward
from keras_tfm.layers.parts import clone_initializer, clone_part, get_part, make_normalization, resolve_config
from keras_tfm.layers.scaled_initializer import ScaledInitializer
from tests.numerics import to_numpy

PARTS = {"dense": lambda: keras.layers.Dense(3)}


def test_a_part_is_a_name_a_layer_a_config_or_none():
    layer = keras.layers.Dense(5)
    assert get_part("part", None, PARTS) is None
    assert get_part("part", layer, PARTS) is layer
    assert get_part("part", "dense", PARTS).units == 3
    assert get_part("part", keras.saving.serialize_keras_object(layer), PARTS).units == 5


@pytest.mark.parametrize("value", ["conv", 3, True])
def test_anything_else_is_refused(value):
    with pytest.raises(ValueError, match=rf"`part` must be None, a layer or one of \['dense'\].*part={value!r}"):
        get_part("part", value, PARTS)


def test_a_clone_has_weights_and_a_name_of_its_own():
    layer = FeedForward(7, "gelu", name="mine")
    layer.build((None, 3))
    clone = clone_part(layer, dropout=0.5)
    assert (clone.intermediate_dim, clone.dropout, clone.built) == (7, 0.5, False)
    assert clone.name != "mine"
    assert clone_part(None) is None


def test_only_configs_are_resolved():
    assert resolve_config("rope") == "rope" and resolve_config(None) is None
    assert resolve_config(keras.saving.serialize_keras_object(keras.layers.Dense(5))).units == 5


@pytest.mark.parametrize("name", ["layer", "rms", "batch"])
def test_normalizations_by_name(name):
    norm = make_normalization(name, 0.5, "float32", "mine")
    assert (norm.epsilon, norm.name, norm.supports_masking) == (0.5, "mine", True)
    copy = make_normalization(norm, 1.0, "float16", "copy")
    assert copy is not norm and (copy.epsilon, copy.compute_dtype) == (0.5, "float16")


def test_a_normalization_must_be_named():
    with pytest.raises(ValueError, match="`normalization` must name a layer"):
        make_normalization(None, 0.5, "float32", "mine")


def test_activations_by_name_and_config():
    assert get_activation("gelu_tanh") is gelu_tanh
    assert get_activation(keras.activations.serialize(gelu_tanh)) is gelu_tanh
    assert get_activation("relu") is keras.activations.relu


def test_a_scaled_initializer_multiplies_and_survives_its_config():
    initializer = ScaledInitializer(keras.initializers.RandomNormal(seed=1), 0.25)
    expected = 0.25 * to_numpy(keras.initializers.RandomNormal(seed=1)((3, 5)))
    for each in (initializer, clone_initializer(initializer)):
        np.testing.assert_allclose(to_numpy(each((3, 5))), expected, rtol=1e-6)
    again = keras.initializers.get(keras.initializers.serialize(initializer))
    assert again.get_config() == initializer.get_config()
