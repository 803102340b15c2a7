"""Rules that look at the position and the newest token only: forbidden, allowed, forced and favoured tokens."""

import dataclasses
import math
from collections.abc import Callable, Mapping

import numpy as np
from keras import ops

from keras_tfm.generation.logit_rule import LogitRule
from keras_tfm.generation.number_checks import check_number
from keras_tfm.generation.step_protocol import check_ids, check_integer
from keras_tfm.generation.token_history import ids_mask, remember, start_history


@dataclasses.dataclass(frozen=True)
class ForbiddenTokens(LogitRule):
    """Tokens that never come.

    Args:
        ids: Python integer, or several.

    Raises:
        ValueError: on an id that is no integer of at least 0, or, at the first step, not in the vocabulary.

    Example:

    >>> logits, _ = ForbiddenTokens([0, 2])(ops.convert_to_tensor([[1.0, 3.0, 2.0]]), None, 0, ())
    >>> print(ops.convert_to_numpy(logits))
    [[-inf   3. -inf]]
    """

    ids: tuple

    def __post_init__(self):
        """Checks the settings."""
        object.__setattr__(self, "ids", _ids("ids", self.ids))

    def __call__(self, logits, tokens, index, memory):
        """See `LogitRule`."""
        return ops.where(ids_mask("ids", self.ids, logits.shape[-1]), -np.inf, logits), memory


@dataclasses.dataclass(frozen=True)
class AllowedTokens(LogitRule):
    """The only tokens that come.

    Args:
        ids: Python integer, or several; END is among them if the text shall end.

    Raises:
        ValueError: on an id that is no integer of at least 0, or, at the first step, not in the vocabulary.

    Example:

    >>> logits, _ = AllowedTokens([0, 2])(ops.convert_to_tensor([[1.0, 3.0, 2.0]]), None, 0, ())
    >>> print(ops.convert_to_numpy(logits))
    [[  1. -inf   2.]]
    """

    ids: tuple

    def __post_init__(self):
        """Checks the settings."""
        object.__setattr__(self, "ids", _ids("ids", self.ids))

    def __call__(self, logits, tokens, index, memory):
        """See `LogitRule`."""
        return ops.where(ids_mask("ids", self.ids, logits.shape[-1]), logits, -np.inf), memory


@dataclasses.dataclass(frozen=True)
class ForcedTokens(LogitRule):
    """Tokens that must come at given positions, with log-probability 0.

    Args:
        pairs: pairs `(index, id)` of Python integers, or a dict; index 0 is the first decoded token.

    Raises:
        ValueError: on what is no pair of integers of at least 0, on two ids at one index, or, at the first step, on an
            id that is not in the vocabulary.

    Example:

    >>> rule = ForcedTokens([(0, 2)])
    >>> logits, _ = rule(ops.convert_to_tensor([[1.0, 3.0, 2.0]]), None, ops.convert_to_tensor(0), ())
    >>> print(ops.convert_to_numpy(logits))
    [[-inf -inf   0.]]
    """

    pairs: tuple

    def __post_init__(self):
        """Checks the settings."""
        object.__setattr__(self, "pairs", _pairs("pairs", self.pairs, check_integer, 0))

    def __call__(self, logits, tokens, index, memory):
        """See `LogitRule`."""
        for position, token in self.pairs:
            forced = only((token,), logits.shape[-1], "pairs")
            logits = ops.where(ops.equal(index, position), forced, logits)
        return logits, memory


