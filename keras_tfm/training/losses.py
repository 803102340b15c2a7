"""Cross-entropy of tokens, averaged over the tokens that count."""

import numbers

import keras
import numpy as np
from keras import ops


@keras.saving.register_keras_serializable(package="keras_tfm")
class TokenCrossEntropy(keras.losses.Loss):
    """Cross-entropy on integer targets with label smoothing, over the tokens that are neither padded nor ignored.

    For a target y and logits z over V classes the loss of a token is `logsumexp(z) - (1 - ε) z[y] - ε mean(z)`: the
    cross-entropy against a target of `1 - ε` on y plus `ε / V` on every class. No one-hot `[B, T, V]` is made on JAX
    and PyTorch; on TensorFlow XLA fuses it away.

    Args:
        label_smoothing: ε in [0, 1). Defaults to 0.
        ignore_id: target id whose tokens do not count, a negative id such as -100 included; `None` counts every token.
            Defaults to 0, the pad id.
        from_logits: whether predictions are logits, or else probabilities. Defaults to `True`.
        reduction: `"sum_over_batch_size"` or `"mean"` (sum of the weighted losses over the number of tokens that
            count), `"mean_with_sample_weight"` (over the sum of their weights), `"sum"`, or `"none"` (the weighted loss
            of every token, 0 where it does not count). Defaults to `"sum_over_batch_size"`.
        name: name of the loss.

    Call arguments:
        y_true: integer targets `[B, T]`, in [0, V) or `ignore_id`; `[B]` or any other shape works too.
        y_pred: float logits or probabilities `[B, T, V]`.
        sample_weight: float `[B]` or `[B, T]`, weights of the sequences or tokens.

    Returns:
        float32 scalar, or `[B, T]` with `reduction="none"`.

    Masking:
        A mask `[B, T]` that predictions carry through Keras leaves its False tokens out, besides `ignore_id`. Without
        any token that counts the loss is 0.

    Numerics:
        float32 whatever the dtype of the predictions. Probabilities below 1e-7 count as 1e-7. A target outside [0, V)
        that counts makes the loss NaN on every backend, because compiled code cannot raise; NumPy targets raise.

    Raises:
        ValueError: an argument is out of its range, shapes do not fit, or NumPy targets outside [0, V).

    Reference:
        Szegedy et al. 2016, section 7; Vaswani et al. 2017, section 5.4.

    Example:

    >>> import numpy as np
    >>> loss = TokenCrossEntropy(label_smoothing=0.1)
    >>> targets = np.array([[3, 1, 0]])  # the last one is padding
    >>> float(loss(targets, np.zeros((1, 3, 4), "float32"))).__round__(4)  # log 4
    1.3863
    """

    def __init__(
        self,
        label_smoothing=0.0,
        ignore_id=0,
        from_logits=True,
        *,
        reduction="sum_over_batch_size",
        name="token_cross_entropy",
    ):
        if not 0 <= label_smoothing < 1:
            raise ValueError(f"`label_smoothing` must be in [0, 1). Received: label_smoothing={label_smoothing!r}")
        check_ignore_id(ignore_id)
        super().__init__(name=name, reduction=reduction, dtype="float32")
        self.label_smoothing = label_smoothing
        self.ignore_id = ignore_id
        self.from_logits = from_logits

    def __call__(self, y_true, y_pred, sample_weight=None):
        """Returns the reduced loss of `[B, T]` targets and `[B, T, V]` predictions."""
        targets = read_targets(y_true, y_pred, self.ignore_id)
        weights = counts = ops.cast(targets >= 0, "float32")
        if sample_weight is not None:
            weights = counts * spread_weights(sample_weight, targets)
        if self.reduction in ("sum_over_batch_size", "mean"):
            weights = weights * ops.divide_no_nan(ops.cast(ops.size(counts), "float32"), ops.sum(counts))
        # Flat copies carry no mask, so that Keras, which reduces (and scales for tf.distribute), cannot apply it again.
        logits = ops.reshape(y_pred, (-1, y_pred.shape[-1]))
        losses = super().__call__(ops.reshape(targets, (-1,)), logits, ops.reshape(weights, (-1,)))
        return ops.reshape(losses, ops.shape(targets)) if self.reduction in (None, "none") else losses

    def call(self, y_true, y_pred):
        """Returns the unweighted loss of every token `[...]`; a negative target has none."""
        return token_losses(ops.cast(y_true, "int32"), y_pred, self.from_logits, self.label_smoothing)

    def get_config(self):
        """Returns the constructor's arguments."""
        return {
            **super().get_config(),
            "label_smoothing": self.label_smoothing,
            "ignore_id": self.ignore_id,
            "from_logits": self.from_logits,
        }


def check_ignore_id(ignore_id):
    """Raises unless the id is `None` or an integer."""
    if ignore_id is not None and (isinstance(ignore_id, bool) or not isinstance(ignore_id, numbers.Integral)):
        raise ValueError(f"`ignore_id` must be an integer or None. Received: ignore_id={ignore_id!r}")


