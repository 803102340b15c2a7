"""Blocks in a row as a loop with one body, which takes the time of one block to compile."""

import keras

from keras_tfm import backend
from keras_tfm.layers.block_function import BlockFunction
from keras_tfm.layers.rematerialization import rematerialize

LAYER_LOOPS = ("unrolled", "scan")


def check_layer_loop(layer_loop, num_layers, num_distinct_layers, stochastic_depth):
    """Refuses names that are not known, and stacks whose blocks cannot be one body."""
    if layer_loop not in LAYER_LOOPS:
        raise ValueError(f"`layer_loop` must be one of {sorted(LAYER_LOOPS)}. Received: layer_loop={layer_loop!r}")
    if layer_loop == "unrolled":
        return
    if num_layers % (num_distinct_layers or num_layers):
        raise ValueError(
            "With `layer_loop='scan'` each block must be passed equally often: `num_distinct_layers` must divide "
            f"`num_layers`. Received: num_distinct_layers={num_distinct_layers}, num_layers={num_layers}"
        )
    if stochastic_depth and num_distinct_layers != 1:
        raise ValueError(
            "With `layer_loop='scan'` all blocks have one body, and `stochastic_depth` has a rate of its own for each. "
            f"Received: layer_loop='scan', stochastic_depth={stochastic_depth!r}"
        )


class ScannedBlocks:
    """Blocks of one configuration, called in a row as one loop over their stacked variables.

    Args:
        blocks: built blocks.
        num_layers: L, a multiple of their number; each is passed that often in a row.
        arguments: of all calls, by name.
        rematerialization: as `TransformerStack` has it.

    Raises:
        ValueError: the variables of the blocks do not correspond.
    """

    def __init__(self, blocks, num_layers, arguments, rematerialization=None):
        self._function = BlockFunction(blocks[0], arguments)
        self._call = rematerialize(self._function, rematerialization, is_looped=True)
        self._num_blocks, self._num_passes = len(blocks), num_layers // len(blocks)
        self._columns = _columns(blocks)
        # Variables that all blocks share, as those of a position method, are not stacked. What a block assigns to them
        # has to reach the next one.
        shared = {i for i, column in enumerate(self._columns) if all(each is column[0] for each in column)}
        states = {i for i, column in enumerate(self._columns) if not column[0].trainable}
        self._own = sorted(set(range(len(self._columns))) - shared)
        self._own_states = [i for i in self._own if i in states]
        self._shared_states = sorted(shared & states)

    def __call__(self, x, layer):
        """Passes `x [B, T, D]` through all blocks; `layer`, which calls them, gets their losses.

        Returns:
            `(x, outputs)`: the stream, and for each pass a list of what else the block returned.
        """
        self._fixed = [column[0].value for column in self._columns]
        shared = {i: self._fixed[i] for i in self._shared_states}
        own = [{i: self._columns[i][b].value for i in self._own} for b in range(self._num_blocks)]
        if self._num_blocks == 1:
            (x, shared), output = self._all_passes((x, shared), {})
            outputs = [output]
        else:
            (x, shared), outputs = backend.scan(self._all_passes, (x, shared), own, self._num_blocks)
        for i, value in shared.items():
            self._columns[i][0].assign(value)
        for b, (_, assigned) in enumerate(outputs):
            for i, value in assigned.items():
                self._columns[i][b].assign(value)
        passes = [each for of_block, _ in outputs for each in of_block]
        self._function.hand_losses_to(
            layer, [sum(losses) for losses in zip(*(losses for _, losses in passes), strict=True)]
        )
        return x, [rest for rest, _ in passes]

    def _all_passes(self, carry, own):
        """All passes of one block, each with what the one before has assigned."""
        if self._num_passes == 1:
            carry, (each, assigned) = self._pass(carry, own)
            return carry, ([each], assigned)
        states = {i: own[i] for i in self._own_states}

        def body(carry, _):
            carry, states = carry
            carry, (each, assigned) = self._pass(carry, {**own, **states})
            return (carry, {**states, **assigned}), each

        (carry, after), outputs = backend.scan(body, (carry, states), [{}] * self._num_passes, self._num_passes)
        return carry, (outputs, after)

    def _pass(self, carry, own):
        x, shared = carry
        given = {**shared, **own}
        values = [given.get(i, fixed) for i, fixed in enumerate(self._fixed)]
        x, rest, assigned, losses = self._call(values, x, self._function.floats)
        of_shared = {i: assigned.pop(i, value) for i, value in shared.items()}
        return (x, of_shared), ((rest, losses), assigned)


def _columns(blocks):
    """For each variable of a block, those of all blocks that correspond to it."""
    rows = [block.variables for block in blocks]
    for block, row in zip(blocks, rows, strict=True):
        if _signature(row) != _signature(rows[0]):
            raise ValueError(
                "With `layer_loop='scan'` all `blocks` must have the same variables: quantize all or none, and give "
                "all a LoRA of one rank. "
                f"Received: layer_loop='scan', {_difference(blocks[0], rows[0], block, row)}"
            )
    return list(zip(*rows, strict=True))


def _signature(variables):
    return [(tuple(variable.shape), keras.backend.standardize_dtype(variable.dtype)) for variable in variables]


def _difference(first, first_variables, block, variables):
    if len(variables) != len(first_variables):
        return f"{len(first_variables)} variables in {first.name}, {len(variables)} in {block.name}"
    pairs = zip(_signature(first_variables), _signature(variables), variables, strict=True)
    path, one, other = next((variable.path, one, other) for one, other, variable in pairs if one != other)
    return f"{other} at {path}, {one} in {first.name}"
