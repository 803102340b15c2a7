"""Prompts of different lengths as one array, so that few programs serve all of them."""

from typing import NamedTuple

import numpy as np


class Prompts(NamedTuple):
    """Prompts that all end in the last column.

    Args:
        tokens: int32 `[B, P]`, padding on the left.
        starts: int32 `[B]`, the column of each prompt's first token.
    """

    tokens: np.ndarray
    starts: np.ndarray

    @property
    def lengths(self):
        """int32 `[B]`, how many tokens each prompt has."""
        return self.tokens.shape[1] - self.starts


def align_prompts(prompts, padding_mask=None, pad_id=0, multiple=16):
    """Prompts as lists or as an array, padded left or right, aligned to the right.

    Args:
        prompts: a sequence of B sequences of ids, or an int array `[B, P]`.
        padding_mask: bool `[B, P]`, True at real tokens, for an array with padding: on the left, on the right or
            anywhere. Without it every id of an array is real, whatever it is.
        pad_id: what is written to the padding.
        multiple: P becomes a multiple of it.

    Returns:
        `Prompts`.

    Raises:
        ValueError: there is no prompt, one is empty, ids are no integers, or the mask does not fit.

    Example:

    >>> align_prompts([[5, 6, 7], [8]], multiple=4)
    Prompts(tokens=array([[0, 5, 6, 7],
           [0, 0, 0, 8]], dtype=int32), starts=array([1, 3], dtype=int32))
    """
    rows = _rows(prompts, padding_mask)
    lengths = np.array([len(row) for row in rows], "int32")
    if not rows or not lengths.all():
        raise ValueError(
            f"`prompts` must hold at least one prompt, and none may be empty. Received: lengths {lengths.tolist()}"
        )
    longest = int(lengths.max())
    width = longest + -longest % multiple
    tokens = np.full((len(rows), width), pad_id, "int32")
    for row, target in zip(rows, tokens, strict=True):
        target[width - len(row) :] = row
    return Prompts(tokens, width - lengths)


def _rows(prompts, padding_mask):
    rows = [np.asarray(row) for row in prompts]
    for row in rows:
        if row.ndim != 1 or (row.size and not np.issubdtype(row.dtype, np.integer)):
            raise ValueError(
                "`prompts` must be sequences of integer ids, one for each text, or an array [B, P]. "
                f"Received: a prompt of shape {row.shape} and dtype {row.dtype}"
            )
    if padding_mask is None:
        return rows
    mask = np.asarray(padding_mask)
    if mask.dtype != bool or mask.shape != (len(rows), *(rows[0].shape if rows else ())):
        raise ValueError(
            "`padding_mask` must be bool [B, P], as `prompts`. "
            f"Received: padding_mask of shape {mask.shape} and dtype {mask.dtype}, {len(rows)} prompts"
        )
    return [row[real] for row, real in zip(rows, mask, strict=True)]
