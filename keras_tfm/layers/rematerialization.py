"""Rematerialization of blocks: what of a block is kept for the gradient, and what is computed again."""

from keras import ops

from keras_tfm import backend
from keras_tfm.layers.block_function import BlockFunction

REMATERIALIZATIONS = ("full", "selective")


def check_rematerialization(value):
    """Refuses what is neither `None` nor a name from `REMATERIALIZATIONS`."""
    if value not in (None, *REMATERIALIZATIONS):
        raise ValueError(
            f"`rematerialization` must be None or one of {sorted(REMATERIALIZATIONS)}. "
            f"Received: rematerialization={value!r}"
        )


def rematerialize(function, kind, is_looped=False):
    """A function of tensors that keeps for its gradient what `kind` says: `None` for everything.

    Args:
        function: a `BlockFunction`.
        kind: `None`, `"full"` or `"selective"`.
        is_looped: whether it is called in the body of a loop.
    """
    if kind is None:
        return function
    return backend.rematerialize(function, keeps_products=kind == "selective", is_looped=is_looped)


def call_rematerialized(block, x, arguments, kind, layer):
    """Calls a block so that of its intermediate results only some are kept.

    Dropout draws the same when it is computed again: the block is a function of the states of its random generators,
    and what it assigns to them and to other variables is assigned once, here.

    Args:
        block: a built layer.
        x: float `[B, T, D]`.
        arguments: of the call, by name.
        kind: `"full"` or `"selective"`.
        layer: the layer that calls the block; it gets the losses.

    Returns:
        `(x, rest)`: the stream, and a list of what else the block returned.
    """
    function = BlockFunction(block, arguments)
    values = [variable.value for variable in function.variables]
    x, rest, assigned, losses = rematerialize(function, kind)(values, x, function.floats)
    for place, value in assigned.items():
        values[place] = ops.copy(values[place])  # PyTorch assigns in place: the old value is needed once more
        function.variables[place].assign(value)
    function.hand_losses_to(layer, losses)
    return x, rest
