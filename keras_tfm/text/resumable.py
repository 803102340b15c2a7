"""A dataset whose order is a function of seed and epoch, and which can go on in the middle of an epoch."""

import contextlib
import warnings

import keras
import numpy as np


class ResumableDataset(keras.utils.PyDataset):
    """Base class of datasets that `fit` can resume at any batch, on every backend.

    A subclass says what an epoch is (`plan`) and how a batch is made (`make_batch`). The plan is a function of `seed`
    and the epoch alone. An epoch is over when its last batch was read and `on_epoch_end` was called, as `fit` does;
    then comes the next one. After `seek(epoch, batch)` the next epoch to begin is the rest of that one, and whole
    epochs follow. Until an epoch begins, `len` and indices show the whole of it.

    While an epoch runs, batches come in the order of the plan, whatever index is asked for: `fit` asks in an order of
    its own, shuffled by the global generator of Python's `random`, unless it is told `shuffle=False`. To look at a
    batch in the middle of an epoch, call `make_batch(item(index))`. Batches are made in the process that reads them:
    workers are not offered.

    Args:
        shuffle: bool, whether epochs differ. Defaults to `True`.
        seed: int. Defaults to `0`.

    Example:

    >>> import numpy as np
    >>> from keras_tfm.text import ResumableDataset
    >>> class Numbers(ResumableDataset):
    ...     def plan(self, rng):
    ...         return [0, 1, 2, 3] if rng is None else list(rng.permutation(4))
    ...     def make_batch(self, item):
    ...         return (np.array([item]),)
    >>> numbers = Numbers(shuffle=False)
    >>> numbers.seek(epoch=0, batch=3)
    >>> list(numbers)
    [(array([3]),)]
    """

    def __init__(self, *, shuffle=True, seed=0):
        super().__init__()
        self._shuffle, self._seed = shuffle, seed
        self._running, self._num_read = False, 0
        self._quiet = contextlib.ExitStack()
        self._plan_epoch(0, 0)

    def plan(self, rng):
        """Plans one epoch.

        Args:
            rng: `numpy.random.Generator`, or `None` where nothing is to be shuffled.

        Returns:
            A list with what `make_batch` takes, one a batch; its length must be the same in every epoch.
        """
        raise NotImplementedError

    def make_batch(self, item):
        """Makes one batch.

        Args:
            item: an element of what `plan` returned.

        Returns:
            A tuple `(inputs,)`, `(inputs, labels)` or `(inputs, labels, sample_weight)`.
        """
        raise NotImplementedError

    def seek(self, epoch, batch=0):
        """Makes the next epoch that begins the rest of one epoch.

        To resume `fit`, call this in a callback's `on_train_begin`. Before `fit` it serves too, but where only one or
        two batches are left: Keras may look at so many to build the model, and they would count as read.

        Args:
            epoch: int, counted from 0.
            batch: int, number of batches of that epoch that are done; if all are, the next epoch follows. Defaults to
                `0`.

        Raises:
            ValueError: there is no such batch.
        """
        whole = len(self._items)
        if epoch < 0 or not 0 <= batch <= whole:
            raise ValueError(
                f"`epoch` must not be negative, `batch` must be in [0, {whole}]. Received: epoch={epoch}, batch={batch}"
            )
        self._stop()
        self._plan_epoch(*((epoch, batch) if batch < whole else (epoch + 1, 0)))

    @property
    def epoch(self):
        """The epoch that runs, or will begin next; counted from 0."""
        return self._epoch

    @property
    def first_batch(self):
        """The batch at which the epoch begins: 0 unless `seek` asked for a later one."""
        return self._first

    @property
    def num_batches(self):
        """What Keras asks for the number of batches: that of all epochs, but for the first question of an epoch.

        `fit` asks once at its start and keeps the answer for all its epochs; its reader asks again when an epoch has
        begun. So a rest of an epoch does not shorten the epochs after it.
        """
        return len(self._items) if self._num_read else len(self)

    def __len__(self):
        return len(self._items) - self._offset

    def __getitem__(self, index):
        if not self._running:
            return self.make_batch(self.item(index))
        item = self.item(self._num_read)
        self._num_read += 1
        return self.make_batch(item)

    def item(self, index):
        """The plan of one batch, to be looked at without reading the batch.

        Args:
            index: int, number of the batch in the epoch that runs or will begin next.

        Returns:
            An element of what `plan` returned.

        Raises:
            IndexError: there is no such batch.
        """
        if not 0 <= index < len(self):
            raise IndexError(f"`index` must be in [0, {len(self)}). Received: index={index}")
        return self._items[self._offset + index]

    def __iter__(self):
        self.on_epoch_begin()
        for index in range(len(self)):
            yield self[index]

    def on_epoch_begin(self):
        """Begins an epoch; `fit` and iterating call it."""
        self._stop()
        self._running = True
        if self._first:
            # `fit` sees fewer batches than it counted on and says so, though this is how it should be.
            self._quiet.enter_context(warnings.catch_warnings())
            warnings.filterwarnings("ignore", message="Your input ran out of data", category=UserWarning)

    def on_epoch_end(self):
        """Ends the epoch. One that was not read to its end is not over: Keras peeks at data before it trains."""
        is_over = self._running and self._num_read == len(self)
        self._stop()
        if is_over:
            self._plan_epoch(self._epoch + 1, 0)

    @property
    def _offset(self):
        return self._first if self._running else 0

    def _stop(self):
        self._running, self._num_read = False, 0
        self._quiet.close()

    def _plan_epoch(self, epoch, first):
        self._epoch, self._first = epoch, first
        self._items = self.plan(np.random.default_rng([self._seed, epoch]) if self._shuffle else None)
