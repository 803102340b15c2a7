"""Mask patterns: who may attend to whom, as a function of positions alone. Small values that combine and serialize.

A pattern is what `MultiHeadAttention(attention_pattern=...)` takes. `a & b` allows what both allow, `a | b` what one
of them does, `~a` what `a` does not.
"""

import dataclasses

import keras
from keras import ops


class MaskPattern:
    """Base class: a frozen dataclass with `allows`.

    Example, Longformer's pattern: a window of 3 and a dilated one, and the first token sees and is seen by all:

    >>> pattern = SlidingWindow(3) | Dilated(size=3, dilation=4) | FirstKeys(1) | FirstQueries(1)
    >>> positions = keras.ops.arange(6)
    >>> keras.ops.convert_to_numpy(pattern.allows(positions[:, None], positions[None])).astype(int).tolist()[5]
    [1, 1, 0, 1, 1, 1]
    """

    def allows(self, query_positions, key_positions):
        """bool `[..., T, S]` from int `[..., T, 1]` and `[..., 1, S]`."""
        raise NotImplementedError

    def __and__(self, other):
        return AllOf((self, other))

    def __or__(self, other):
        return AnyOf((self, other))

    def __invert__(self):
        return NoneOf((self,))

    def get_config(self):
        """The fields."""
        return {field.name: getattr(self, field.name) for field in dataclasses.fields(self)}

    @classmethod
    def from_config(cls, config):
        """The pattern of these fields."""
        return cls(**config)


def _pattern(cls):
    return keras.saving.register_keras_serializable(package="keras_tfm")(dataclasses.dataclass(frozen=True)(cls))


def _check_positive(**sizes):
    for name, size in sizes.items():
        if not isinstance(size, int) or size <= 0:
            raise ValueError(f"`{name}` must be a positive integer. Received: {name}={size!r}")


@_pattern
class Causal(MaskPattern):
    """A query sees itself and what comes before."""

    def allows(self, query_positions, key_positions):
        """See the base class."""
        return query_positions >= key_positions


@_pattern
class SlidingWindow(MaskPattern):
    """A query sees keys nearer than `size` positions, on both sides (Beltagy et al. 2020, section 3.1)."""

    size: int

    def __post_init__(self):
        _check_positive(size=self.size)

    def allows(self, query_positions, key_positions):
        """See the base class."""
        return ops.abs(query_positions - key_positions) < self.size


@_pattern
class Dilated(MaskPattern):
    """A query sees every `dilation`-th key, `size` of them on each side, itself included (Beltagy et al. 2020)."""

    size: int
    dilation: int

    def __post_init__(self):
        _check_positive(size=self.size, dilation=self.dilation)

    def allows(self, query_positions, key_positions):
        """See the base class."""
        distance = ops.abs(query_positions - key_positions)
        return ops.logical_and(distance < self.size * self.dilation, distance % self.dilation == 0)


@_pattern
class FirstKeys(MaskPattern):
    """All see the first `count` keys: global tokens, or the sinks of Xiao et al. 2023."""

    count: int

    def __post_init__(self):
        _check_positive(count=self.count)

    def allows(self, query_positions, key_positions):
        """See the base class."""
        return ops.logical_and(key_positions < self.count, query_positions == query_positions)


@_pattern
class FirstQueries(MaskPattern):
    """The first `count` queries see all."""

    count: int

    def __post_init__(self):
        _check_positive(count=self.count)

    def allows(self, query_positions, key_positions):
        """See the base class."""
        return ops.logical_and(query_positions < self.count, key_positions == key_positions)


@_pattern
class Blocks(MaskPattern):
    """Positions fall into blocks of `size`; a query sees its own, `before` blocks before it and `after` after it."""

    size: int
    before: int = 0
    after: int = 0

    def __post_init__(self):
        _check_positive(size=self.size)

    def allows(self, query_positions, key_positions):
        """See the base class."""
        steps = query_positions // self.size - key_positions // self.size
        return ops.logical_and(steps <= self.before, steps >= -self.after)


@_pattern
class BlockLayout(MaskPattern):
    """Block-sparse: `layout[i][j]` says whether queries of block i see keys of block j (Child et al. 2019).

    Positions past the layout see nothing and are not seen.
    """

    size: int
    layout: tuple

    def __post_init__(self):
        _check_positive(size=self.size)
        layout = tuple(tuple(bool(cell) for cell in row) for row in self.layout)
        if not layout or any(len(row) != len(layout[0]) for row in layout):
            raise ValueError(f"`layout` must be rows of one length. Received: layout={self.layout!r}")
        object.__setattr__(self, "layout", layout)  # a dataclass that is frozen, and lists that came from a config

    def allows(self, query_positions, key_positions):
        """See the base class."""
        rows, columns = len(self.layout), len(self.layout[0])
        query_blocks, key_blocks = query_positions // self.size, key_positions // self.size
        inside = ops.logical_and(query_blocks < rows, key_blocks < columns)
        cells = ops.convert_to_tensor([cell for row in self.layout for cell in row], dtype="bool")
        index = ops.minimum(query_blocks, rows - 1) * columns + ops.minimum(key_blocks, columns - 1)
        return ops.logical_and(inside, ops.take(cells, index))


class _Combination(MaskPattern):
    def __post_init__(self):
        parts = tuple(
            keras.saving.deserialize_keras_object(part) if isinstance(part, dict) else part for part in self.parts
        )
        if not parts or not all(isinstance(part, MaskPattern) for part in parts):
            raise ValueError(f"`parts` must be mask patterns. Received: parts={self.parts!r}")
        object.__setattr__(self, "parts", parts)

    def get_config(self):
        """The patterns it is made of."""
        return {"parts": [keras.saving.serialize_keras_object(part) for part in self.parts]}

    def _each(self, query_positions, key_positions):
        return [part.allows(query_positions, key_positions) for part in self.parts]


@_pattern
class AllOf(_Combination):
    """What every part allows; `a & b`."""

    parts: tuple

    def allows(self, query_positions, key_positions):
        """See the base class."""
        first, *others = self._each(query_positions, key_positions)
        for other in others:
            first = ops.logical_and(first, other)
        return first


@_pattern
class AnyOf(_Combination):
    """What one of the parts allows; `a | b`."""

    parts: tuple

    def allows(self, query_positions, key_positions):
        """See the base class."""
        first, *others = self._each(query_positions, key_positions)
        for other in others:
            first = ops.logical_or(first, other)
        return first


@_pattern
class NoneOf(_Combination):
    """What no part allows; `~a`."""

    parts: tuple

    def allows(self, query_positions, key_positions):
        """See the base class."""
        return ops.logical_not(AnyOf(self.parts).allows(query_positions, key_positions))
