"""The promises of the checks of numbers."""

import numpy as np
import pytest

from keras_tfm.generation.number_checks import check_number, check_positive


@pytest.mark.parametrize("value", [0, 0.5, 1, np.float32(0.25), np.int64(1)])
def test_numbers_within_the_range_become_floats(value):
    assert type(check_number("p", value, 0, 1)) is float
    assert check_number("p", value, 0, 1) == value


@pytest.mark.parametrize("value", [None, "1", True, float("nan"), float("inf"), -0.1, 1.1, 1j])
def test_anything_else_is_named(value):
    with pytest.raises(ValueError, match="`p` must be a finite number from 0 to 1. Received: p="):
        check_number("p", value, 0, 1)


def test_the_message_tells_the_bounds_there_are():
    with pytest.raises(ValueError, match="`p` must be a finite number. Received: p=None"):
        check_number("p", None)
    with pytest.raises(ValueError, match="`p` must be a finite number of at least 2. Received: p=1"):
        check_number("p", 1, minimum=2)
    with pytest.raises(ValueError, match="`p` must be a finite number of at most 2. Received: p=3"):
        check_number("p", 3, maximum=2)


@pytest.mark.parametrize("value", [0, -1, None, False, True, float("inf"), float("nan")])
def test_what_is_not_positive_is_named(value):
    with pytest.raises(ValueError, match=f"`p` must be a finite number greater than 0. Received: p={value}"):
        check_positive("p", value)
    assert check_positive("p", 2) == 2.0
