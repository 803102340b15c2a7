"""Tokens a second, padding and traced steps of `fit`, and what to do about them."""

import time
from typing import NamedTuple

import keras

from keras_tfm.training.token_counts import PaddingShare, TokenCount

_MUCH_PADDING = 0.25
_MANY_TRACES = 4


class EpochThroughput(NamedTuple):
    """What one epoch came to.

    Args:
        tokens: int, target tokens without padding.
        seconds: float, without validation; those of the first epoch include compilation.
        padding_share: float in [0, 1], or `None` where no `PaddingShare` is among the metrics.
        num_traced: int, training steps that were traced for compilation, one for each shape of a batch; on TensorFlow a
            step may be traced once for all shapes, and XLA then compiles it for each. `None` where none are traced.
        advice: str, empty where there is none.
    """

    tokens: int
    seconds: float
    padding_share: float | None
    num_traced: int | None
    advice: str

    @property
    def tokens_per_second(self):
        """Tokens a second, without padding."""
        return self.tokens / self.seconds

    def __str__(self):
        parts = [f"{self.tokens_per_second:,.0f} tokens/s"]
        if self.padding_share is not None:
            parts.append(f"{100 * self.padding_share:.0f} % padding")
        if self.num_traced:
            parts.append(f"{self.num_traced} steps traced")
        return f"{', '.join(parts)}. {self.advice}".strip()


class ThroughputReport(keras.callbacks.Callback):
    """Reports tokens a second, the share of padding and the number of traced steps after each epoch of `fit`.

    Reads the metric `TokenCount`, which the model must be compiled with, and `PaddingShare` where it is there too:
    they see exactly what a step trains on, however far ahead batches are read. The numbers are in `epochs`, tokens a
    second also in the logs as `tokens_per_second`. A line is printed, with advice where

    - more than a quarter of the places are padding, or
    - an epoch traces more than four steps, each for another shape of a batch.

    Args:
        print_fn: what prints a line after each epoch; `None` to print nothing. Defaults to `print`.

    Raises:
        ValueError: at the second step, where no `TokenCount` is among the metrics.

    Example:

    >>> import keras, numpy as np
    >>> model = keras.Sequential([keras.layers.Embedding(9, 4), keras.layers.Dense(9)])
    >>> loss = keras.losses.SparseCategoricalCrossentropy(from_logits=True)
    >>> model.compile("sgd", loss, metrics=[TokenCount(), PaddingShare()])
    >>> ids = np.array([[4, 5, 6, 7], [8, 0, 0, 0]])
    >>> report = ThroughputReport(print_fn=None)
    >>> history = model.fit(ids, ids, callbacks=[report], verbose=0)
    >>> report.epochs[0].tokens, report.epochs[0].padding_share
    (5, 0.375)
    """

    def __init__(self, print_fn=print):
        super().__init__()
        self.epochs = []
        self._print_fn = print_fn
        self._count = self._share = self._start = self._seconds = None
        self._traces = 0

    def on_train_begin(self, logs=None):
        """Forgets an earlier run."""
        self.epochs, self._count, self._share = [], None, None
        self._find_metrics(must=False)

    def on_epoch_begin(self, epoch, logs=None):
        """Starts the clock."""
        self._traces = 0 if self._count is None else self._count.num_traces
        self._seconds, self._start = None, time.perf_counter()

    def on_train_batch_begin(self, batch, logs=None):
        """Finds the metrics, where they were not made before the first step."""
        if self._count is None and batch > 0:
            self._find_metrics()

    def on_test_begin(self, logs=None):
        """Stops the clock before validation, which compiles a step of its own."""
        if self._seconds is None and self._start is not None:
            if self._count is None:
                self._find_metrics()
            keras.ops.convert_to_numpy(self.model.optimizer.iterations.value)  # waits for the last step
            self._stop()

    def on_epoch_end(self, epoch, logs=None):
        """Reports."""
        if self._count is None:
            self._find_metrics()
        tokens = int(logs[self._count.name])  # waits for the last step
        share = None if self._share is None else float(logs[self._share.name])
        if self._seconds is None:
            self._stop()
        self._start = None
        traced = None if keras.backend.backend() == "torch" or self.model.run_eagerly else self._traces
        row = EpochThroughput(tokens, self._seconds, share, traced, _advice(share, traced))
        self.epochs.append(row)
        logs["tokens_per_second"] = row.tokens_per_second
        if self._print_fn is not None:
            self._print_fn(f"\nepoch {epoch + 1}: {row}")

    def _find_metrics(self, must=True):
        found = [each for metric in self.model.metrics for each in (metric, *getattr(metric, "metrics", ()))]
        counts = [metric for metric in found if isinstance(metric, TokenCount)]
        if not counts and must:
            names = [metric.name for metric in found]
            raise ValueError(
                "`ThroughputReport` needs the metric `keras_tfm.training.TokenCount` in `model.compile`. "
                f"Received: metrics={names}"
            )
        self._count = next(iter(counts), None)
        self._share = next((metric for metric in found if isinstance(metric, PaddingShare)), None)

    def _stop(self):
        self._seconds = time.perf_counter() - self._start
        self._traces = self._count.num_traces - self._traces


def _advice(padding_share, num_traced):
    advice = []
    if padding_share is not None and padding_share > _MUCH_PADDING:
        advice.append("Much padding: put sequences of like length into a batch, or pack several into a row.")
    if num_traced is not None and num_traced > _MANY_TRACES:
        advice.append("Each shape of a batch is compiled: pad lengths to multiples, and fill the last batch up.")
    return " ".join(advice)
