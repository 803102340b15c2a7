"""MaskedMean against numpy."""

import keras
import numpy as np
import pytest

from keras_tfm.layers.attach_mask import AttachMask
from keras_tfm.layers.masked_mean import MaskedMean
from tests.layers.check_layer import check_layer
from tests.numerics import assert_close, to_numpy, value_and_gradients, with_mask

B, T, D = 3, 5, 7
RNG = np.random.default_rng(0)
X = RNG.normal(size=(B, T, D)).astype("float32")
MASK = np.array([[True, True, False, True, False], [True] * T, [False] * T])


def test_it_is_the_mean_over_real_tokens():
    expected = [X[0, [0, 1, 3]].mean(0), X[1].mean(0), np.zeros(D)]
    assert_close(MaskedMean()(X, mask=MASK), np.stack(expected))
    assert_close(MaskedMean()(with_mask(X, MASK)), np.stack(expected))
    assert_close(MaskedMean()(X), X.mean(1))


def test_a_sequence_without_real_tokens_is_zero_and_has_finite_gradients():
    value, (gradient,) = value_and_gradients(lambda x: MaskedMean()(x, mask=MASK), [X], np.ones((B, D)))
    assert not value[2].any()
    assert np.isfinite(gradient).all()
    assert not gradient[~MASK].any()


def test_padding_does_not_matter():
    other = np.where(MASK[..., None], X, 1e6).astype("float32")
    assert_close(MaskedMean()(other, mask=MASK), to_numpy(MaskedMean()(X, mask=MASK)))


def test_not_even_nan_in_padding_matters():
    other = np.where(MASK[..., None], X, np.nan).astype("float32")
    assert_close(MaskedMean()(other, mask=MASK), to_numpy(MaskedMean()(X, mask=MASK)))


def test_the_promises_of_every_layer():
    check_layer(MaskedMean, X, passes_mask=False, unused=("inputs",))


@pytest.mark.parametrize("layer", [MaskedMean, AttachMask])
def test_a_policy_is_saved_as_an_object_too(layer):
    policy = keras.dtype_policies.get("mixed_bfloat16")
    assert layer.from_config(layer(dtype=policy).get_config()).dtype_policy == policy
