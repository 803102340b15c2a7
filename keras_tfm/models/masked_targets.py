"""Targets with a random part hidden, to train models that predict what is masked."""

import numpy as np


def mask_targets(target_ids, rng, mask_id):
    """Hides a random part of each target: of N tokens a uniform number from 1 to N, any of them alike.

    Args:
        target_ids: int `[B, T]`, padded with 0.
        rng: `numpy.random.Generator`.
        mask_id: what is written to hidden places.

    Returns:
        `(masked_ids int32 [B, T], is_masked bool [B, T])`.

    Raises:
        ValueError: `target_ids` is not an integer array `[B, T]`.

    Reference:
        Ghazvininejad et al. 2019, section 2.2.

    Example:

    >>> masked_ids, is_masked = mask_targets(np.array([[5, 6, 7, 0]]), np.random.default_rng(0), mask_id=9)
    >>> bool(is_masked.any()), bool(is_masked[0, 3]), bool((masked_ids[is_masked] == 9).all())
    (True, False, True)
    """
    target_ids = np.asarray(target_ids)
    if target_ids.ndim != 2 or not np.issubdtype(target_ids.dtype, np.integer):
        raise ValueError(
            "`target_ids` must be integers [B, T]. "
            f"Received: target_ids of shape {target_ids.shape} and dtype {target_ids.dtype}"
        )
    is_real = target_ids != 0
    num_masked = np.ceil(rng.random(len(target_ids)) * is_real.sum(1))  # 0 only where there is no token
    num_masked = np.where(is_real.any(1), np.maximum(num_masked, 1), 0)
    draws = np.where(is_real, rng.random(target_ids.shape), 2.0)
    is_masked = draws.argsort(1).argsort(1) < num_masked[:, None]
    return np.where(is_masked, mask_id, target_ids).astype("int32"), is_masked
