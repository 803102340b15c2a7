"""TokenDropout: what it replaces, how often, and when not."""

import keras
import numpy as np
import pytest

from keras_tfm.layers.token_dropout import TokenDropout
from tests.layers.check_layer import check_layer
from tests.numerics import mask_of, to_numpy, with_mask

IDS = np.random.default_rng(0).integers(4, 99, (64, 50)).astype("int32")
IDS[:, 40:] = 0


def test_ids_are_replaced_at_the_rate_and_padding_never():
    output = to_numpy(TokenDropout(0.3, unknown_id=2, seed=1)(IDS, training=True))
    replaced = output != IDS
    assert (output[replaced] == 2).all()
    assert not replaced[:, 40:].any()
    assert abs(replaced[:, :40].mean() - 0.3) < 4 * np.sqrt(0.3 * 0.7 / (64 * 40))


def test_nothing_is_replaced_outside_of_training():
    layer = TokenDropout(0.9)
    np.testing.assert_array_equal(to_numpy(layer(IDS)), IDS)
    np.testing.assert_array_equal(to_numpy(layer(IDS, training=False)), IDS)
    np.testing.assert_array_equal(to_numpy(TokenDropout(0.0)(IDS, training=True)), IDS)


def test_a_seed_fixes_the_draws_and_each_call_draws_anew():
    first, second = TokenDropout(0.5, seed=7), TokenDropout(0.5, seed=7)
    draws = [to_numpy(layer(IDS, training=True)) for layer in (first, second, first)]
    np.testing.assert_array_equal(draws[0], draws[1])
    assert (draws[0] != draws[2]).any()


def test_the_mask_and_the_dtype_stay():
    mask = IDS != 0
    output = TokenDropout(0.5)(with_mask(IDS, mask), training=True)
    np.testing.assert_array_equal(mask_of(output), mask)
    assert keras.backend.standardize_dtype(output.dtype) == "int32"


@pytest.mark.parametrize("rate", [-0.1, 1.0])
def test_a_rate_outside_of_its_range_is_refused(rate):
    with pytest.raises(ValueError, match=rf"`rate` must be in \[0, 1\).*rate={rate}"):
        TokenDropout(rate)


def test_the_promises_of_every_layer():
    def make(**arguments):
        return TokenDropout(0.5, seed=3, **arguments)

    check_layer(make, IDS[:3])