@dataclasses.dataclass(frozen=True)
class LogitBias(LogitRule):
    """Adds a number to the logits of given tokens.

    Args:
        biases: dict `{id: bias}`, or pairs; a bias is a finite number, or -inf, which forbids the token.

    Raises:
        ValueError: on a bias or an id that is none, or, at the first step, on an id that is not in the vocabulary.

    Example:

    >>> logits, _ = LogitBias({1: -4.0})(ops.convert_to_tensor([[1.0, 3.0, 2.0]]), None, 0, ())
    >>> print(ops.convert_to_numpy(logits))
    [[ 1. -1.  2.]]
    """

    biases: tuple

    def __post_init__(self):
        """Checks the settings."""
        object.__setattr__(self, "biases", _pairs("biases", self.biases, _check_bias))

    def __call__(self, logits, tokens, index, memory):
        """See `LogitRule`."""
        ids_mask("biases", tuple(token for token, _ in self.biases), logits.shape[-1])
        bias = np.zeros(logits.shape[-1], "float32")
        for token, value in self.biases:
            bias[token] = value
        return logits + ops.convert_to_tensor(bias), memory


@dataclasses.dataclass(frozen=True)
class CallableRule(LogitRule):
    """Any function of the logits and of what was read.

    Args:
        function: callable `(logits float32 [R, V], tokens int32 [R, W], index int32 scalar) -> logits [R, V]`. `tokens`
            are the W = P + L newest ones, prompt and start token included: the newest is `tokens[:, -1]`; where there
            was nothing stands -1. It is traced in a compiled loop, so it uses `keras.ops` and no Python `if` on values.

    Raises:
        ValueError: if `function` is not callable, or at the first step, if it returns another shape.

    Example:

    >>> def no_token_twice_in_a_row(logits, tokens, index):
    ...     return ops.where(tokens[:, -1:] == ops.arange(3), -np.inf, logits)
    >>> rule = CallableRule(no_token_twice_in_a_row)
    >>> start = ops.convert_to_tensor([1])
    >>> memory = rule.start(start, 4, ops.zeros((1, 0), "int32"))
    >>> logits, memory = rule(ops.convert_to_tensor([[1.0, 3.0, 2.0]]), start, 0, memory)
    >>> print(ops.convert_to_numpy(logits))
    [[  1. -inf   2.]]
    """

    function: Callable

    def __post_init__(self):
        """Checks the settings."""
        if not callable(self.function):
            raise ValueError(f"`function` must be callable. Received: function={self.function!r}")

    def start(self, tokens, max_length, prompt):
        """See `LogitRule`."""
        return start_history(tokens, prompt.shape[1] + max_length, prompt)

    def __call__(self, logits, tokens, index, memory):
        """See `LogitRule`."""
        memory = remember(memory, tokens)
        ruled = self.function(logits, memory, index)
        if len(ruled.shape) != 2 or ruled.shape[1] != logits.shape[1]:
            raise ValueError(
                f"`function` must return logits of the shape it was given, {tuple(logits.shape)}. "
                f"Received: logits of shape {tuple(ruled.shape)}"
            )
        return ops.cast(ruled, "float32"), memory


def only(ids, vocabulary_size, name="end_id"):
    """numpy float32 `[V]`, the logits that allow nothing but `ids`: 0 there, -inf elsewhere.

    Raises:
        ValueError: if an id is not smaller than `vocabulary_size`.
    """
    return np.where(ids_mask(name, ids, vocabulary_size), 0.0, -np.inf).astype("float32")


def _ids(name, value):
    return tuple(sorted(set(check_ids(name, value.tolist() if isinstance(value, np.ndarray) else value))))


def _pairs(name, value, check, *how):
    """Sorted pairs of different integers and of what `check` returns."""
    pairs = value.items() if isinstance(value, Mapping) else value
    try:
        pairs = [(first, second) for first, second in pairs]
    except (TypeError, ValueError):
        raise ValueError(f"`{name}` must be pairs, or a dict. Received: {name}={value!r}") from None
    pairs = sorted({(check_integer(name, first, 0), check(name, second, *how)) for first, second in pairs})
    if len({first for first, _ in pairs}) < len(pairs):
        raise ValueError(f"`{name}` must not say two things of one index or id. Received: {name}={value!r}")
    return tuple(pairs)


def _check_bias(name, value):
    return value if isinstance(value, float) and value == -math.inf else check_number(name, value)
