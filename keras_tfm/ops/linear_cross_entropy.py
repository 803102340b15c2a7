"""The cross-entropy of a linear map: from features to the loss, without the logits of all tokens."""

import numbers

import keras
import numpy as np
from keras import ops

from keras_tfm import backend
from keras_tfm.backend.cross_entropy_rule import CrossEntropyRule

_CHUNK_SIZE = 512  # products of 256 tokens take up to 1.7 times as long on a CPU, 1,024 hold twice as much


def linear_cross_entropy(
    features,
    kernel,
    targets,
    *,
    bias=None,
    weights=None,
    tied=False,
    label_smoothing=0.0,
    ignore_id=None,
    logit_soft_cap=None,
    chunk_size=None,
):
    """The weighted sum of the cross-entropies of `softmax(features kernel + bias)`, a chunk of tokens at a time.

    For a target y and logits z over V classes the loss of a token is `logsumexp(z) - (1 - ε) z[y] - ε mean(z)`. The
    logits of all tokens, `[B, T, V]`, are never held, only those of C tokens. Because the result is one number, the
    gradients of features, kernel and bias are computed chunk by chunk together with it, and only scaled in the backward
    pass: nothing is computed twice. Tokens that do not count are not computed at all.

    Where no gradient is wanted, none is computed: PyTorch, JAX and TensorFlow run eagerly know it beforehand, and in a
    graph of TensorFlow what nobody asks for is left out. TensorFlow run eagerly, with a gradient asked for later,
    computes the logits twice.

    Args:
        features: float `[..., D]`.
        kernel: float `[D, V]`, or with `tied=True` `[V, D]`, as an embedding holds it.
        targets: int `[...]`, classes in `[0, V)`; tokens with a negative one do not count.
        bias: float `[V]`, added to the logits. Defaults to `None`.
        weights: float `[...]`, weights of the tokens. Defaults to `None`: 1 for each.
        tied: whether the kernel is `[V, D]`. Defaults to `False`.
        label_smoothing: ε in [0, 1): the target is `1 - ε` on y plus `ε / V` on every class. Defaults to 0.
        ignore_id: target id whose tokens do not count. Defaults to `None`.
        logit_soft_cap: logits z become `cap * tanh(z / cap)`. Defaults to `None`.
        chunk_size: C, how many tokens are worked on at once. Defaults to `None`: 512.

    Returns:
        float32 scalar, differentiable in features, kernel, bias and weights. Divide the weights by the number of
        tokens that count for a mean.

    Masking:
        Tokens with a negative or ignored target, or with weight 0, count nothing, whatever their features hold. Their
        weights have no gradient. Without any token that counts the result is 0.

    Numerics:
        Products are in the dtype of the features, to which the kernel is cast; softmax, sums and the gradient of the
        kernel, until it is complete, are float32. A target of V or more that counts makes the result NaN on every
        backend, because compiled code cannot raise; NumPy targets raise.

    Raises:
        ValueError: shapes that do not fit, an argument out of its range, or a NumPy target of V or more.

    Reference:
        Hsu et al. 2024, "Liger kernel", fused linear cross-entropy (gradients in the forward pass, chunk by chunk);
        Wijmans et al. 2025, "Cut your losses in large-vocabulary language models"; Gemma Team 2024, "Gemma 2", section
        2 (soft cap).

    Example:

    >>> import keras
    >>> features, kernel = keras.random.normal((2, 5, 8)), keras.ops.zeros((8, 4))
    >>> targets = keras.ops.convert_to_tensor([[3, 1, 0, -1, -1], [2, 2, 0, 1, -1]])
    >>> float(linear_cross_entropy(features, kernel, targets)).__round__(4)  # 7 log 4
    9.7041
    """
    _check_settings(label_smoothing, logit_soft_cap, chunk_size)
    features, kernel = ops.convert_to_tensor(features), ops.convert_to_tensor(kernel)
    targets = targets if hasattr(targets, "shape") else np.asarray(targets)
    _check_shapes(features, kernel, targets, bias, weights, tied)
    num_classes = kernel.shape[0 if tied else 1]
    _check_targets(targets, num_classes, ignore_id)
    targets = ops.reshape(ops.cast(targets, "int32"), (-1,))
    counts = targets >= 0 if ignore_id is None else ops.logical_and(targets >= 0, targets != ignore_id)
    is_wrong = ops.logical_and(counts, targets >= num_classes)
    shares = ops.cast(ops.logical_and(counts, targets < num_classes), "float32")
    if weights is not None:
        weights = ops.reshape(ops.cast(weights, "float32"), (-1,))
        shares = ops.where(shares > 0, weights, 0.0)
    rule = CrossEntropyRule(bool(tied), float(label_smoothing), logit_soft_cap, chunk_size or _CHUNK_SIZE)
    total = backend.linear_cross_entropy(
        ops.reshape(features, (-1, features.shape[-1])),
        kernel,
        None if bias is None else ops.convert_to_tensor(bias),
        ops.clip(targets, 0, num_classes - 1),
        shares,
        rule,
    )
    return total + ops.where(ops.any(is_wrong), float("nan"), 0.0)


