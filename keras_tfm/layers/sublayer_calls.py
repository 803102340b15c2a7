"""Calls of sub-layers, each with the arguments that it takes."""

import inspect

import keras
from keras import ops

from keras_tfm.layers.attention_masks import all_of, as_padding_mask, tokens_at
from keras_tfm.layers.cache_forms import is_stacked_cache
from keras_tfm.layers.dropout import Dropout
from keras_tfm.ops.kv_cache import count_from


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
            if training or not isinstance(layer, Dropout):  # one that drops nothing is not worth a call
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
    if "cache" in arguments and "cache_update_index" not in arguments and _has_more_rows(query, arguments["cache"]):
        return _attend_by_memory(layer, query, value, arguments)
    results = layer(query, value, **arguments)
    if "cache" not in arguments and not returns_scores:
        return results, None, None
    output, *rest = results
    scores = rest.pop(0) if returns_scores else None
    return output, scores, rest[0] if rest else None


def _has_more_rows(query, cache):
    rows, memories = query.shape[0], keras.tree.flatten(cache)[0].shape[0]
    return isinstance(rows, int) and isinstance(memories, int) and rows != memories


def _attend_by_memory(layer, query, value, arguments):
    """Attention of K rows `[B * K, T, D]` to each memory, as of one row with K · T queries: no memory is repeated."""
    memories, (rows, length) = keras.tree.flatten(arguments["cache"])[0].shape[0], query.shape[:2]
    if rows % memories:
        raise ValueError(
            "A static cache must have as many rows as the queries, or a divisor of it. "
            f"Received: {rows} rows of queries, a cache of {memories}"
        )
    times = rows // memories

    def fold(x):
        return ops.reshape(x, (memories, times * length, *x.shape[2:]))

    arguments = dict(arguments)
    if "attention_mask" in arguments:
        arguments["attention_mask"] = fold(arguments["attention_mask"])
    if "query_positions" in arguments:
        positions = arguments["query_positions"]
        arguments["query_positions"] = ops.tile(positions, times) if len(positions.shape) == 1 else fold(positions)
    if "segment_ids" in arguments:
        arguments["segment_ids"] = fold(arguments["segment_ids"])
    output, scores, cache = attend(layer, fold(query), value, **arguments)
    if scores is not None:
        scores = ops.reshape(scores, (memories, scores.shape[1], times, length, -1))
        scores = ops.reshape(ops.transpose(scores, (0, 2, 1, 3, 4)), (rows, -1, length, scores.shape[-1]))
    return ops.reshape(output, (rows, length, *output.shape[2:])), scores, cache


def cross_positions(layer, x, positions, index, memory, cache):
    """The positions of a cross attention that goes by them, where the queries do not simply count from 0.

    Args:
        layer: the cross attention; one without position method, window or pattern needs none.
        x: the queries' tokens `[B, T, D]`.
        positions: where they stand, or `None` for `index` on.
        index: where they stand in the self-attention's cache, or `None` without one.
        memory: what is attended to `[B, S, E]`; not read if there is a cache of it.
        cache: the cross attention's cache, or `None`.

    Returns:
        Call arguments, by name.
    """
    goes_by = (getattr(layer, name, None) for name in ("position", "sliding_window", "attention_pattern"))
    if (positions is None and index is None) or all(part is None for part in goes_by):
        return {}
    if positions is None:
        positions = count_from(index, ops.shape(x)[1])
    if cache is not None:
        memory = cache[:, 0] if is_stacked_cache(cache) else cache[0]
    return {"query_positions": positions, "key_positions": ops.arange(ops.shape(memory)[1], dtype="int32")}


def project_memory(layer, memory, padding_mask):
    """The cache of what a cross attention attends to; the mask goes to layers whose caches need it already."""
    takes_mask = "padding_mask" in inspect.signature(layer.project_memory).parameters
    return layer.project_memory(memory, padding_mask=padding_mask) if takes_mask else layer.project_memory(memory)


def real_tokens(implicit_mask, argument, padding_mask, x, index=None):
    """bool `[B, T]`: which tokens of `x [B, T, D]` are real, or `None` if no mask was given.

    Args:
        implicit_mask: bool `[B, T]` or `None`.
        argument: name of the argument that `padding_mask` came as.
        padding_mask: bool `[B, T]`, with a cache also `[B, M]`, or `None`.
        index: where the T tokens stand in the cache, an int, int32 scalar or int32 `[B]`, or `None`.
    """
    if padding_mask is not None and index is not None and padding_mask.shape[1] != x.shape[1]:
        padding_mask = tokens_at(padding_mask, index, ops.shape(x)[1])
    return all_of([implicit_mask, as_padding_mask(argument, padding_mask, x)])
