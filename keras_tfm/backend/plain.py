"""Backends without a compiler of their own (numpy, openvino): every name, none of the speed."""

from keras import ops

from keras_tfm.backend.cross_entropy_rule import losses_and_slopes
from keras_tfm.backend.functional import (
    custom_gradient,
    keep_mask,
    linear,
    map_blocks,
    rematerialize,
    scan,
    while_loop,
    write_rows,
    write_slice,
)

__all__ = [
    "KERNELS",
    "compile_loop",
    "custom_gradient",
    "is_traced",
    "keep_mask",
    "linear",
    "linear_cross_entropy",
    "map_blocks",
    "rematerialize",
    "scan",
    "value_range",
    "while_loop",
    "write_rows",
    "write_slice",
]

KERNELS = ()


def compile_loop(function, variables):
    """Returns `function` itself: there is nothing to compile with."""
    return function


def value_range(tensor):
    """Returns `None`: values are not looked at."""
    return None


def is_traced():
    """False: nothing is compiled."""
    return False


def linear_cross_entropy(features, kernel, bias, targets, weights, rule):
    """The weighted sum of the losses, float32 scalar, without gradients."""
    weight = ops.cast(ops.transpose(kernel) if rule.is_tied else kernel, features.dtype)
    total = ops.zeros((), "float32")
    for start in range(0, features.shape[0], rule.chunk_size):
        rows = slice(start, start + rule.chunk_size)
        logits = ops.cast(ops.matmul(features[rows], weight), "float32")
        logits = logits if bias is None else logits + ops.cast(bias, "float32")
        losses, _ = losses_and_slopes(logits, targets[rows], rule)
        total = total + ops.sum(ops.where(weights[rows] == 0, 0.0, losses * weights[rows]))
    return total
