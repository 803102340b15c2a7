"""Rules on the length of a text: a least length, and a budget for each row."""

import dataclasses

import numpy as np
from keras import ops

from keras_tfm.generation.logit_rule import LogitRule
from keras_tfm.generation.logit_rules import only
from keras_tfm.generation.step_protocol import check_ids, check_integer
from keras_tfm.generation.token_history import ids_mask


@dataclasses.dataclass(frozen=True)
class MinimumLength(LogitRule):
    """No END before a text has its least length.

    Args:
        min_length: Python integer n >= 0, the least number of tokens, END included, as results count their lengths.
        end_id: Python integer, or several.

    Raises:
        ValueError: on a bad number or id, or, at the first step, on an id that is not in the vocabulary.

    Example:

    >>> rule = MinimumLength(3, end_id=1)
    >>> for index in (1, 2):
    ...     logits, _ = rule(ops.convert_to_tensor([[1.0, 3.0, 2.0]]), None, ops.convert_to_tensor(index), ())
    ...     print(ops.convert_to_numpy(logits))
    [[  1. -inf   2.]]
    [[1. 3. 2.]]
    """

    min_length: int
    end_id: int | tuple

    def __post_init__(self):
        """Checks the settings."""
        check_integer("min_length", self.min_length, minimum=0)
        object.__setattr__(self, "end_id", check_ids("end_id", self.end_id))

    def __call__(self, logits, tokens, index, memory):
        """See `LogitRule`."""
        is_end = ids_mask("end_id", self.end_id, logits.shape[-1])
        return ops.where(ops.logical_and(is_end, index < self.min_length - 1), -np.inf, logits), memory


@dataclasses.dataclass(frozen=True)
class Budget(LogitRule):
    """A greatest length for each row: its last token is END, with log-probability 0.

    Args:
        max_lengths: Python integer >= 1, or one for each row of the batch, END included. Where `max_length` of the
            search is smaller, that one holds.
        end_id: Python integer.

    Raises:
        ValueError: on a bad number or id, on another number of rows, or, at the first step, on an id that is not in the
            vocabulary.

    Example:

    >>> rule = Budget([1, 2], end_id=1)
    >>> memory = rule.start(ops.zeros(2, "int32"), 9, ops.zeros((2, 0), "int32"))
    >>> logits, memory = rule(ops.ones((2, 3)), None, ops.convert_to_tensor(0), memory)
    >>> print(ops.convert_to_numpy(logits))
    [[-inf   0. -inf]
     [  1.   1.   1.]]
    """

    max_lengths: int | tuple
    end_id: int

    def __post_init__(self):
        """Checks the settings."""
        lengths = self.max_lengths.tolist() if isinstance(self.max_lengths, np.ndarray) else self.max_lengths
        if isinstance(lengths, (list, tuple)):
            lengths = tuple(check_integer("max_lengths", each, minimum=1) for each in lengths)
        else:
            lengths = check_integer("max_lengths", lengths, minimum=1)
        object.__setattr__(self, "max_lengths", lengths)
        check_integer("end_id", self.end_id, minimum=0)

    def start(self, tokens, max_length, prompt):
        """See `LogitRule`."""
        rows = tokens.shape[0]
        if isinstance(self.max_lengths, tuple) and rows not in (None, len(self.max_lengths)):
            raise ValueError(
                f"`max_lengths` must have one length for each of the {rows} rows. "
                f"Received: max_lengths with {len(self.max_lengths)} lengths"
            )
        return ops.zeros_like(tokens) + ops.convert_to_tensor(self.max_lengths, "int32")

    def __call__(self, logits, tokens, index, memory):
        """See `LogitRule`."""
        is_last = ops.expand_dims(index >= memory - 1, 1)
        return ops.where(is_last, only((self.end_id,), logits.shape[-1]), logits), memory
