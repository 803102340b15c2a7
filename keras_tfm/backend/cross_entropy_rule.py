"""What all backends share of the cross-entropy of a linear map: its settings, and the losses and slopes of a chunk."""

from typing import NamedTuple

from keras import ops


class CrossEntropyRule(NamedTuple):
    """Settings of a linear cross-entropy.

    Args:
        is_tied: whether the kernel is `[V, D]`, or else `[D, V]`.
        label_smoothing: share of the target that goes to all classes.
        logit_soft_cap: logits z become `cap * tanh(z / cap)`; `None` leaves them.
        chunk_size: C, how many tokens are worked on at once.
    """

    is_tied: bool
    label_smoothing: float
    logit_soft_cap: float | None
    chunk_size: int


def capped(logits, rule):
    """Logits after the soft cap, where there is one."""
    cap = rule.logit_soft_cap
    return logits if cap is None else cap * ops.tanh(logits / cap)


def losses_and_normalizers(logits, targets, rule):
    """Losses float32 `[C]` of float32 logits `[C, V]` before the cap, and the logarithms of their sums `[C, 1]`."""
    smoothing = rule.label_smoothing
    logits = capped(logits, rule)
    largest = ops.max(logits, axis=-1, keepdims=True)
    normalizers = ops.log(ops.sum(ops.exp(logits - largest), axis=-1, keepdims=True)) + largest
    losses = normalizers[:, 0] - (1.0 - smoothing) * ops.take_along_axis(logits, targets[:, None], axis=-1)[:, 0]
    if smoothing:
        losses = losses - smoothing * ops.mean(logits, axis=-1)
    return losses, normalizers


def slopes_of(logits, normalizers, targets, rule, num_classes):
    """Slopes `[C, W]` of the losses by logits `[C, W]` of W of the classes, from the first of which `targets` count."""
    smoothing = rule.label_smoothing
    logits = capped(logits, rule)
    is_target = ops.arange(logits.shape[-1], dtype="int32") == targets[:, None]
    other = smoothing / num_classes
    slopes = ops.exp(logits - normalizers) - ops.where(is_target, 1.0 - smoothing + other, other)
    if rule.logit_soft_cap is not None:
        slopes = slopes * (1.0 - ops.square(logits / rule.logit_soft_cap))
    return slopes
