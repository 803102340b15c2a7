"""Blocks as functions of the values of their variables: what loops over blocks and rematerialization are made of."""

import weakref

import keras
from keras import ops


class BlockFunction:
    """A built block without side effects: what it would assign and the losses it would add are returned.

    Args:
        block: a built layer.
        arguments: of its calls, by name. Float tensors among them may be replaced in a call, see `floats`.

    The attributes are `variables`, those of the block, and `floats`, the float tensors among the arguments by name.
    """

    def __init__(self, block, arguments):
        self._block, self._arguments = block, arguments
        self._losses = []
        self.variables = block.variables
        self.floats = {name: value for name, value in arguments.items() if _is_float(value)}

    def __call__(self, values, x, floats):
        """Calls the block.

        Args:
            values: list of tensors, one for each of the variables.
            x: float `[B, T, D]`.
            floats: as the attribute, by the same names.

        Returns:
            `(x, rest, assigned, losses)`: the stream, a list of what else the block returned, what it assigned by the
            place of the variable, and a list of scalars.
        """
        mapping = list(zip(self.variables, values, strict=True))
        scope = keras.StatelessScope(state_mapping=mapping, collect_losses=True, initialize_variables=False)
        given = [scope.get_current_value(variable) for variable in self.variables]
        with scope:
            results = self._block(x, **{**self._arguments, **floats})
        x, *rest = results if isinstance(results, tuple) else (results,)
        after = [scope.get_current_value(variable) for variable in self.variables]
        assigned = {i: new for i, (old, new) in enumerate(zip(given, after, strict=True)) if new is not old}
        self._losses += scope.losses
        return x, rest, assigned, scope.losses

    def hand_losses_to(self, layer, losses):
        """Adds to a layer what the calls returned as losses, or sums of them.

        Keras 3.15 knows in a stateless scope by `id` which layer added a loss. Layers of the block know the ids of
        their own, so that these must live as long as those that stand for them: an id may be given again.
        """
        for loss in losses:
            layer.add_loss(loss)
            weakref.finalize(loss, list, self._losses).atexit = False


def _is_float(value):
    return ops.is_tensor(value) and "float" in keras.backend.standardize_dtype(value.dtype)


class Uncast(keras.layers.Layer):
    """Runs a function where variables are read in their own dtype, so that each part of a block casts them itself."""

    def __init__(self):
        super().__init__(autocast=False)
        self.supports_masking = True
        self.built = True

    def call(self, x, function):
        """`function(x)`."""
        return function(x)
