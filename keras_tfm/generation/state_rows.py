"""Rows of a model's state: repeated for beams and samples, and put into the order of the hypotheses."""

from typing import Any, NamedTuple

from keras import ops


class Unchanging(NamedTuple):
    """A part of the state that every step reads and none changes, such as an encoder's output.

    It is neither repeated nor reordered: its leaves keep B rows where tokens have R = B · K, row r belonging to
    sentence r // K. A step could close over it instead, but compiled loops want to be told what they read.

    Args:
        value: pytree of tensors `[B, ...]`.

    Example:

    >>> state = (ops.ones((2, 3)), Unchanging(ops.ones((2, 5))))
    >>> [tuple(leaf.shape) for leaf in (lambda repeated: (repeated[0], repeated[1].value))(repeat_rows(state, 4))]
    [(8, 3), (2, 5)]
    """

    value: Any


def map_rows(function, state, by_part=None):
    """`state` with `function` applied to each leaf that changes, and `by_part` to each part that reorders itself."""
    if isinstance(state, Unchanging):
        return state
    if by_part is not None and hasattr(state, "reorderable"):
        return by_part(state)
    if isinstance(state, dict):
        return {key: map_rows(function, value, by_part) for key, value in state.items()}
    if isinstance(state, tuple) and hasattr(state, "_fields"):
        return type(state)(*(map_rows(function, each, by_part) for each in state))
    if isinstance(state, (tuple, list)):
        return type(state)(map_rows(function, each, by_part) for each in state)
    return function(state)


def repeat_rows(state, times):
    """`state` with each row `times` times in a row."""
    return map_rows(lambda leaf: ops.repeat(leaf, times, axis=0), state)


def take_rows(state, rows):
    """The rows int `[R]` of `state`, in their order."""
    return map_rows(lambda leaf: ops.take(leaf, rows, axis=0), state, lambda part: part.reorder(rows))


def make_reorderable(state, group):
    """`state`, about to be reordered at each step among every `group` rows.

    Its parts that prepare for that have a method `reorderable`.
    """
    return map_rows(lambda leaf: leaf, state, lambda part: part.reorderable(group))
