"""Tokens a second, padding and shapes of the batches of `fit`, and what to do about them."""

import time
from typing import NamedTuple

import keras

from keras_tfm.training.watched_batches import BatchCount, watch_batches

_MUCH_PADDING = 0.25
_MANY_SHAPES = 8


class EpochThroughput(NamedTuple):
    """What one epoch came to.

    Args:
        tokens: int, real tokens.
        places: int, tokens and padding.
        seconds: float, of the epoch without validation; the first ones include compilation.
        num_shapes: int, distinct shapes of batches since training began.
        advice: str, empty where there is none.
    """

    tokens: int
    places: int
    seconds: float
    num_shapes: int
    advice: str

    @property
    def tokens_per_second(self):
        """Real tokens a second."""
        return self.tokens / self.seconds

    @property
    def padding_share(self):
        """Padding among all places, in [0, 1]."""
        return 1.0 - self.tokens / self.places if self.places else 0.0

    def __str__(self):
        numbers = f"{self.tokens_per_second:,.0f} tokens/s, {100 * self.padding_share:.0f} % padding"
        return f"{numbers}, batches of {self.num_shapes} shapes. {self.advice}".strip()


class ThroughputReport(keras.callbacks.Callback):
    """Reports tokens a second, the share of padding and the number of batch shapes after each epoch of `fit`.

    Callbacks do not see batches, so that `fit` must be given them through `watch`. The numbers are in the logs, as
    `tokens_per_second`, `padding_share` and `batch_shapes`, and in `epochs`; a line with advice is printed:

    - More than a quarter padding: batches of like length, or several sequences a row.
    - More than 8 shapes where each is compiled (XLA): lengths that are multiples of some number.

    Args:
        pad_id: int, id of the padding. Defaults to 0.
        inputs: list of names of the inputs whose tokens count, for inputs that are dicts. Integers other than `pad_id`
            are tokens, and True in a padding mask. `None` counts all integer inputs `[B, T]` but for those named
            `..._segment_ids`, `..._positions` or so; if there are none, boolean ones `[B, T]`.
        print_fn: what prints a line at the end of an epoch; `None` to print nothing.

    Raises:
        ValueError: `fit` trains on batches that did not come through `watch`; they hold nothing to be counted; `watch`
            gets no batches.

    Example:

    >>> import keras, numpy as np
    >>> model = keras.Sequential([keras.layers.Embedding(9, 4), keras.layers.Dense(9)])
    >>> model.compile("sgd", keras.losses.SparseCategoricalCrossentropy(from_logits=True))
    >>> ids = np.array([[4, 5, 6, 7], [8, 0, 0, 0]])
    >>> report = ThroughputReport(print_fn=None)
    >>> history = model.fit(report.watch([(ids, ids), (ids, ids)]), callbacks=[report], verbose=0)
    >>> report.epochs[0].tokens, report.epochs[0].places
    (10, 16)
    >>> history.history["padding_share"]
    [0.375]
    """

    def __init__(self, pad_id=0, inputs=None, *, print_fn=print):
        super().__init__()
        if isinstance(pad_id, bool) or not isinstance(pad_id, int):
            raise ValueError(f"`pad_id` must be an integer. Received: pad_id={pad_id!r}")
        if isinstance(inputs, str) or (inputs is not None and not all(isinstance(name, str) for name in inputs)):
            raise ValueError(f"`inputs` must be a list of names, or None. Received: inputs={inputs!r}")
        self.pad_id = pad_id
        self.inputs = None if inputs is None else list(inputs)
        self.epochs = []
        self._print_fn = print_fn
        self._batches, self._shapes, self._total = None, set(), BatchCount()
        self._seconds = self._start = None

    def watch(self, batches):
        """Returns the batches for `fit`, each as it is, and counts what passes.

        Args:
            batches: a `keras.utils.PyDataset` (not of several processes, whose batches are made elsewhere), a list,
                anything else with a length that can be read again and again (a PyTorch `DataLoader`), or a generator.

        Returns:
            A `keras.utils.PyDataset`; for what has no length, a generator.
        """
        watched, self._batches = watch_batches(batches, self.pad_id, self.inputs)
        return watched

    def on_train_begin(self, logs=None):
        """Forgets an earlier run."""
        self.epochs, self._shapes = [], set()
        self._is_first = True

    def on_epoch_begin(self, epoch, logs=None):
        """Starts the clock."""
        if self._batches is not None and self._is_first:
            self._batches.forget_peeks()
        self._is_first = False
        self._total, self._seconds, self._start = BatchCount(), None, time.perf_counter()

    def on_train_batch_begin(self, batch, logs=None):
        """Adds what the step will train on. At its beginning: with a function for its end JAX waits for each step."""
        if self._batches is None or not self._batches.has_been_read:
            raise ValueError(
                "`ThroughputReport` sees the batches that come through its `watch`: "
                "`model.fit(report.watch(batches), callbacks=[report])`. Received: none"
            )
        for count in self._batches.take(self.model.steps_per_execution):
            self._shapes.add(count.shapes)
            self._total = BatchCount(self._total.tokens + count.tokens, self._total.places + count.places)

    def on_test_begin(self, logs=None):
        """Stops the clock before validation."""
        self._stop()

    def on_epoch_end(self, epoch, logs=None):
        """Reports."""
        self._stop()
        row = EpochThroughput(
            self._total.tokens, self._total.places, self._seconds, len(self._shapes), self._advice(self._total)
        )
        self.epochs.append(row)
        if logs is not None:
            logs["tokens_per_second"] = row.tokens_per_second
            logs["padding_share"] = row.padding_share
            logs["batch_shapes"] = row.num_shapes
        if self._print_fn is not None:
            self._print_fn(f"\nepoch {epoch + 1}: {row}")

    def _stop(self):
        if self._seconds is not None or self._start is None:
            return
        optimizer = getattr(self.model, "optimizer", None)
        if optimizer is not None:
            keras.ops.convert_to_numpy(optimizer.iterations)  # waits for the last step
        self._seconds = time.perf_counter() - self._start

    def _advice(self, total):
        advice = []
        if total.places and 1 - total.tokens / total.places > _MUCH_PADDING:
            advice.append("Much padding: put sequences of like length into a batch, or pack several into a row.")
        is_compiled = self.model.jit_compile and not self.model.run_eagerly
        if is_compiled and len(self._shapes) > _MANY_SHAPES:
            advice.append("Each shape is compiled: pad lengths to multiples, and fill the last batch up.")
        return " ".join(advice)
