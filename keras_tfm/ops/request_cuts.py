"""Requests cut along an axis: pieces of every tensor that has the axis, wherever it lies.

The heads of these requests come first, as products want them: query `[B, N, T, H]`, key `[B, K, H, S]` and value
`[B, K, Hv, S]`.
"""

import dataclasses

from keras import ops


def map_tensors(request, change):
    """A request with `change(tensor, axes)` in place of each tensor.

    Args:
        request: an `AttentionRequest`; biases that are functions stay. Its dropout is a `PlacedDropout` or `None`.
        change: function of a tensor and of one letter for each axis: B, T, S, N, K, or H for sizes of heads.

    Example:

    >>> import keras
    >>> from keras_tfm.ops.attention_request import AttentionRequest
    >>> from keras_tfm.ops.masks import AttentionMask
    >>> heads = keras.ops.ones((2, 3, 5, 4))
    >>> mask = AttentionMask(key_padding=keras.ops.ones((2, 4), "bool"))
    >>> seen = []
    >>> _ = map_tensors(AttentionRequest(heads, heads, heads, mask), lambda x, axes: seen.append(axes))
    >>> seen
    ['BNTH', 'BKHS', 'BKHS', 'BS']
    """
    return dataclasses.replace(
        request,
        query=change(request.query, "BNTH"),
        key=change(request.key, "BKHS"),
        value=change(request.value, "BKHS"),
        biases=tuple(
            bias if callable(bias) else change(bias, "BNTS"[4 - len(bias.shape) :]) for bias in request.biases
        ),
        sink=None if request.sink is None else change(ops.convert_to_tensor(request.sink), "N"),
        dropout=_map_dropout(request.dropout, change),
        mask=_map_mask(request.mask, change),
    )


def _map_dropout(dropout, change):
    if dropout is None:
        return None
    return dataclasses.replace(dropout, rows=change(dropout.rows, "BNT"), columns=change(dropout.columns, "S"))


def _map_mask(mask, change):
    def changed(x, axes):
        return None if x is None else change(ops.convert_to_tensor(x), axes[-len(x.shape) :])

    segments, prefix = mask.segments, mask.prefix_length
    return dataclasses.replace(
        mask,
        key_padding=changed(mask.key_padding, "BS"),
        query_padding=changed(mask.query_padding, "BT"),
        segments=None if segments is None else (changed(segments[0], "BT"), changed(segments[1], "BS")),
        explicit=None if mask.explicit is None else changed(mask.explicit, "BNTS"),
        prefix_length=changed(prefix, "B") if len(getattr(prefix, "shape", ())) else prefix,
        query_positions=changed(mask.query_positions, "BT"),
        key_positions=changed(mask.key_positions, "BS"),
        all_of=tuple(_map_mask(each, change) for each in mask.all_of),
        any_of=tuple(_map_mask(each, change) for each in mask.any_of),
    )


def part_of_mask(mask, lengths, rows, queries, keys):
    """The part of an `AttentionMask` for slices of the batch, of T and of S; `lengths` are T and S."""
    places = {"B": rows, "T": queries, "S": keys}

    def cut(x, axes):
        index = (
            slice(None) if size == 1 else places.get(axis, slice(None))
            for axis, size in zip(axes, x.shape, strict=True)
        )
        return x[tuple(index)]

    return _map_mask(_with_positions(mask, *lengths), cut)


def with_positions(request):
    """A request, heads not yet first, that says where queries and keys stand, so that pieces of it know as well."""
    lengths = request.query_length, request.key_length
    return dataclasses.replace(request, mask=_with_positions(request.mask, *lengths))


def _with_positions(mask, query_length, key_length):
    queries, keys = mask.positions(query_length, key_length)
    return dataclasses.replace(
        mask,
        query_positions=queries,
        key_positions=keys,
        all_of=tuple(_with_positions(each, query_length, key_length) for each in mask.all_of),
        any_of=tuple(_with_positions(each, query_length, key_length) for each in mask.any_of),
    )


def part(request, letter, start, stop):
    """The part from `start` to `stop` along the axis of a letter."""

    def sliced(x, axes):
        axis = _axis(x, axes, letter)
        return x if axis is None else x[(*[slice(None)] * axis, slice(start, stop))]

    return map_tensors(request, sliced)


def attend_to_pieces(request, letters, count, attend, mapping):
    """Cuts a request into pieces of equal sizes, and puts their outputs together.

    Args:
        request: an `AttentionRequest` that says its positions.
        letters: the axes to cut: "T", "B", or "NK" for groups of heads with those that they share.
        count: how many pieces; it divides the sizes of these axes, unless they are 1.
        attend: function of a request that returns `[B, T, N, Hv]`.
        mapping: function of a function and of a list of tensors `[count, ...]`, which stacks what the function returns
            for each slice of them.

    Returns:
        `[B, T, N, Hv]`.
    """
    pieces = []

    def collect(x, axes):
        axis = _axis(x, axes, letters)
        if axis is not None:
            pieces.append(_pieces(x, axis, count))
        return x

    def attend_to_piece(*piece):
        remaining = iter(piece)
        return attend(map_tensors(request, lambda x, axes: x if _axis(x, axes, letters) is None else next(remaining)))

    map_tensors(request, collect)
    if not pieces:
        return attend(request)
    return _joined(mapping(attend_to_piece, pieces), "BTNH".index(letters[0]))


def _axis(x, axes, letters):
    """The axis of `x` that is cut; one of size 1 serves all pieces."""
    found = [axis for axis, letter in enumerate(axes) if letter in letters and x.shape[axis] != 1]
    return found[0] if found else None


def _pieces(x, axis, count):
    """`[count, ...]`, the others as in `x`."""
    shape = list(ops.shape(x))
    return ops.moveaxis(ops.reshape(x, (*shape[:axis], count, shape[axis] // count, *shape[axis + 1 :])), axis, 0)


def _joined(pieces, axis):
    count, *shape = ops.shape(pieces)
    shape[axis] = count * shape[axis]
    return ops.reshape(ops.moveaxis(pieces, 0, axis), shape)
