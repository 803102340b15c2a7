"""The calls of a Functional model as a list, in order, to be run again with other tensors or other arguments."""

import keras


class Slot:
    """The place of a tensor in a run."""

    def __init__(self, number):
        self.number = number


class LayerCall:
    """One call of a layer or an operation.

    Args:
        layer: what is called.
        args, kwargs: its arguments, a `Slot` in the place of each tensor.
        outputs: `Slot`s, in the order of the flat outputs.
    """

    def __init__(self, layer, args, kwargs, outputs):
        self.layer, self.args, self.kwargs, self.outputs = layer, args, kwargs, outputs

    @property
    def slots(self):
        """The slots that are read."""
        return [x for x in keras.tree.flatten((self.args, self.kwargs)) if isinstance(x, Slot)]

    def arguments(self, values):
        """`(args, kwargs)` with the tensors that `values` has for the slots."""
        return fill((self.args, self.kwargs), values)

    def run(self, values):
        """Calls the layer and puts its outputs into `values`."""
        args, kwargs = self.arguments(values)
        self.store(values, self.layer(*args, **kwargs))

    def store(self, values, outputs):
        """Puts outputs into `values`."""
        for slot, output in zip(self.outputs, keras.tree.flatten(outputs), strict=True):
            values[slot.number] = output


def fill(tree, values):
    """`tree` with the values of its slots."""
    return keras.tree.map_structure(lambda x: values[x.number] if isinstance(x, Slot) else x, tree)


def trace_calls(model):
    """The calls of a Functional model.

    Returns:
        `(inputs, calls, outputs)`: slots by the names of the model's inputs, a list of `LayerCall`, and the slots of
        the flat outputs.

    Raises:
        ValueError: the model is no Functional or Sequential one.
    """
    if not model.inputs:
        raise ValueError(
            "`model` must be a Functional or Sequential model, whose calls can be followed. "
            f"Received: {type(model).__name__} {model.name!r}"
        )
    slots, calls = {}, []

    def slot_of(x):
        if not isinstance(x, keras.KerasTensor):
            return x
        return slots.setdefault(id(x), (Slot(len(slots)), x))[0]  # `x` is kept, so that its id stays its own

    def record(layer, *args, **kwargs):
        outputs = layer(*args, **kwargs)
        args, kwargs = keras.tree.map_structure(slot_of, (args, kwargs))
        calls.append(LayerCall(layer, args, kwargs, [slot_of(x) for x in keras.tree.flatten(outputs)]))
        return outputs

    functional = keras.Model(model.inputs, model.outputs) if isinstance(model, keras.Sequential) else model
    clone = keras.models.clone_model(functional, clone_function=lambda layer: layer, call_function=record)
    names = [_input_name(x) for x in model.inputs]
    inputs = dict(zip(names, (slot_of(x) for x in clone.inputs), strict=True))
    calls = [call for call in calls if not isinstance(call.layer, keras.layers.InputLayer)]
    return inputs, calls, [slot_of(x) for x in keras.tree.flatten(clone.outputs)]


def _input_name(tensor):
    return tensor.name
