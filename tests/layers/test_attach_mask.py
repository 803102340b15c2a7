"""AttachMask: the second input becomes the mask of the first."""

import keras
import numpy as np

from keras_tfm.layers.attach_mask import AttachMask
from tests.layers.check_layer import check_layer
from tests.numerics import mask_of, to_numpy, with_mask

B, T, D = 2, 5, 3
RNG = np.random.default_rng(0)
X = RNG.normal(size=(B, T, D)).astype("float32")
MASK = np.array([[True, True, True, False, False], [False, True, True, True, True]])


def test_the_second_input_is_the_mask_and_the_first_is_unchanged():
    output = AttachMask()([X, MASK])
    np.testing.assert_array_equal(to_numpy(output), X)
    np.testing.assert_array_equal(mask_of(output), MASK)
    np.testing.assert_array_equal(mask_of(AttachMask()([X, MASK.astype("int32")])), MASK)


def test_the_inputs_stay_as_they_are():
    x = with_mask(X, None)
    AttachMask()([x, MASK])
    assert mask_of(x) is None


def test_a_mask_that_is_there_is_kept():
    earlier = np.array([[True] * T, [True, True, False, False, True]])
    np.testing.assert_array_equal(mask_of(AttachMask()([with_mask(X, earlier), MASK])), MASK & earlier)


def test_what_follows_in_a_model_sees_the_mask():
    inputs = [keras.Input((None, D)), keras.Input((None,), dtype="bool")]
    model = keras.Model(inputs, keras.layers.GlobalAveragePooling1D()(AttachMask()(inputs)))
    received = to_numpy(model([X, MASK]))
    for row, real, vector in zip(X, MASK, received, strict=True):
        np.testing.assert_allclose(vector, row[real].mean(0), atol=1e-6)


def test_the_promises_of_every_layer():
    check_layer(AttachMask, ([X, MASK],), own_mask=MASK)
