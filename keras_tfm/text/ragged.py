"""Sequences of different lengths in one flat array."""

from itertools import chain

import numpy as np

from keras_tfm.text.checks import check_token_ids


class RaggedArray:
    """Integer sequences one behind the other, from which padded batches are cut without a Python loop.

    Args:
        sequences: sequence of lists (or 1-D arrays) of ints.
        name: string that names them in messages.

    Raises:
        ValueError: a value is not a whole number.

    Example:

    >>> from keras_tfm.text.ragged import RaggedArray
    >>> RaggedArray([[5, 6], [7], [8, 9, 4]]).pad([2, 1, -1], width=4)
    array([[8, 9, 4, 0],
           [7, 0, 0, 0],
           [0, 0, 0, 0]], dtype=int32)
    """

    def __init__(self, sequences, name="sequences"):
        self.name = name
        self.lengths = np.fromiter((len(sequence) for sequence in sequences), np.int64, len(sequences))
        self.starts = np.cumsum(self.lengths) - self.lengths
        total = int(self.lengths.sum())
        try:
            values = np.fromiter(chain.from_iterable(sequences), np.float64, total)
        except (TypeError, ValueError) as error:
            raise ValueError(f"`{name}` must be lists of ints, one a sentence: {error}") from error
        if not np.array_equal(values, np.round(values)):
            raise ValueError(f"`{name}` must be whole numbers. Received: {values[values != np.round(values)][0]}")
        if values.size and np.abs(values).max() > np.iinfo(np.int32).max:
            raise ValueError(f"`{name}` must fit into 32 bits. Received: values up to {np.abs(values).max():.0f}")
        # One value more than there is, so that the places past the end can be read and then masked.
        self.values = np.append(values, 0).astype(np.int32)

    def __len__(self):
        return len(self.lengths)

    def places(self, rows, width):
        """Where in `values` a padded batch finds its numbers.

        Args:
            rows: int array `[B]`, the sequences to take; -1 is an empty one.
            width: int, length T of the batch.

        Returns:
            A tuple `(places, is_real)` of arrays `[B, T]`, int and bool.
        """
        rows = np.asarray(rows)
        steps = np.arange(width)
        is_real = steps < np.where(rows >= 0, self.lengths[rows], 0)[:, None]
        return np.where(is_real, self.starts[rows][:, None] + steps, len(self.values) - 1), is_real

    def pad(self, rows, width, pad_id=0):
        """Cuts a batch, padded on the right.

        Args:
            rows: int array `[B]`, the sequences to take; -1 gives a row of padding.
            width: int, length T of the batch; of a longer sequence the first T are taken.
            pad_id: int. Defaults to `0`.

        Returns:
            An int32 array `[B, T]`.
        """
        places, is_real = self.places(rows, width)
        return np.where(is_real, self.values[places], np.int32(pad_id))

    def check(self, pad_id, vocabulary_size=None):
        """Refuses what would be wrong in a batch.

        Args:
            pad_id: int, no sequence may hold it.
            vocabulary_size: int or `None`; values must be in `[0, vocabulary_size)`, without it not negative.

        Raises:
            ValueError: an empty sequence, the padding inside one, or a value outside the vocabulary.
        """
        values = self.values[:-1]
        if not self.lengths.all():
            raise ValueError(f"`{self.name}` must not hold an empty sequence. Received: number {self.lengths.argmin()}")
        if pad_id in values:
            number = self.find(pad_id)
            raise ValueError(f"`{self.name}` must not hold pad_id={pad_id}, which is masked. Received: number {number}")
        check_token_ids(values, np.iinfo(np.int32).max if vocabulary_size is None else vocabulary_size, name=self.name)

    def find(self, value):
        """The first sequence that holds a value, `None` if none does."""
        hits = np.flatnonzero(self.values[:-1] == value)
        return int(np.searchsorted(self.starts, hits[0], side="right")) - 1 if hits.size else None
