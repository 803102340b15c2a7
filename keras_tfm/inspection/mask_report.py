"""Which padding mask reaches every layer of a Functional model, and the loss."""

from typing import NamedTuple

import keras


class MaskRow(NamedTuple):
    """One call of one layer: name, class, the masks of its inputs and of its output, and what there is to say."""

    layer: str
    kind: str
    received: tuple
    returned: str | None
    remark: str


class MaskReport(NamedTuple):
    """The rows in the order of computation, and for each output the mask that loss and metrics see, or `None`."""

    rows: tuple
    outputs: dict

    def __str__(self):
        width = max([len(row.layer) for row in self.rows] + [12])
        lines = [f"{'layer':{width}}  {'receives':28}  {'returns':20}  remark"]
        for row in self.rows:
            received = ", ".join(mask or "-" for mask in row.received) or "-"
            lines.append(f"{row.layer:{width}}  {received:28}  {row.returned or '-':20}  {row.remark}".rstrip())
        for name, mask in self.outputs.items():
            seen = f"mask of {mask}" if mask else "NO MASK: padding counts like real tokens"
            lines.append(f"{'loss':{width}}  output {name!r}: {seen}")
        return "\n".join(lines)


def mask_report(model, print_fn=print):
    """Prints which implicit mask each layer of a Functional model receives and returns, and which reaches the loss.

    Args:
        model: a built Functional or Sequential `keras.Model`.
        print_fn: what prints the report; `None` to print nothing.

    Returns:
        A `MaskReport`. A mask is named after the layer that made it; a layer that drops a mask it was given is
        remarked on.

    Raises:
        ValueError: the model is no Functional model, so that there is no graph to follow.

    Example:

    >>> import keras, keras_tfm
    >>> ids = keras.Input((None,), dtype="int32", name="ids")
    >>> x = keras_tfm.layers.PositionalEmbedding(9, 9, 8, mask_zero=True, name="embed")(ids)
    >>> x = keras_tfm.layers.TransformerEncoder(16, 2, name="block")(x)
    >>> mask_report(keras.Model(ids, x), print_fn=None).outputs
    {'block': 'embed'}
    """
    outputs = keras.tree.flatten(getattr(model, "outputs", None) or [])
    if not outputs:
        raise ValueError(
            f"`model` must be a built Functional model: others have no graph to follow. Received: model={model!r}"
        )
    makers, rows, done = {}, [], set()
    for tensor in outputs:
        _visit(tensor, makers, rows, done)
    seen = {_name(tensor): _maker(tensor, makers) for tensor in outputs}
    report = MaskReport(tuple(rows), seen)
    if print_fn is not None:
        print_fn(str(report))
    return report


# Keras keeps the graph in these attributes: a tensor's `_keras_history`, an operation's `_inbound_nodes`, a mask in
# `_keras_mask`.
def _node(tensor):
    history = tensor._keras_history
    return history.operation, history.operation._inbound_nodes[history.node_index]


def _visit(tensor, makers, rows, done):
    operation, node = _node(tensor)
    if id(node) in done:
        return
    done.add(id(node))
    parents = _without_masks(node.input_tensors)
    for parent in parents:
        _visit(parent, makers, rows, done)
    if isinstance(operation, keras.layers.InputLayer):
        return
    received = tuple(_maker(parent, makers) for parent in parents)
    output = node.outputs[0]
    mask = _mask(output)
    if mask is not None and id(mask) not in makers:
        makers[id(mask)] = (mask, operation.name)
    returned = _maker(output, makers)
    rows.append(
        MaskRow(operation.name, type(operation).__name__, received, returned, _remark(received, returned, output))
    )


def _without_masks(tensors):
    """The tensors but for implicit masks of others among them: Keras hands those on as arguments too."""
    masks = {id(_mask(tensor)) for tensor in tensors}
    return [tensor for tensor in tensors if id(tensor) not in masks]


def _mask(tensor):
    return getattr(tensor, "_keras_mask", None)


def _maker(tensor, makers):
    mask = _mask(tensor)
    return None if mask is None else makers.setdefault(id(mask), (mask, _name(mask)))[1]


def _name(tensor):
    return tensor._keras_history.operation.name


def _remark(received, returned, output):
    masks = [mask for mask in received if mask is not None]
    if not masks or returned is not None:
        return ""
    if len(output.shape) < 3:
        return "the mask ends here: one value a sequence"
    return "MASK LOST HERE"
