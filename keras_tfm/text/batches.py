"""Batches of like length under a token budget."""

import warnings
from collections.abc import Mapping
from typing import NamedTuple

import numpy as np

from keras_tfm.text.buckets import fit_widths, sort_into_buckets
from keras_tfm.text.ragged import RaggedArray
from keras_tfm.text.resumable import ResumableDataset


class BatchStatistics(NamedTuple):
    """What the batches of one epoch are made of.

    Args:
        num_sentences: int, sentences an epoch.
        num_batches: int, batches an epoch.
        num_shapes: int, distinct shapes; JAX compiles the training step once for each.
        padding_share: float in [0, 1], padding among the numbers of all streams.
        tokens_per_batch: float, tokens of all streams in a batch without the padding, on average.
    """

    num_sentences: int
    num_batches: int
    num_shapes: int
    padding_share: float
    tokens_per_batch: float


class SequenceBatches(ResumableDataset):
    """Cuts sequences into batches of few shapes and little padding; `fit` and `predict` take it on every backend.

    Sentences of like length share a bucket, and a batch has as many rows as `tokens_per_batch` allows at the widths
    of its bucket. Sentences that do not fill a batch move to the next wider bucket; what is left in the widest is
    filled up with rows of padding, which weigh nothing in a loss that ignores padding. So there are at most
    `num_widths` shapes, and every sentence comes exactly once an epoch. See `ResumableDataset` for the order.

    Args:
        streams: dict from input name to a list of lists of ints, one list a sentence.
        tokens_per_batch: int, the most tokens of a batch: rows times the widest stream, padding included. Defaults to
            `4096`.
        pad_id: int, id of the padding. Defaults to `0`.
        vocabulary_size: int, or dict from input name to int; ids outside are refused. `None` (default) checks nothing.
        max_length: int or `None`, the longest padded width, for example the length of a position table.
        too_long: `"error"` (default) or `"drop"`, what to do with sentences longer than `max_length`; dropping says
            so in a `UserWarning`.
        num_widths: int, the most distinct shapes. Defaults to `6`.
        width_multiple: int, widths are multiples of it, `max_length` excepted. Defaults to `4`.
        row_multiple: int, the number of rows is a multiple of it where the budget allows. Defaults to `8`.
        widths: int array `[buckets, streams]` to use instead of choosing them, for example `widths` of another object.
        shuffle: bool; `False` gives every epoch the same order, from short to long. Defaults to `True`.
        seed: int. Defaults to `0`.

    Raises:
        ValueError: no sentence, an empty or too long one, one that holds `pad_id`, ids outside the vocabulary,
            streams of different size, or a budget that cannot hold the longest sentence.

    Example:

    >>> from keras_tfm.text import SequenceBatches
    >>> batches = SequenceBatches({"token_ids": [[5, 6, 7], [8], [9, 4]]}, tokens_per_batch=8, shuffle=False)
    >>> (inputs,) = batches[0]
    >>> inputs["token_ids"]
    array([[5, 6, 7, 0],
           [8, 0, 0, 0]], dtype=int32)
    >>> batches.rows(1)
    array([ 2, -1])
    """

    def __init__(
        self,
        streams,
        *,
        tokens_per_batch=4096,
        pad_id=0,
        vocabulary_size=None,
        max_length=None,
        too_long="error",
        num_widths=6,
        width_multiple=4,
        row_multiple=8,
        widths=None,
        shuffle=True,
        seed=0,
    ):
        self.pad_id = pad_id
        self._streams = {name: RaggedArray(sequences, name) for name, sequences in streams.items()}
        _check_streams(self._streams, pad_id, vocabulary_size)
        lengths = self._padded_lengths()
        self._kept = _keep(lengths, max_length, too_long)
        self._lengths = lengths[self._kept]
        if widths is None:
            widths = fit_widths(self._lengths, num_widths, width_multiple=width_multiple, max_length=max_length)
        self._widths = _check_widths(widths, self._lengths, tokens_per_batch)
        self._buckets = sort_into_buckets(self._lengths, self._widths, tokens_per_batch, row_multiple=row_multiple)
        super().__init__(shuffle=shuffle, seed=seed)

    @property
    def widths(self):
        """The padded lengths as an int array `[buckets, streams]`."""
        return self._widths

    @property
    def shapes(self):
        """The distinct shapes of an epoch's batches: a list of `(rows, width of each stream ...)`."""
        buckets = sorted({bucket for bucket, _ in self._items})
        return [(int(self._buckets.rows[bucket]), *map(int, self._buckets.widths[bucket])) for bucket in buckets]

    @property
    def statistics(self):
        """`BatchStatistics` of an epoch."""
        numbers = sum(len(rows) * int(self._buckets.widths[bucket].sum()) for bucket, rows in self._items)
        tokens = int(self._lengths.sum())
        return BatchStatistics(
            num_sentences=len(self._kept),
            num_batches=len(self._items),
            num_shapes=len(self.shapes),
            padding_share=1.0 - tokens / numbers,
            tokens_per_batch=tokens / len(self._items),
        )

    def rows(self, index):
        """Which sentences a batch holds, to put predictions back into the order of the data.

        Args:
            index: int, the batch.

        Returns:
            An int array `[B]`: positions in the lists given to the constructor, -1 for a row of padding.
        """
        return self._sentences(self.item(index)[1])

    def plan(self, rng):
        """Deals the sentences into batches; see `ResumableDataset.plan`."""
        return self._buckets.deal(rng)

    def make_batch(self, item):
        """Cuts one batch; see `ResumableDataset.make_batch`."""
        bucket, rows = item
        sentences, widths = self._sentences(rows), self._buckets.widths[bucket]
        pairs = zip(self._streams.items(), widths, strict=True)
        return ({name: stream.pad(sentences, width, self.pad_id) for (name, stream), width in pairs},)

    def _sentences(self, rows):
        return np.where(rows >= 0, self._kept[rows], -1)

    def _padded_lengths(self):
        return np.stack([stream.lengths for stream in self._streams.values()], axis=1)


