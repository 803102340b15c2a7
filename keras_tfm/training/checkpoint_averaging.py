"""The average of the last checkpoints' weights."""

import os
import re

import keras
import numpy as np

from keras_tfm.training.array_file import read_array, write_arrays
from keras_tfm.training.training_state import to_array


class CheckpointAveraging(keras.callbacks.Callback):
    """Averages the weights of the last checkpoints of a run, and leaves the model with the average.

    Takes a snapshot of the floating-point weights at the end of each epoch or every so many batches and keeps the last
    ones. At the end of training the model gets their mean; `restore` brings the weights of the last batch back.

    Snapshots are kept in memory, or as one file each in a folder: then the averaging reads one weight at a time, and a
    run that `TrainingCheckpoint` resumes finds the snapshots of its first part. List this callback before
    `TrainingCheckpoint`.

    Args:
        last: number of snapshots to average, at least 1. Defaults to 5.
        every: `"epoch"`, or the number of batches between two snapshots. Defaults to `"epoch"`.
        directory: folder for the snapshots, made when missing, for this run alone: a new run removes the snapshots
            of the one before. `None` keeps them in memory. Defaults to `None`.
        apply_at_end: whether the model gets the average when training ends. Defaults to `True`.

    Numerics:
        Summed in float64 and divided once, then rounded to the dtype of the weight.

    Raises:
        ValueError: an argument is out of its range; `apply` without a snapshot, or twice; `restore` without `apply`; a
            snapshot on the disk is damaged or of another model.

    Reference:
        Vaswani et al. 2017, section 6.1.

    Example:

    >>> import keras
    >>> import numpy as np
    >>> model = keras.Sequential([keras.Input((3,)), keras.layers.Dense(1)])
    >>> model.compile("sgd", "mse")
    >>> averaging = CheckpointAveraging(last=2)
    >>> history = model.fit(np.ones((8, 3)), np.ones((8, 1)), epochs=3, callbacks=[averaging], verbose=0)
    >>> averaging.steps  # of the optimizer, of which one epoch has one
    [2, 3]
    >>> averaging.restore()
    """

    def __init__(self, last=5, every="epoch", directory=None, *, apply_at_end=True):
        super().__init__()
        if isinstance(last, bool) or not isinstance(last, int) or last < 1:
            raise ValueError(f"`last` must be a positive integer. Received: last={last!r}")
        if every != "epoch" and (isinstance(every, bool) or not isinstance(every, int) or every < 1):
            raise ValueError(f"`every` must be 'epoch' or a positive number of batches. Received: every={every!r}")
        self.last = last
        self.every = every
        self.directory = None if directory is None else os.fspath(directory)
        self.apply_at_end = apply_at_end
        self._snapshots = {}
        self._replaced = None

    @property
    def steps(self):
        """The numbers of updates after which the snapshots in use were taken."""
        return sorted(self._snapshots)

    def on_train_begin(self, logs=None):
        """Forgets the snapshots of an earlier run; weights that `apply` replaced are gone for good."""
        self._snapshots, self._replaced, self._has_begun = {}, None, False

    def on_epoch_begin(self, epoch, logs=None):
        """Finds out where the run stands, which another callback may have resumed."""
        self._begin()
        self._epoch_start = self._num_batches

    def on_train_batch_end(self, batch, logs=None):
        """Takes a snapshot when `every` batches more are done."""
        before, self._num_batches = self._num_batches, self._epoch_start + batch + 1
        if self.every != "epoch" and self._num_batches // self.every > before // self.every:
            self._take()

    def on_epoch_end(self, epoch, logs=None):
        """Takes a snapshot with `every="epoch"`."""
        if self.every == "epoch":
            self._take()

    def on_train_end(self, logs=None):
        """Gives the model the average."""
        self._begin()
        if self.apply_at_end and self._snapshots:
            self.apply()

    def apply(self):
        """Gives the model the average of the snapshots, and keeps the weights that it had in memory."""
        if not self._snapshots or self._replaced is not None:
            raise ValueError(
                "`apply` needs a snapshot, and `restore` between two calls. "
                f"Received: steps={self.steps}, applied={self._replaced is not None}"
            )
        weights = self._weights()
        self._replaced = [to_array(weight) for weight in weights]
        try:
            for index, weight in enumerate(weights):
                weight.assign(self._mean(index, weight))
        except (OSError, ValueError):
            self.restore()
            raise

    def restore(self):
        """Gives the model the weights back that `apply` replaced."""
        if self._replaced is None:
            raise ValueError("`restore` needs a call of `apply` before it. Received: applied=False")
        for weight, value in zip(self._weights(), self._replaced, strict=True):
            weight.assign(value)
        self._replaced = None

    def _weights(self):
        return [weight for weight in self.model.weights if "float" in keras.backend.standardize_dtype(weight.dtype)]

    def _begin(self):
        if self._has_begun:
            return
        self._has_begun = True
        optimizer = self.model.optimizer
        num_updates = int(optimizer.iterations)
        self._num_batches = num_updates * (optimizer.gradient_accumulation_steps or 1)
        for step, path in self._files().items():
            # What a resumed run has still to reach was left by its first part, and will be written again.
            if 0 < step <= num_updates:
                self._snapshots[step] = path
            else:
                os.remove(path)
        self._drop_oldest()

    def _take(self):
        step = int(self.model.optimizer.iterations)
        arrays = [to_array(weight) for weight in self._weights()]
        if self.directory is None:
            self._snapshots[step] = arrays
        else:
            path = os.path.join(self.directory, f"snapshot-{step:09d}.npz")
            write_arrays(path, {str(index): array for index, array in enumerate(arrays)}, {"step": step})
            self._snapshots[step] = path
        self._drop_oldest()

    def _drop_oldest(self):
        for step in self.steps[: -self.last]:
            snapshot = self._snapshots.pop(step)
            if self.directory is not None:
                os.remove(snapshot)

    def _files(self):
        if self.directory is None or not os.path.isdir(self.directory):
            return {}
        matches = [re.fullmatch(r"snapshot-(\d+)\.npz", name) for name in os.listdir(self.directory)]
        return {int(match[1]): os.path.join(self.directory, match[0]) for match in matches if match}

    def _mean(self, index, weight):
        total = np.zeros(tuple(weight.shape), "float64")
        for step in self.steps:
            snapshot = self._snapshots[step]
            array = snapshot[index] if self.directory is None else read_array(snapshot, str(index))
            if array.shape != total.shape:
                raise ValueError(
                    f"The snapshots must be of this model, whose {weight.path} has the shape {total.shape}. "
                    f"Received: a shape of {array.shape} in {snapshot!r}"
                )
            total += array.astype("float64")
        return total / len(self._snapshots)
