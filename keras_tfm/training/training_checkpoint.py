"""Exact resume: training that was interrupted goes on as if it had not been."""

import os
import warnings

import keras

from keras_tfm.training.array_file import read_arrays, read_description, write_arrays
from keras_tfm.training.random_state import assign_random_state, read_random_state
from keras_tfm.training.training_state import assign_state, build_metrics, check_state, read_state

_KIND = "keras_tfm.TrainingCheckpoint"
_FRESH = {"epoch": None, "batch": 0, "history": []}


class TrainingCheckpoint(keras.callbacks.Callback):
    """Saves the whole state of a training run in one file and lets another process go on from it exactly.

    The file holds the weights, the optimizer's variables (step count, moments, loss scale), the states of the seed
    generators, the position in the data, the metrics of a running epoch and the history. `fit` in a fresh process,
    with a model built and compiled by the same code, then makes the same updates as a run that was never interrupted.

    The file is replaced atomically: an interruption at any moment, by an error, Ctrl-C, SIGTERM, SIGKILL or a power
    cut, leaves the last complete checkpoint. Nothing is saved on the way out, so that at most the batches since that
    checkpoint are trained again.

    To resume in the middle of an epoch, the dataset needs a method `seek(epoch, batch)`: the next epoch that begins is
    then what remains of that one, in the order that depends on the epoch alone, and whole epochs follow;
    `len(dataset)` is the number of batches of the running epoch. The datasets of `keras_tfm.text` are such. Without a
    dataset the position is the epoch, and the order of the data is the caller's affair (`fit(shuffle=False)`, or a
    seed set from the epoch).

    List it after other callbacks, so that what they do at a batch is done when the checkpoint of it is written. The
    state of other callbacks (patience of early stopping, say) is not saved.

    Args:
        path: name of the file, in a folder that is made when missing.
        dataset: the dataset that is given to `fit`, with a method `seek`, or `None`. Defaults to `None`.
        save_every: save within an epoch too, each time this many of its batches are done; needs `dataset`. Defaults to
            `None`, the ends of epochs only.
        resume: whether `fit` goes on from an existing file, or starts anew and replaces it. Defaults to `True`.

    Numerics:
        Bit for bit where the backend computes deterministically. On another backend than that of the file
        training goes on with the same variables, but with other dropout masks, and warns.

    Raises:
        ValueError: an argument is out of its range. In `fit`, before any variable is changed: the file is damaged, or
            of a model with other variables; the dataset cannot be that of `fit`; a position within an epoch meets no
            dataset. When the first epoch begins: `initial_epoch` is not the checkpoint's.

    Example:

    >>> import keras, os, tempfile
    >>> import numpy as np
    >>> path = os.path.join(tempfile.mkdtemp(), "training.npz")
    >>> def train(epochs):
    ...     keras.utils.set_random_seed(0)
    ...     model = keras.Sequential([keras.Input((3,)), keras.layers.Dropout(0.5), keras.layers.Dense(1)])
    ...     model.compile("adam", "mse")
    ...     checkpoint = TrainingCheckpoint(path)
    ...     arguments = {"initial_epoch": checkpoint.initial_epoch, "shuffle": False, "verbose": 0}
    ...     return model.fit(np.ones((8, 3)), np.ones((8, 1)), epochs=epochs, callbacks=[checkpoint], **arguments)
    >>> train(epochs=2).epoch
    [0, 1]
    >>> train(epochs=3).epoch  # makes the third epoch alone
    [0, 1, 2]
    """

    def __init__(self, path, dataset=None, *, save_every=None, resume=True):
        super().__init__()
        if dataset is not None and not callable(getattr(dataset, "seek", None)):
            raise ValueError(f"`dataset` must have a method `seek(epoch, batch)`. Received: dataset={dataset!r}")
        if save_every is not None and (not isinstance(save_every, int) or save_every < 1 or dataset is None):
            raise ValueError(
                "`save_every` must be None, or a positive number of batches together with a `dataset` that can seek. "
                f"Received: save_every={save_every!r}, dataset={dataset!r}"
            )
        self.path = os.fspath(path)
        self.dataset = dataset
        self.save_every = save_every
        self.resume = resume
        self._start({}, {}, _FRESH)

    @property
    def initial_epoch(self):
        """The epoch for `fit(initial_epoch=...)`: that of the file which `fit` will go on from, or else 0."""
        if not self._has_file():
            return 0
        description = read_description(self.path)
        self._check_kind(description)
        return description["epoch"]

    def on_train_begin(self, logs=None):
        """Restores the variables of model, optimizer and seed generators."""
        self._check_steps()
        if not self._has_file():
            self._start({}, {}, _FRESH)
            return
        arrays, description = read_arrays(self.path)
        random = {name: arrays.pop(name) for name in list(arrays) if name.startswith("random/")}
        self._check_file(arrays, description)
        assign_state(self.model, arrays, with_metrics=False)
        self._start(arrays, random, description)

    def on_epoch_begin(self, epoch, logs=None):
        """Puts dataset and metrics, which `fit` has just reset, where they were when the first epoch begins."""
        self._epoch = epoch
        if self._has_begun:
            return
        self._has_begun = True
        self._check_epoch(epoch)
        self._complete_history()
        if self.dataset is not None:
            self.dataset.seek(epoch, self._first_batch)
        if self._first_batch:
            assign_state(self.model, self._arrays, with_metrics=True)
        else:
            assign_random_state(self._random)
            self._random = {}
        self._arrays = {}

    def on_train_batch_begin(self, batch, logs=None):
        """Restores the random generators once `fit` has made its iterators, which draw from them."""
        if not self._is_last:
            assign_random_state(self._random)
            self._random = {}

    def on_train_batch_end(self, batch, logs=None):
        """Saves when `save_every` batches more are done and the epoch goes on."""
        before, self._num_done = self._num_done, self._first_batch + batch + 1
        num_batches = self.params.get("steps") if self.dataset is None else len(self.dataset)
        self._is_last = num_batches is None or batch + 1 >= num_batches
        if self._is_last:
            self._random = read_random_state()
            if self._first_batch:
                self._arrays, _ = read_state(self.model, with_metrics=False)
        elif self.save_every and self._num_done // self.save_every > before // self.save_every:
            self._save(self._epoch, self._num_done)

    def on_epoch_end(self, epoch, logs=None):
        """Saves, unless the epoch was stopped before its last batch."""
        if not self._is_last:
            return
        # What `fit` does after the last batch differs in an epoch that was resumed: it makes other iterators, and on
        # TensorFlow it learns by a step that fails, and that moves the seeds on, that the epoch is over.
        assign_random_state(self._random)
        if self._first_batch:
            assign_state(self.model, self._arrays, with_metrics=False)
        self._arrays, self._random = {}, {}
        self._records.append({"epoch": epoch, "logs": {name: float(value) for name, value in (logs or {}).items()}})
        self._first_batch = self._num_done = 0
        self._is_last = False
        self._save(epoch + 1, 0)

    def on_train_end(self, logs=None):
        """Completes the history of a `fit` that had no epoch left."""
        if not self._has_begun:
            self._complete_history()

    def _start(self, arrays, random, description):
        self._arrays, self._random = arrays, random
        self._resumed_epoch = description["epoch"]
        self._first_batch = self._num_done = description["batch"]
        self._records = list(description["history"])
        self._has_begun = self._is_last = False

    def _has_file(self):
        return self.resume and os.path.exists(self.path)

    def _save(self, epoch, batch):
        arrays, variables = read_state(self.model, with_metrics=batch > 0)
        description = {
            "kind": _KIND,
            "keras": keras.__version__,
            "backend": keras.backend.backend(),
            "epoch": epoch,
            "batch": batch,
            "history": self._records,
            "variables": variables,
        }
        write_arrays(self.path, arrays | read_random_state(), description)

    def _check_steps(self):
        steps = self.params.get("steps")
        if self.dataset is not None and steps is not None and steps != len(self.dataset):
            raise ValueError(
                "`dataset` must be what `fit` trains on, without `steps_per_epoch`. "
                f"Received: len(dataset)={len(self.dataset)}, and {steps} steps in an epoch of fit"
            )

    def _check_kind(self, description):
        if description.get("kind") != _KIND:
            raise ValueError(f"The file is no checkpoint of TrainingCheckpoint. Received: path={self.path!r}")

    def _check_file(self, arrays, description):
        self._check_kind(description)
        if description["batch"] and self.dataset is None:
            raise ValueError(
                "`dataset` is needed, because the checkpoint was written within an epoch. "
                f"Received: dataset=None, path={self.path!r}, at batch {description['batch']}"
            )
        self._build(arrays, description)
        check_state(self.model, arrays, description["variables"], description["batch"] > 0, self.path)
        if description["backend"] != keras.backend.backend():
            warnings.warn(
                f"{self.path} was written on {description['backend']}: training goes on with its variables, but not "
                f"with its random numbers, on {keras.backend.backend()}.",
                stacklevel=2,
            )

    def _build(self, arrays, description):
        model = self.model
        if not model.built:
            raise ValueError(f"`model` must be built before a checkpoint can be restored. Received: model={model}")
        if not model.optimizer.built:
            model.optimizer.build(model.trainable_variables)
        num_metrics = sum(key.startswith("metrics/") for key in arrays)
        if description["batch"] and num_metrics > len(model.metrics_variables):
            build_metrics(model, self.dataset[0])

    def _check_epoch(self, epoch):
        if self._resumed_epoch not in (None, epoch):
            raise ValueError(
                "`fit` must begin with the epoch of the checkpoint: give it `initial_epoch=checkpoint.initial_epoch`. "
                f"Received: initial_epoch={epoch}, and epoch {self._resumed_epoch} in {self.path!r}"
            )

    def _complete_history(self):
        """Puts the epochs of earlier runs at the beginning of what `fit` returns."""
        history = getattr(self.model, "history", None)
        if history is None:
            return
        history.epoch[:0] = [record["epoch"] for record in self._records]
        for record in reversed(self._records):
            for name, value in record["logs"].items():
                history.history.setdefault(name, []).insert(0, value)
