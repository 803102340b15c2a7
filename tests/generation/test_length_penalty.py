"""The promises of the length penalties."""

import numpy as np
import pytest
from keras import ops

from keras_tfm.generation.length_penalty import length_divisors


@pytest.mark.parametrize("alpha", [0.0, 0.6, 2.0, -1.0])
@pytest.mark.parametrize(
    ("penalty", "form"), [("wu", lambda n, a: (n / 6 + 5 / 6) ** a), ("average", lambda n, a: np.exp(a * np.log(n)))]
)
def test_divisors_are_those_of_the_paper_and_the_greatest_to_come(penalty, form, alpha):
    now, later = (ops.convert_to_numpy(each) for each in length_divisors(penalty, alpha, 7))
    expected = [form(length, alpha) for length in range(1, 8)]
    np.testing.assert_allclose(now, expected, rtol=1e-6)
    np.testing.assert_allclose(later, [max(expected[i + 1 :]) for i in range(6)] + [expected[6]], rtol=1e-6)
    assert now.dtype == later.dtype == "float32"


def test_any_callable_of_lengths_and_alpha_is_a_penalty():
    now, _ = length_divisors(lambda lengths, alpha: lengths + alpha, 2.0, 3)
    np.testing.assert_array_equal(ops.convert_to_numpy(now), [3, 4, 5])


@pytest.mark.parametrize(
    "penalty", [lambda lengths, alpha: -lengths, lambda lengths, alpha: 1.0, lambda lengths, alpha: lengths * np.nan]
)
def test_divisors_are_positive_and_one_a_length(penalty):
    with pytest.raises(ValueError, match="`length_penalty` must leave .* above 0. Received: length_penalty=1.0"):
        length_divisors(penalty, 1.0, 3)
