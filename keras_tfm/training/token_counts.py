"""How many tokens an epoch trained on, and which share of the places was padding."""

import keras
from keras import ops

from keras_tfm.training.losses import read_targets, spread_weights
from keras_tfm.training.metrics import TokenMetric


class _Counter(TokenMetric):
    """Sums over the targets in float32, which is exact up to 16.7 million and near it beyond."""

    def __init__(self, ignore_id, name, dtype):
        super().__init__(ignore_id, name, dtype)
        self.tokens = self.add_variable((), "zeros", dtype="float32", name="tokens")
        self.places = self.add_variable((), "zeros", dtype="float32", name="places")
        self.num_traces = 0

    def update_state(self, y_true, y_pred, sample_weight=None):
        """Adds a batch of targets `[B, T]` of predictions `[B, T, V]`; a weight of 0 is padding too."""
        self.num_traces += 1  # in compiled code Python comes here once a program
        targets = read_targets(y_true, y_pred, self.ignore_id)
        counts = targets >= 0
        if sample_weight is not None:
            counts = ops.logical_and(counts, spread_weights(sample_weight, targets) > 0)
        self.tokens.assign_add(ops.sum(ops.cast(counts, "float32")))
        self.places.assign_add(ops.cast(ops.size(counts), "float32"))


@keras.saving.register_keras_serializable(package="keras_tfm")
class TokenCount(_Counter):
    """The number of target tokens since the epoch began, without padding.

    Args:
        ignore_id: target id whose tokens do not count, or `None`. Defaults to 0, the pad id.
        name: name of the metric.
        dtype: dtype of the metric.

    Call arguments:
        y_true: integer targets `[B, T]`.
        y_pred: float predictions `[B, T, V]`; their values are not read.
        sample_weight: float `[B]` or `[B, T]`: what weighs 0 does not count.

    Returns:
        float32 scalar.

    Masking:
        A mask `[B, T]` that predictions carry through Keras leaves its False tokens out, besides `ignore_id`; not on
        JAX, where `fit` hands predictions to the metrics without their mask (Keras 3.15).

    Raises:
        ValueError: `ignore_id` is no integer, or shapes do not fit.

    Example:

    >>> import numpy as np
    >>> count = TokenCount()
    >>> count.update_state(np.array([[1, 2, 0, 0]]), np.zeros((1, 4, 9), "float32"))
    >>> float(count.result())
    2.0
    """

    def __init__(self, ignore_id=0, name="token_count", dtype=None):
        super().__init__(ignore_id, name, dtype)

    def result(self):
        """Returns the number of tokens."""
        return 1.0 * self.tokens.value  # a tensor: Keras' eager steps on TensorFlow cannot return variables


@keras.saving.register_keras_serializable(package="keras_tfm")
class PaddingShare(_Counter):
    """The share of the targets' places that hold padding, over all batches since the epoch began.

    Args:
        ignore_id: target id of the padding, or `None`. Defaults to 0.
        name: name of the metric.
        dtype: dtype of the metric.

    Call arguments:
        y_true: integer targets `[B, T]`.
        y_pred: float predictions `[B, T, V]`; their values are not read.
        sample_weight: float `[B]` or `[B, T]`: what weighs 0 is padding.

    Returns:
        float32 scalar in [0, 1]; 0 before the first token.

    Masking:
        As `TokenCount`.

    Raises:
        ValueError: `ignore_id` is no integer, or shapes do not fit.

    Example:

    >>> import numpy as np
    >>> share = PaddingShare()
    >>> share.update_state(np.array([[1, 0, 0, 0]]), np.zeros((1, 4, 9), "float32"))
    >>> float(share.result())
    0.75
    """

    def __init__(self, ignore_id=0, name="padding_share", dtype=None):
        super().__init__(ignore_id, name, dtype)

    def result(self):
        """Returns the share of padding."""
        return ops.divide_no_nan(self.places.value - self.tokens.value, self.places.value)
