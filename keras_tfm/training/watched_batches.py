"""Batches that pass on unchanged while their tokens are counted."""

import collections
import itertools
from collections.abc import Iterable, Mapping
from typing import NamedTuple

import keras
import numpy as np

_NO_TOKENS = ("segment_ids", "positions")  # integers that say where tokens stand, with or without a prefix


class BatchCount(NamedTuple):
    """Real tokens, places for tokens, and the shapes of all arrays of a batch."""

    tokens: int = 0
    places: int = 0
    shapes: tuple = ()


class BatchCounts:
    """The counts of the batches that were read and not yet trained on, in the order of reading.

    Args:
        pad_id: int.
        inputs: list of names, or `None`; as `ThroughputReport` has them.
        is_indexed: whether what was read before training began will be read again.
    """

    def __init__(self, pad_id, inputs, is_indexed):
        self._pad_id, self._inputs, self._is_indexed = pad_id, inputs, is_indexed
        self._counts = collections.deque()
        self.has_been_read = False

    def note(self, batch):
        """Counts a batch, and returns it."""
        self._counts.append(count_batch(batch, self._pad_id, self._inputs))
        self.has_been_read = True
        return batch

    def take(self, number):
        """The counts of the next batches, fewer than `number` if no more were read."""
        return [self._counts.popleft() for _ in range(min(number, len(self._counts)))]

    def forget_peeks(self):
        """Forgets what Keras has read to build the model, where it reads that again."""
        if self._is_indexed:
            self._counts.clear()


def watch_batches(batches, pad_id, inputs):
    """The batches, and the `BatchCounts` that fill up as they are read; see `ThroughputReport.watch`."""
    is_data = isinstance(batches, (Mapping, tuple, str)) or hasattr(batches, "dtype")
    if is_data or not isinstance(batches, (keras.utils.PyDataset, Iterable)):
        raise ValueError(
            "`batches` must be batches one after another: a `keras.utils.PyDataset`, a list, a generator. "
            f"Received: batches of type {type(batches).__name__}"
        )
    if isinstance(batches, keras.utils.PyDataset):
        if batches.use_multiprocessing:
            raise ValueError(
                "`batches` must be read in this process, where they are counted. Received: use_multiprocessing=True"
            )
        counts = BatchCounts(pad_id, inputs, is_indexed=True)
        return _WatchedDataset(batches, counts), counts
    has_length = _has_length(batches)
    counts = BatchCounts(pad_id, inputs, is_indexed=has_length)
    return (_WatchedRounds if has_length else _watched)(batches, counts), counts


def _has_length(batches):
    try:
        len(batches)
    except TypeError:  # also from those whose class has lengths, as a `tf.data.Dataset` that was filtered
        return False
    return True


def count_batch(batch, pad_id, inputs=None):
    """The `BatchCount` of `inputs`, `(inputs,)`, `(inputs, labels)` or `(inputs, labels, sample_weight)`."""
    x, *_ = keras.utils.unpack_x_y_sample_weight(tuple(batch) if isinstance(batch, list) else batch)
    arrays = _token_arrays(x, inputs)
    real = [array if array.dtype == bool else array != pad_id for array in arrays]
    shapes = tuple(tuple(leaf.shape) for leaf in keras.tree.flatten(batch) if hasattr(leaf, "shape"))
    return BatchCount(sum(int(each.sum()) for each in real), sum(each.size for each in real), shapes)


def _token_arrays(x, inputs):
    named = x if isinstance(x, Mapping) else dict(enumerate(keras.tree.flatten(x)))
    if inputs is not None:
        missing = [name for name in inputs if name not in named]
        if missing:
            raise ValueError(f"`inputs` must name inputs of the batches, {list(named)}. Received: inputs={inputs}")
        arrays = [_as_array(named[name]) for name in inputs]
        if all(array.dtype.kind in "iub" for array in arrays):
            return arrays
        raise ValueError(f"`inputs` must name integer or boolean inputs. Received: inputs={inputs}")
    arrays = [_as_array(array) for name, array in named.items() if not str(name).endswith(_NO_TOKENS)]
    arrays = [array for array in arrays if array.ndim == 2]
    found = [array for array in arrays if array.dtype.kind in "iu"] or [each for each in arrays if each.dtype == bool]
    if not found:
        given = {name: (str(each.dtype), tuple(each.shape)) for name, each in named.items()}
        raise ValueError(f"`batches` must have an integer or boolean input [B, T] to be counted. Received: {given}")
    return found


def _as_array(x):
    return x if isinstance(x, np.ndarray) else np.asarray(keras.ops.convert_to_numpy(x))


def _watched(batches, counts):
    for batch in batches:
        yield counts.note(batch)


class _WatchedDataset(keras.utils.PyDataset):
    """A `keras.utils.PyDataset` that is read through this one; whatever else it has is found here too."""

    def __init__(self, dataset, counts):
        super().__init__(workers=dataset.workers, max_queue_size=dataset.max_queue_size)
        self._dataset, self._counts = dataset, counts

    def __getitem__(self, index):
        return self._counts.note(self._dataset[index])

    @property
    def num_batches(self):
        return self._dataset.num_batches

    def __iter__(self):
        return _watched(self._dataset, self._counts)

    def __len__(self):
        return len(self._dataset)

    def on_epoch_begin(self):
        self._dataset.on_epoch_begin()

    def on_epoch_end(self):
        self._dataset.on_epoch_end()

    def __getattr__(self, name):
        if name.startswith("_"):
            raise AttributeError(name)
        return getattr(self._dataset, name)


class _WatchedRounds(keras.utils.PyDataset):
    """What has a length but may have no indices, read from its start to its end in each epoch."""

    def __init__(self, batches, counts):
        super().__init__()
        self._batches, self._counts = batches, counts
        self._round, self._num_left = None, 0

    def __getitem__(self, index):
        if self._round is None:  # Keras looks at the first batches before it trains
            return self._counts.note(next(itertools.islice(iter(self._batches), index, None)))
        if self._num_left == 0:
            self._round, self._num_left = iter(self._batches), len(self)
        self._num_left -= 1
        return self._counts.note(next(self._round))

    def __iter__(self):
        return _watched(self._batches, self._counts)

    def __len__(self):
        return len(self._batches)

    def on_epoch_begin(self):
        self._round = self._round or iter(())
