"""Panels: stretches of queries with the keys that they can see at most, as far as that is known before any value."""

import keras

# More would save little of what a causal mask hides, and each is compiled, which takes JAX longer than TensorFlow.
PANELS = 16 if keras.backend.backend() == "tensorflow" else 8


def query_panels(mask, query_length, key_length, size):
    """Cuts the queries where that saves keys, and where blocks end.

    Args:
        mask: an `AttentionMask`, not yet cut.
        query_length, key_length: T and S, integers.
        size: queries of a block.

    Returns:
        List of `(start, stop, first, last)`: queries from `start` to `stop`, whole blocks or less than one, see no key
        outside `first` to `last`.

    Example:

    >>> from keras_tfm.ops.masks import AttentionMask
    >>> query_panels(AttentionMask(is_causal=True), 7, 7, 2)
    [(0, 2, 0, 2), (2, 4, 0, 4), (4, 6, 0, 6), (6, 7, 0, 7)]
    >>> query_panels(AttentionMask(), 7, 7, 2)
    [(0, 6, 0, 7), (6, 7, 0, 7)]
    """
    num_blocks = query_length // size
    num_panels = min(PANELS, num_blocks) if _hides_keys(mask) else min(1, num_blocks)
    ends = [num_blocks * i // num_panels * size for i in range(1, num_panels + 1)]
    ends += [query_length] if num_blocks * size < query_length else []
    starts = [0, *ends[:-1]]
    return [(start, stop, *_reach(mask, start, stop, key_length)) for start, stop in zip(starts, ends, strict=True)]


def _hides_keys(mask):
    is_hiding = _is_indexed(mask) and (mask.is_causal or mask.window is not None)
    return is_hiding or any(_hides_keys(each) for each in mask.all_of)


def _is_indexed(mask):
    has_positions = mask.query_positions is not None or mask.key_positions is not None
    return not has_positions and isinstance(mask.query_offset, int)


def _reach(mask, start, stop, key_length):
    """The keys that queries from `start` to `stop` can see: never none."""
    first, last = 0, key_length
    if _is_indexed(mask):
        nearest, farthest = start + mask.query_offset, stop - 1 + mask.query_offset
        if mask.is_causal and mask.prefix_length is None:
            last = min(last, farthest + 1)
        if mask.window is not None:
            first, last = max(first, nearest - mask.window + 1), min(last, farthest + mask.window)
    for each in mask.all_of:
        others = _reach(each, start, stop, key_length)
        first, last = max(first, others[0]), min(last, others[1])
    first = min(first, key_length - 1)
    return first, max(last, first + 1)
