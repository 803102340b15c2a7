"""Which sequences share a row, so that rows are full."""

import numpy as np


def pack(lengths, capacity):
    """Packs sequences into few rows of a fixed length: best fit decreasing.

    The longest come first, and each goes into the fullest row that still holds it. All of one length are placed at
    once, so that the work grows with the number of distinct lengths and rows, not with the square of the sequences.
    Sequences of several streams, such as source and target, share a row if every stream fits.

    Args:
        lengths: int array `[sequences]`, or `[sequences, streams]`.
        capacity: int, the length of a row, or one int a stream.

    Returns:
        A list of int arrays, the sequences of each row. Every sequence is in one row. The number of rows depends on
        how often each length occurs, not on the order.

    Raises:
        ValueError: lengths that are not positive, shapes that do not fit, or a sequence that is longer than a row.

    Reference:
        Johnson 1974, "Fast Algorithms for Bin Packing" (best fit decreasing needs at most 11/9 of the fewest rows, and
        4 more); Krell et al. 2021, "Efficient Sequence Packing without Cross-contamination", section 3.1 (by histogram
        of lengths).

    Example:

    >>> from keras_tfm.text import pack
    >>> [row.tolist() for row in pack([5, 3, 2, 6, 4], capacity=10)]
    [[3, 4], [0, 1, 2]]
    """
    lengths, capacity = _check(lengths, capacity)
    if not len(lengths):
        return []
    kinds, kind_of, counts = np.unique(lengths, axis=0, return_inverse=True, return_counts=True)
    row_of_place = np.empty(len(lengths), np.int64)
    by_kind = np.argsort(kind_of.reshape(-1), kind="stable")
    ends = np.cumsum(counts)
    shares = kinds / capacity
    remaining = np.zeros((0, len(capacity)), np.int64)
    for kind in np.lexsort((-shares.sum(axis=1), -shares.max(axis=1))):
        rows, remaining = _place(remaining, kinds[kind], int(counts[kind]), capacity)
        row_of_place[ends[kind] - counts[kind] : ends[kind]] = rows
    by_row = np.lexsort((by_kind, row_of_place))
    return np.split(by_kind[by_row], np.flatnonzero(np.diff(row_of_place[by_row])) + 1)


def _place(remaining, length, count, capacity):
    """Places sequences of one length.

    Args:
        remaining: int array `[rows, streams]`, the space left.
        length: int array `[streams]`.
        count: int, how many there are.
        capacity: int array `[streams]`.

    Returns:
        The row of each, and the space that is left then, with new rows at the end.
    """
    fitting = np.flatnonzero((remaining >= length).all(axis=1))
    # A row is filled before the next emptier one: what is taken from it makes it the fullest that fits.
    fitting = fitting[np.argsort((remaining[fitting] / capacity).sum(axis=1), kind="stable")]
    room = (remaining[fitting] // length).min(axis=1)
    room_of_new = int((capacity // length).min())
    num_new = max(-(-(count - int(room.sum())) // room_of_new), 0)
    rows = np.concatenate([fitting, len(remaining) + np.arange(num_new)])
    rows = np.repeat(rows, np.concatenate([room, np.full(num_new, room_of_new)]))[:count]
    remaining = np.concatenate([remaining, np.tile(capacity, (num_new, 1))])
    return rows, remaining - np.bincount(rows, minlength=len(remaining))[:, None] * length


def _check(lengths, capacity):
    lengths, capacity = np.asarray(lengths), np.atleast_1d(np.asarray(capacity))
    lengths = lengths[:, None] if lengths.ndim == 1 else lengths
    is_whole = all(not each.size or np.issubdtype(each.dtype, np.integer) for each in (lengths, capacity))
    if lengths.ndim != 2 or not is_whole or (lengths < 1).any():
        raise ValueError(
            "`lengths` must be positive ints, [sequences] or [sequences, streams]. "
            f"Received: lengths of shape {lengths.shape}, dtype {lengths.dtype}, from {lengths.min(initial=1)}"
        )
    if capacity.shape != lengths.shape[1:] or (capacity < 1).any():
        raise ValueError(
            f"`capacity` must be one positive int for each of {lengths.shape[1]} streams. "
            f"Received: capacity={capacity.tolist()}"
        )
    is_long = (lengths > capacity).any(axis=1)
    if is_long.any():
        index = int(is_long.argmax())
        raise ValueError(
            "no sequence may be longer than a row, `capacity`. "
            f"Received: capacity={_plain(capacity)}; sequence {index} of length {_plain(lengths[index])}, "
            f"{int(is_long.sum())} such sequences of {len(lengths)}"
        )
    return lengths.astype(np.int64), capacity.astype(np.int64)


def _plain(values):
    return int(values[0]) if len(values) == 1 else values.tolist()