def _check_settings(label_smoothing, logit_soft_cap, chunk_size):
    if not 0 <= label_smoothing < 1:
        raise ValueError(f"`label_smoothing` must be in [0, 1). Received: label_smoothing={label_smoothing!r}")
    if logit_soft_cap is not None and not logit_soft_cap > 0:
        raise ValueError(f"`logit_soft_cap` must be positive or None. Received: logit_soft_cap={logit_soft_cap!r}")
    is_integer = isinstance(chunk_size, numbers.Integral) and not isinstance(chunk_size, bool)
    if chunk_size is not None and not (is_integer and chunk_size > 0):
        raise ValueError(f"`chunk_size` must be a positive integer or None. Received: chunk_size={chunk_size!r}")


def _check_shapes(features, kernel, targets, bias, weights, tied):
    shape, sizes = tuple(features.shape), tuple(kernel.shape)
    if not shape or len(sizes) != 2 or sizes[1 if tied else 0] != shape[-1]:
        raise ValueError(
            "`kernel` must be [D, V], or [V, D] with `tied=True`, for `features` [..., D]. "
            f"Received: kernel.shape={sizes}, features.shape={shape}, tied={tied}"
        )
    if bias is not None and tuple(bias.shape) != (sizes[0 if tied else 1],):
        raise ValueError(f"`bias` must be [V]. Received: bias.shape={tuple(bias.shape)}, kernel.shape={sizes}")
    for name, value in (("targets", targets), ("weights", weights)):
        if value is not None and not _fits(tuple(ops.shape(value)), shape[:-1]):
            raise ValueError(
                f"`{name}` must have the shape of `features` without its last axis. "
                f"Received: {name}.shape={tuple(ops.shape(value))}, features.shape={shape}"
            )


def _fits(received, expected):
    """Whether shapes are the same as far as they are known."""
    pairs = zip(received, expected, strict=False)
    known = ((a, b) for a, b in pairs if isinstance(a, int) and isinstance(b, int))
    return len(received) == len(expected) and all(a == b for a, b in known)


def _check_targets(targets, num_classes, ignore_id):
    if "int" not in keras.backend.standardize_dtype(targets.dtype):
        raise ValueError(f"`targets` must be integers. Received: targets.dtype={targets.dtype}")
    if not isinstance(targets, np.ndarray):
        return
    wrong = targets[(targets >= num_classes) & (targets != ignore_id)]
    if wrong.size:
        raise ValueError(
            f"`targets` must be below V={num_classes}, the number of classes, or ignore_id={ignore_id}. "
            f"Received: targets with {wrong[0]}"
        )
