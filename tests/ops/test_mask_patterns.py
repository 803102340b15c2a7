"""Mask patterns as values: they serialize, compare and refuse what makes no sense."""

import keras
import numpy as np
import pytest

from keras_tfm import layers, ops
from tests.numerics import assert_close, to_numpy
from tests.properties.configurations import PATTERNS


@pytest.mark.parametrize("name", PATTERNS)
def test_a_pattern_goes_through_its_config(name):
    pattern, rule = PATTERNS[name]
    copy = keras.saving.deserialize_keras_object(keras.saving.serialize_keras_object(pattern))
    assert copy == pattern
    places = np.arange(17)
    expected = [[rule(here, there) for there in places] for here in places]
    np.testing.assert_array_equal(to_numpy(copy.allows(places[:, None], places[None])), expected)


def test_a_layer_is_saved_with_its_pattern(tmp_path):
    inputs = keras.Input((None, 6))
    attention = layers.MultiHeadAttention(2, 3, attention_pattern=PATTERNS["layout"][0])
    model = keras.Model(inputs, attention(inputs, inputs))
    model.save(tmp_path / "model.keras")
    x = np.random.default_rng(0).normal(size=(2, 13, 6)).astype("float32")
    copy = keras.saving.load_model(tmp_path / "model.keras")
    assert_close(copy(x), to_numpy(model(x)))


@pytest.mark.parametrize(
    "make, message",
    [
        (lambda: ops.SlidingWindow(0), "`size` must be a positive integer. Received: size=0"),
        (lambda: ops.Dilated(2, 1.5), "`dilation` must be a positive integer. Received: dilation=1.5"),
        (lambda: ops.FirstKeys(-1), "`count` must be a positive integer"),
        (lambda: ops.BlockLayout(2, [[True], [True, False]]), "`layout` must be rows of one length"),
        (lambda: ops.Causal() & "causal", "`parts` must be mask patterns"),
        (
            lambda: layers.MultiHeadAttention(2, 3, attention_pattern="causal"),
            "`attention_pattern` must be a MaskPattern",
        ),
    ],
)
def test_what_makes_no_sense_is_refused(make, message):
    with pytest.raises(ValueError, match=message):
        make()
