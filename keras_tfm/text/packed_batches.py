"""Batches of rows that hold several sequences each."""

import numpy as np

from keras_tfm.text.batches import BatchStatistics
from keras_tfm.text.packing import pack
from keras_tfm.text.ragged import RaggedArray
from keras_tfm.text.resumable import ResumableDataset


class PackedSequences(ResumableDataset):
    """Base of the packed batches: sequences into rows, rows into batches of one shape.

    Every sequence comes exactly once an epoch. Shuffling exchanges sequences of equal length, so that rows have other
    neighbours in every epoch and their number stays; then it shuffles the rows. What the last batch lacks is filled up
    with rows of padding.

    Args:
        sides: dict from a prefix of names, such as `"source_"`, to a dict from name to `RaggedArray`; those of one
            side have equal lengths, and share segments and positions.
        row_lengths: list of ints, the length of a row of each side.
        tokens_per_batch: int, the most tokens of a batch: rows times the longest row, padding included.
        pad_id: int.
        shuffle, seed: as `ResumableDataset` has them.
    """

    def __init__(self, sides, row_lengths, *, tokens_per_batch, pad_id, shuffle, seed):
        self.pad_id = pad_id
        self._sides, self._row_lengths = sides, row_lengths
        if max(row_lengths) > tokens_per_batch:
            raise ValueError(
                f"`tokens_per_batch` must hold a row, {max(row_lengths)} tokens. "
                f"Received: tokens_per_batch={tokens_per_batch}"
            )
        lengths = np.stack([next(iter(streams.values())).lengths for streams in sides.values()], axis=1)
        if not len(lengths):
            raise ValueError("there must be at least one sequence. Received: 0")
        packed = pack(lengths, row_lengths)
        self._ends = np.cumsum([len(row) for row in packed])[:-1]
        self._packed, self._num_rows = np.concatenate(packed), len(packed)
        self._lengths, self._kinds = lengths, np.unique(lengths, axis=0, return_inverse=True)[1].reshape(-1)
        self._batch_size = min(tokens_per_batch // max(row_lengths), self._num_rows)
        super().__init__(shuffle=shuffle, seed=seed)

    @property
    def statistics(self):
        """`BatchStatistics` of an epoch."""
        num_batches, tokens = len(self._items), int(self._lengths.sum())
        return BatchStatistics(
            num_sentences=len(self._lengths),
            num_batches=num_batches,
            num_shapes=1,
            padding_share=1.0 - tokens / (num_batches * self._batch_size * sum(self._row_lengths)),
            tokens_per_batch=tokens / num_batches,
        )

    def rows(self, index):
        """Which sequences a batch holds, to put predictions back into the order of the data.

        Args:
            index: int, the batch.

        Returns:
            A list of B int arrays: segment k of row b is the sequence `rows[b][k - 1]` of the lists given to the
            constructor. A row of padding has none.
        """
        return self.item(index)

    def plan(self, rng):
        """Deals the rows into batches; see `ResumableDataset.plan`."""
        rows = np.split(self._packed if rng is None else self._exchanged(rng), self._ends)
        if rng is not None:
            rows = [rows[row] for row in rng.permutation(self._num_rows)]
        size = self._batch_size
        rows += [np.zeros(0, np.int64)] * (-len(rows) % size)
        return [rows[start : start + size] for start in range(0, len(rows), size)]

    def _exchanged(self, rng):
        """The sequences row after row, each exchanged for one of the same length."""
        drawn = rng.permutation(len(self._kinds))
        partner = np.empty(len(self._kinds), np.int64)
        partner[np.argsort(self._kinds, kind="stable")] = drawn[np.argsort(self._kinds[drawn], kind="stable")]
        return partner[self._packed]

    def arrays(self, rows):
        """The arrays of a batch by name, those of all sides with their segments and positions.

        Args:
            rows: list of B int arrays, the sequences of each row.

        Returns:
            A dict of int32 arrays `[B, T]`.
        """
        arrays = {}
        for (prefix, streams), row_length in zip(self._sides.items(), self._row_lengths, strict=True):
            layout = _Layout(rows, next(iter(streams.values())), row_length)
            arrays |= {
                name: layout.fill(stream.values[layout.sources], self.pad_id) for name, stream in streams.items()
            }
            arrays[f"{prefix}segment_ids"] = layout.fill(layout.segments, 0)
            arrays[f"{prefix}positions"] = layout.fill(layout.positions, 0)
        return arrays


class _Layout:
    """Where the tokens of one side come from and where in the rows they go."""

    def __init__(self, rows, stream, row_length):
        self._shape = len(rows), row_length
        sequences = np.concatenate(rows)
        row_of = np.repeat(np.arange(len(rows)), [len(row) for row in rows])
        first = np.searchsorted(row_of, row_of)  # the first sequence of the same row
        lengths = stream.lengths[sequences]
        starts = np.cumsum(lengths) - lengths
        steps = np.arange(lengths.sum())
        self.positions = steps - np.repeat(starts, lengths)
        self.segments = np.repeat(1 + np.arange(len(sequences)) - first, lengths)
        self.sources = self.positions + np.repeat(stream.starts[sequences], lengths)
        self._places = steps + np.repeat(row_of * row_length - starts[first], lengths)

    def fill(self, values, padding):
        """int32 `[B, T]` with the values of all tokens in their places."""
        array = np.full(self._shape, padding, np.int32)
        array.reshape(-1)[self._places] = values
        return array


class PackedBatches(PackedSequences):
    """Packs sequences into full rows, for models that tag tokens or predict the next one and were made `packed=True`.

    A batch is `(inputs, labels [B, T])`, where `inputs` are `"token_ids"`, `"segment_ids"` (1, 2, ... in each row, 0
    at padding) and `"positions"` (from 0 in each segment), all int32 `[B, T]`; without labels it is `(inputs,)`. All
    batches have one shape. A loss that ignores `pad_id` counts every label once, as with padded batches.

    Args:
        token_ids: list of lists of ints, one list a sequence.
        labels: list of lists of ints, one a token, or `None`. For language models give the sequences without their
            last token, and as labels the same without their first.
        row_length: int, T; no sequence may be longer.
        tokens_per_batch: int, the most tokens of a batch, B times T. Defaults to `4096`.
        pad_id: int, id of the padding, in `labels` too. Defaults to `0`.
        vocabulary_size: int or `None`; tokens outside are refused.
        num_classes: int or `None`; labels outside `[0, num_classes)` are refused.
        shuffle: bool; `False` gives every epoch the same order. Defaults to `True`.
        seed: int. Defaults to `0`.

    Raises:
        ValueError: no sequence, an empty or too long one, one that holds `pad_id`, ids outside the vocabulary, labels
            that do not fit, or a budget that cannot hold a row.

    Reference:
        Raffel et al. 2020, section 3.1.1 (packing); Krell et al. 2021, "Efficient Sequence Packing without
        Cross-contamination", section 3.2 (sequences do not see each other).

    Example:

    >>> from keras_tfm.text import PackedBatches
    >>> texts = [[5, 6, 7, 8], [5, 9], [6, 4, 8]]
    >>> batches = PackedBatches([x[:-1] for x in texts], [x[1:] for x in texts], row_length=4, shuffle=False)
    >>> inputs, labels = batches[0]
    >>> inputs["token_ids"]
    array([[5, 6, 7, 5],
           [6, 4, 0, 0]], dtype=int32)
    >>> inputs["segment_ids"]
    array([[1, 1, 1, 2],
           [1, 1, 0, 0]], dtype=int32)
    >>> labels
    array([[6, 7, 8, 9],
           [4, 8, 0, 0]], dtype=int32)
    """

    def __init__(
        self,
        token_ids,
        labels=None,
        *,
        row_length,
        tokens_per_batch=4096,
        pad_id=0,
        vocabulary_size=None,
        num_classes=None,
        shuffle=True,
        seed=0,
    ):
        streams = {"token_ids": RaggedArray(token_ids, "token_ids")}
        streams["token_ids"].check(pad_id, vocabulary_size)
        if labels is not None:
            streams["labels"] = RaggedArray(labels, "labels")
            _check_labels(streams["labels"].lengths, streams["token_ids"].lengths)
            streams["labels"].check(pad_id, num_classes)
        options = dict(tokens_per_batch=tokens_per_batch, pad_id=pad_id, shuffle=shuffle, seed=seed)
        super().__init__({"": streams}, [row_length], **options)

    def make_batch(self, item):
        """Cuts one batch; see `ResumableDataset.make_batch`."""
        inputs = self.arrays(item)
        return (inputs, inputs.pop("labels")) if "labels" in inputs else (inputs,)


def _check_labels(lengths, of_tokens):
    if len(lengths) != len(of_tokens):
        raise ValueError(f"`labels` must have one entry a sequence, {len(of_tokens)}. Received: {len(lengths)}")
    if (lengths != of_tokens).any():
        index = int((lengths != of_tokens).argmax())
        raise ValueError(
            f"`labels` must have one entry a token. Received: sequence {index} with {of_tokens[index]} tokens and "
            f"{lengths[index]} labels"
        )
