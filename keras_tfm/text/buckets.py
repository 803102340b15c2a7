"""Which sentences share a batch: few widths with little padding, and a number of rows fixed by the width."""

from typing import NamedTuple

import numpy as np

_MOST_EDGES = 512


class Buckets(NamedTuple):
    """Sentences sorted into buckets of like length; every batch of a bucket has the same shape.

    Args:
        members: tuple of int arrays, the sentences of each bucket, from the narrowest to the widest bucket.
        widths: int array `[buckets, streams]`, the padded length of each stream.
        rows: int array `[buckets]`, the number of rows of a batch.
    """

    members: tuple
    widths: np.ndarray
    rows: np.ndarray

    def deal(self, rng=None):
        """Deals the sentences into the batches of one epoch.

        What does not fill a batch of its bucket moves on to the next wider one, so that only the last batch of the
        widest bucket has empty rows, and the number of batches is the same in every epoch.

        Args:
            rng: `numpy.random.Generator` that shuffles; `None` keeps the order.

        Returns:
            A list of `(bucket, rows)`; `rows` is an int array with -1 for an empty row. The first two are of the
            narrowest and of the widest bucket in use: from two batches TensorFlow learns which lengths vary, and a
            memory too small for the widest shows at once.
        """
        batches, waiting = [], np.zeros(0, np.int64)
        for bucket, (members, rows) in enumerate(zip(self.members, self.rows, strict=True)):
            pool = np.concatenate([waiting, members])
            pool = pool if rng is None else rng.permutation(pool)
            if bucket == len(self.members) - 1:
                pool = np.append(pool, np.full(-len(pool) % rows, -1))
            full = len(pool) // rows * rows
            batches += [(bucket, batch) for batch in pool[:full].reshape(-1, rows)]
            waiting = pool[full:]
        if rng is not None:
            batches = [batches[index] for index in rng.permutation(len(batches))]
        return _open_with_extremes(batches)


def sort_into_buckets(lengths, widths, tokens_per_batch, *, row_multiple=8):
    """Sorts sentences into the narrowest bucket that holds all their streams.

    Args:
        lengths: int array `[sentences, streams]`.
        widths: int array `[buckets, streams]`, not falling from bucket to bucket; the last one holds every sentence.
        tokens_per_batch: int, rows times the widest stream of a batch are at most this.
        row_multiple: int, batches of at least so many rows have a multiple of it. Defaults to `8`.

    Returns:
        `Buckets`, the empty ones left out.
    """
    fits = [np.searchsorted(widths[:, stream], lengths[:, stream]) for stream in range(lengths.shape[1])]
    bucket_of = np.max(fits, axis=0)
    used = np.unique(bucket_of)
    rows = tokens_per_batch // widths[used].max(axis=1)
    rows = np.where(rows >= row_multiple, rows // row_multiple * row_multiple, rows)
    rows = np.minimum(rows, _round_up(len(lengths), row_multiple))
    return Buckets(tuple(np.flatnonzero(bucket_of == bucket) for bucket in used), widths[used], rows)


def fit_widths(lengths, num_widths, *, width_multiple=1, max_length=None):
    """Chooses the padded lengths of every bucket and stream.

    Args:
        lengths: int array `[sentences, streams]`.
        num_widths: int, the most buckets to use.
        width_multiple: int, each width is a multiple of it, `max_length` excepted. Defaults to `1`.
        max_length: int or `None`, no width is larger.

    Returns:
        An int array `[buckets, streams]` for `sort_into_buckets`.
    """
    longest = lengths.max(axis=1)
    limits = np.array(choose_widths(longest, num_widths, width_multiple=width_multiple, max_length=max_length))
    bucket_of = np.searchsorted(limits, longest)
    widths = np.stack([lengths[bucket_of == bucket].max(axis=0) for bucket in range(len(limits))])
    widths = np.minimum(_round_up(widths, width_multiple), limits[:, None])
    # Never narrower than the bucket before, whose sentences may move up.
    return np.maximum.accumulate(widths, axis=0)


def choose_widths(lengths, num_widths, *, width_multiple=1, max_length=None):
    """Chooses the widths that waste the least padding, by dynamic programming over the lengths that occur.

    Args:
        lengths: int array `[sentences]`.
        num_widths: int, the most widths to use.
        width_multiple: int, each width is a multiple of it, `max_length` excepted. Defaults to `1`.
        max_length: int or `None`, no width is larger.

    Returns:
        A tuple of increasing ints; the last one holds the longest sentence.

    Example:

    >>> import numpy as np
    >>> from keras_tfm.text.buckets import choose_widths
    >>> choose_widths(np.array([3, 3, 4, 9, 10, 40]), num_widths=3)
    (4, 10, 40)
    """
    # The table below is square in the number of distinct lengths: coarser steps for very long texts.
    width_multiple *= -(-int(np.max(lengths)) // (width_multiple * _MOST_EDGES))
    padded = _round_up(np.asarray(lengths), width_multiple)
    edges, counts = np.unique(padded if max_length is None else np.minimum(padded, max_length), return_counts=True)
    before = np.concatenate([[0], np.cumsum(counts)])
    first, last = np.arange(len(edges) + 1)[:, None], np.arange(len(edges))[None, :]
    # cost[i, j]: padded tokens if the lengths of number i to j share one bucket.
    cost = np.where(first <= last, edges[last] * (before[last + 1] - before[first]), np.inf)
    best = np.where(np.arange(len(edges) + 1) == 0, 0.0, np.inf)
    cuts = []
    for _ in range(min(num_widths, len(edges))):
        total = best[:, None] + cost
        cuts.append(total.argmin(axis=0))
        best = np.append(np.inf, total.min(axis=0))
    widths, end = [], len(edges)
    for cut in reversed(cuts):
        widths.append(int(edges[end - 1]))
        end = cut[end - 1]
    return tuple(reversed(widths))


def _round_up(number, multiple):
    return -(-number // multiple) * multiple


def _open_with_extremes(batches):
    buckets = [bucket for bucket, _ in batches]
    first, second = buckets.index(min(buckets)), buckets.index(max(buckets))
    rest = [batch for index, batch in enumerate(batches) if index not in (first, second)]
    return [batches[first], *([batches[second]] if second != first else []), *rest]
