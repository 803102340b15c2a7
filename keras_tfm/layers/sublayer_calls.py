"""Calls of sub-layers, each with the arguments that it takes."""

import inspect

from keras import ops

from keras_tfm.layers.attention_masks import all_of, as_padding_mask


class Steps:
    """Layers that are called in a row, each with one tensor, and with mask and training flag if it takes them.

    It holds layers of the layer that made it, and no weights of its own.

    Args:
        layers: list of layers; `None` among them is left out.
    """

    def __init__(self, layers):
        self._steps = [(layer, _options_of(layer)) for layer in layers if layer is not None]

    def __call__(self, x, mask, training):
        """Calls them on `x [B, T, D]`; `mask` is bool `[B, T]`, True at real tokens, or `None`."""
        options = {"mask": mask, "training": training}
        for layer, names in self._steps:
            x = layer(x, **{name: options[name] for name in names})
        return x


def _options_of(layer):
    parameters = inspect.signature(layer.call).parameters
    return [name for name in ("mask", "training") if name in parameters]


def attend(layer, query, value, **arguments):
    """Calls an attention layer with the arguments that are not `None`.

    Returns:
        `(output, scores or None, cache or None)`.
    """
    arguments = {name: argument for name, argument in arguments.items() if argument is not None}
    returns_scores = arguments.get("return_attention_scores", False)
    results = layer(query, value, **arguments)
    if "cache" not in arguments and not returns_scores:
        return results, None, None
    output, *rest = results
    scores = rest.pop(0) if returns_scores else None
    return output, scores, rest[0] if rest else None


def real_tokens(implicit_mask, argument, padding_mask, x, index=None):
    """bool `[B, T]`: which tokens of `x [B, T, D]` are real, or `None` if no mask was given.

    Args:
        implicit_mask: bool `[B, T]` or `None`.
        argument: name of the argument that `padding_mask` came as.
        padding_mask: bool `[B, T]`, with a cache also `[B, M]`, or `None`.
        index: where the T tokens stand in the cache, or `None`.
    """
    if padding_mask is not None and index is not None and padding_mask.shape[1] != x.shape[1]:
        padding_mask = ops.slice(padding_mask, (0, index), (ops.shape(padding_mask)[0], ops.shape(x)[1]))
    return all_of([implicit_mask, as_padding_mask(argument, padding_mask, x)])
