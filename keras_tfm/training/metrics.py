"""Accuracy and perplexity of tokens, exact over any number of unequal batches."""

import keras
from keras import ops

from keras_tfm.training.losses import check_ignore_id, read_targets, spread_weights, token_losses


class TokenMetric(keras.metrics.Metric):
    """What the metrics of tokens have in common: the target id that does not count, and it in the config."""

    def __init__(self, ignore_id, name, dtype):
        check_ignore_id(ignore_id)
        super().__init__(name=name, dtype=dtype)
        self.ignore_id = ignore_id

    def get_config(self):
        """Returns the constructor's arguments."""
        return {**super().get_config(), "ignore_id": self.ignore_id}


class _TokenMean(TokenMetric):
    """The mean of a value over the tokens that count: keeps the two sums, so that batches may differ in size."""

    def __init__(self, ignore_id, name, dtype):
        super().__init__(ignore_id, name, dtype)
        # float32 under every policy: bfloat16 cannot count beyond 256.
        self.total = self.add_variable((), "zeros", dtype="float32", name="total")
        self.count = self.add_variable((), "zeros", dtype="float32", name="count")

    def update_state(self, y_true, y_pred, sample_weight=None):
        """Adds a batch of targets `[B, T]` and predictions `[B, T, V]`, weighted by `[B]` or `[B, T]`."""
        targets = read_targets(y_true, y_pred, self.ignore_id)
        weights = ops.cast(targets >= 0, "float32")
        if sample_weight is not None:
            weights = weights * spread_weights(sample_weight, targets)
        self.total.assign_add(ops.sum(weights * self.token_values(targets, y_pred)))
        self.count.assign_add(ops.sum(weights))

    def token_values(self, targets, y_pred):
        """Returns the float32 value of each token; targets below 0 do not count, those of V or more are wrong ids."""
        raise NotImplementedError

    def result(self):
        """Returns the mean over all tokens seen, 0 before the first."""
        return ops.divide_no_nan(self.total.value, self.count.value)


@keras.saving.register_keras_serializable(package="keras_tfm")
class TokenAccuracy(_TokenMean):
    """The share of tokens whose most likely class is the target, over the tokens that are neither padded nor ignored.

    Args:
        ignore_id: target id whose tokens do not count, or `None`. Defaults to 0, the pad id.
        name: name of the metric.
        dtype: dtype of the metric.

    Call arguments:
        y_true: integer targets `[B, T]`.
        y_pred: float logits or probabilities `[B, T, V]`.
        sample_weight: float `[B]` or `[B, T]`.

    Returns:
        float32 scalar in [0, 1]; 0 before the first token.

    Masking:
        A mask `[B, T]` that predictions carry through Keras leaves its False tokens out, besides `ignore_id`. On JAX
        `fit` hands predictions to the metrics without their mask (Keras 3.15), so padding must have `ignore_id` there.

    Raises:
        ValueError: `ignore_id` is no integer, shapes do not fit, or NumPy targets are outside [0, V).

    Example:

    >>> import numpy as np
    >>> accuracy = TokenAccuracy()
    >>> predictions = np.eye(4, dtype="float32")[[[1, 2, 2, 3]]]  # classes 1, 2, 2 and 3
    >>> accuracy.update_state(np.array([[1, 2, 3, 0]]), predictions)  # the last target is padding
    >>> round(float(accuracy.result()), 4)
    0.6667
    """

    def __init__(self, ignore_id=0, name="token_accuracy", dtype=None):
        super().__init__(ignore_id, name, dtype)

    def token_values(self, targets, y_pred):
        """Returns 1 for a token that was predicted, else 0."""
        return ops.cast(ops.cast(ops.argmax(y_pred, axis=-1), "int32") == targets, "float32")


@keras.saving.register_keras_serializable(package="keras_tfm")
class Perplexity(_TokenMean):
    """The exponential of the mean cross-entropy of a token, over the tokens that are neither padded nor ignored.

    The mean is taken over all tokens of all batches before the exponential, so that the split into batches plays no
    part. Label smoothing plays none either.

    Args:
        ignore_id: target id whose tokens do not count, or `None`. Defaults to 0, the pad id.
        from_logits: whether predictions are logits, or else probabilities. Defaults to `True`.
        name: name of the metric.
        dtype: dtype of the metric.

    Call arguments:
        y_true: integer targets `[B, T]`.
        y_pred: float logits or probabilities `[B, T, V]`.
        sample_weight: float `[B]` or `[B, T]`.

    Returns:
        float32 scalar of at least 1; 0 before the first token; NaN after a target outside [0, V).

    Masking:
        A mask `[B, T]` that predictions carry through Keras leaves its False tokens out, besides `ignore_id`. On JAX
        `fit` hands predictions to the metrics without their mask (Keras 3.15), so padding must have `ignore_id` there.

    Raises:
        ValueError: `ignore_id` is no integer, shapes do not fit, or NumPy targets are outside [0, V).

    Example:

    >>> import numpy as np
    >>> perplexity = Perplexity()
    >>> perplexity.update_state(np.array([[5, 2, 0]]), np.zeros((1, 3, 7), "float32"))
    >>> round(float(perplexity.result()), 4)
    7.0
    """

    def __init__(self, ignore_id=0, from_logits=True, name="perplexity", dtype=None):
        super().__init__(ignore_id, name, dtype)
        self.from_logits = from_logits

    def token_values(self, targets, y_pred):
        """Returns the cross-entropy of each token."""
        return token_losses(targets, y_pred, self.from_logits)

    def result(self):
        """Returns the perplexity over all tokens seen, 0 before the first."""
        return ops.where(self.count.value == 0, 0.0, ops.exp(super().result()))

    def get_config(self):
        """Returns the constructor's arguments."""
        return {**super().get_config(), "from_logits": self.from_logits}