def _check_streams(streams, pad_id, vocabulary_size):
    sizes = {name: len(stream) for name, stream in streams.items()}
    if len(set(sizes.values())) != 1 or not max(sizes.values()):
        raise ValueError(f"`streams` must be of the same number of sentences, at least one. Received: {sizes}")
    for name, stream in streams.items():
        size = vocabulary_size.get(name) if isinstance(vocabulary_size, Mapping) else vocabulary_size
        stream.check(pad_id, size)


def _keep(lengths, max_length, too_long):
    if too_long not in ("error", "drop"):
        raise ValueError(f"`too_long` must be 'error' or 'drop'. Received: too_long={too_long!r}")
    longest = lengths.max(axis=1)
    is_long = longest > (longest.max() if max_length is None else max_length)
    count, first = int(is_long.sum()), int(is_long.argmax())
    if not count:
        return np.arange(len(longest))
    told = f"{count} of {len(longest)}, first is sentence {first} of length {longest[first]}"
    if too_long == "error" or count == len(longest):
        raise ValueError(f"no sentence may be longer than `max_length`. Received: max_length={max_length}; {told}")
    warnings.warn(f"dropped sentences longer than max_length={max_length}: {told}", stacklevel=4)
    return np.flatnonzero(~is_long)


def _check_widths(widths, lengths, tokens_per_batch):
    widths = np.asarray(widths)
    if widths.ndim != 2 or widths.shape[1] != lengths.shape[1] or (np.diff(widths, axis=0) < 0).any():
        raise ValueError(
            f"`widths` must be [buckets, {lengths.shape[1]} streams] and not fall. Received: widths={widths.tolist()}"
        )
    if (lengths.max(axis=0) > widths[-1]).any():
        raise ValueError(
            f"`widths` must hold the longest sentence, {lengths.max(axis=0).tolist()}. Received: {widths[-1].tolist()}"
        )
    if widths.max() > tokens_per_batch:
        raise ValueError(
            f"`tokens_per_batch` must hold one sentence of the widest bucket, {widths.max()} tokens. "
            f"Received: tokens_per_batch={tokens_per_batch}"
        )
    return widths
