"""What is hidden of targets: a uniform number of tokens, any of them alike, no padding."""

import numpy as np
import pytest

from keras_tfm.models.masked_targets import mask_targets


def test_numbers_and_places_are_uniform():
    targets = np.tile([5, 6, 7, 8, 0, 0], (20_000, 1))
    masked_ids, is_masked = mask_targets(targets, np.random.default_rng(0), mask_id=9)
    assert not is_masked[:, 4:].any()
    np.testing.assert_array_equal(masked_ids, np.where(is_masked, 9, targets))
    shares = np.bincount(is_masked.sum(1), minlength=5) / len(targets)
    np.testing.assert_allclose(shares, [0, 0.25, 0.25, 0.25, 0.25], atol=0.015)  # 5 standard deviations
    np.testing.assert_allclose(is_masked[:, :4].mean(0), 2.5 / 4, atol=0.018)


def test_padding_may_stand_anywhere_and_be_all():
    masked_ids, is_masked = mask_targets([[0, 5, 0], [0, 0, 0]], np.random.default_rng(0), mask_id=9)
    np.testing.assert_array_equal(masked_ids, [[0, 9, 0], [0, 0, 0]])
    np.testing.assert_array_equal(is_masked, [[False, True, False], [False] * 3])


@pytest.mark.parametrize("targets", [np.ones(3, int), np.ones((2, 3))])
def test_a_wrong_argument_is_named(targets):
    with pytest.raises(ValueError, match=r"`target_ids` must be integers \[B, T\]. Received: target_ids of shape"):
        mask_targets(targets, np.random.default_rng(0), 9)