def read_targets(y_true, y_pred, ignore_id):
    """Returns int32 targets `[...]` of `y_pred` `[..., V]`: -1 if a token does not count, V if the id is wrong."""
    y_true = y_true if hasattr(y_true, "shape") else np.asarray(y_true)
    if len(y_true.shape) == len(y_pred.shape) and y_true.shape[-1] == 1:
        y_true = y_true[..., 0]
    if len(y_true.shape) != len(y_pred.shape) - 1:
        raise ValueError(
            "`y_true` must have the shape of `y_pred` without its last axis, the classes. "
            f"Received: y_true.shape={tuple(y_true.shape)}, y_pred.shape={tuple(y_pred.shape)}"
        )
    num_classes = y_pred.shape[-1]
    if isinstance(y_true, np.ndarray):
        _check_ids(y_true, num_classes, ignore_id)
    targets = ops.cast(y_true, "int32")
    counts = _MaskReader(keras.backend.standardize_dtype(y_pred.dtype))(0.0, y_pred) > 0
    if ignore_id is not None:
        counts = ops.logical_and(counts, targets != ignore_id)
    inside = ops.logical_and(targets >= 0, targets < num_classes)
    return ops.where(counts, ops.where(inside, targets, num_classes), -1)


def spread_weights(sample_weight, targets):
    """Returns sample weights `[B]`, `[B, 1]` or `[B, T]` as float32 of the shape of `targets`, `[B, T]`."""
    weights = ops.cast(sample_weight, "float32")
    rank = len(targets.shape)
    if len(weights.shape) == rank + 1 and weights.shape[-1] == 1:
        weights = weights[..., 0]
    if len(weights.shape) > rank:
        raise ValueError(
            "`sample_weight` must have one value for each sequence or each token. "
            f"Received: sample_weight.shape={tuple(weights.shape)} for targets of shape {tuple(targets.shape)}"
        )
    weights = ops.reshape(weights, (*ops.shape(weights), *[1] * (rank - len(weights.shape))))
    return ops.broadcast_to(weights, ops.shape(targets))


def token_losses(targets, predictions, from_logits=True, label_smoothing=0.0):
    """Returns float32 cross-entropies `[...]` for `[..., V]`: 0 for a target below 0, NaN for one of V or more."""
    predictions = ops.cast(predictions, "float32")
    num_classes = predictions.shape[-1]
    safe = ops.clip(targets, 0, num_classes - 1)
    if from_logits:
        # The fastest form differs. Milliseconds with gradient for 4096 x 8000 on 2 cores, this form against the others:
        # PyTorch 168 : 264-560, TensorFlow 59 : 82-182 (XLA 35 : 32-55), JAX 94 : 132-194.
        form = {"torch": _from_log_softmax, "tensorflow": _from_weights}.get(keras.backend.backend(), _from_gather)
        losses = form(safe, predictions, label_smoothing)
    else:
        losses = _from_log_probabilities(safe, ops.log(ops.maximum(predictions, 1e-7)), label_smoothing)
    losses = ops.where(targets < num_classes, losses, float("nan"))
    return ops.where(targets < 0, 0.0, losses)


def _from_log_softmax(targets, logits, smoothing):
    return _from_log_probabilities(targets, ops.log_softmax(logits, axis=-1), smoothing)


def _from_log_probabilities(targets, log_probabilities, smoothing):
    losses = -_pick(log_probabilities, targets)
    if smoothing == 0:
        return losses
    return (1.0 - smoothing) * losses - smoothing * ops.mean(log_probabilities, axis=-1)


def _from_gather(targets, logits, smoothing):
    losses = ops.logsumexp(logits, axis=-1) - (1.0 - smoothing) * _pick(logits, targets)
    return losses if smoothing == 0 else losses - smoothing * ops.mean(logits, axis=-1)


def _from_weights(targets, logits, smoothing):
    num_classes = logits.shape[-1]
    is_target = ops.arange(num_classes, dtype="int32") == targets[..., None]
    if smoothing == 0:
        weighted = ops.where(is_target, logits, 0.0)
    else:
        other = smoothing / num_classes
        weighted = ops.where(is_target, 1.0 - smoothing + other, other) * logits
    return ops.logsumexp(logits, axis=-1) - ops.sum(weighted, axis=-1)


def _pick(values, targets):
    return ops.take_along_axis(values, targets[..., None], axis=-1)[..., 0]


def _check_ids(y_true, num_classes, ignore_id):
    wrong = (y_true < 0) | (y_true >= num_classes)
    if ignore_id is not None:
        wrong &= y_true != ignore_id
    if wrong.any():
        raise ValueError(
            f"`y_true` must be in [0, {num_classes}), the classes of `y_pred`, or ignore_id={ignore_id}. "
            f"Received: y_true={y_true[wrong][0]} at {tuple(int(i) for i in np.argwhere(wrong)[0])}"
        )


class _MaskReader(keras.losses.Loss):
    """Gives the mask that Keras attached to a tensor, as 1 and 0: a loss sees it, no public function returns it."""

    def __init__(self, dtype):
        super().__init__(name="mask_reader", reduction="none", dtype=dtype)

    def call(self, y_true, y_pred):
        return ops.ones(ops.shape(y_pred)[:-1], dtype=self.dtype)
