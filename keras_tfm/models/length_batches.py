"""Batches of sequences of like length, in few shapes, so that few programs are compiled."""

import numpy as np

from keras_tfm.generation.step_protocol import check_integer


def round_up(number):
    """The smallest of 1, 2, 3, 4, 6, 8, 12, 16, 24, ... that is at least `number`: few sizes, little padding.

    Example:

    >>> [round_up(number) for number in (1, 5, 9, 17, 33)]
    [1, 6, 12, 24, 48]
    """
    power = 1 << max(int(number) - 1, 0).bit_length()
    return power * 3 // 4 if power >= 4 and number <= power * 3 // 4 else power


def bucket_width(length, multiple=8):
    """The padded length of sequences of `length`: `multiple` times 1, 2, 3, 4, 6, 8, 12, ..."""
    return multiple * round_up(-(-max(int(length), 1) // multiple))


def batches_by_length(lengths, tokens_per_batch=4096, batch_size=None, multiple=8):
    """Which sequences share a batch: those of one `bucket_width`, shortest first.

    A sequence's width depends on its own length alone, and all batches of a width have the same number of rows: the
    last is filled with copies of its first row.

    Args:
        lengths: B Python integers.
        tokens_per_batch: rows times width of a batch are at most this, but a batch has one row at least.
        batch_size: the most rows of a batch; `None` leaves it to `tokens_per_batch`.
        multiple: widths are multiples of it.

    Returns:
        list of `(width, rows, num_real)`: Python integer; int array; how many of the rows are no copies.

    Raises:
        ValueError: a size that is no integer of at least 1.

    Example:

    >>> batches_by_length([3, 9, 5, 4], batch_size=2)
    [(8, array([0, 2]), 2), (8, array([3, 3]), 1), (16, array([1]), 1)]
    """
    check_integer("tokens_per_batch", tokens_per_batch, minimum=1)
    if batch_size is not None:
        check_integer("batch_size", batch_size, minimum=1)
    widths = np.array([bucket_width(length, multiple) for length in lengths], "int64")
    batches = []
    for width in np.unique(widths).tolist():
        members = np.flatnonzero(widths == width)
        most = max(tokens_per_batch // width, 1) if batch_size is None else batch_size
        most = min(most, max(tokens_per_batch // width, 1))
        num_batches = -(-len(members) // most)
        size = min(most, round_up(-(-len(members) // num_batches)))
        for start in range(0, len(members), size):
            rows = members[start : start + size]
            batches.append((width, np.append(rows, np.full(size - len(rows), rows[0])), len(rows)))
    return batches
