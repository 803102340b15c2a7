"""StopSequences: END after any of several sequences of tokens."""

import dataclasses

from keras import ops

from keras_tfm.generation.logit_rule import LogitRule
from keras_tfm.generation.logit_rules import only
from keras_tfm.generation.step_protocol import check_integer
from keras_tfm.generation.token_history import decoded, remember, start_history


@dataclasses.dataclass(frozen=True)
class StopSequences(LogitRule):
    """Ends a text when its last tokens are one of given sequences: END follows, with log-probability 0.

    Only decoded tokens are looked at, neither the prompt nor the start token.

    Args:
        sequences: sequences of token ids, none empty.
        end_id: Python integer.

    Raises:
        ValueError: on an empty sequence or a bad id, or, at the first step, on an END that is not in the vocabulary.

    Example:

    >>> rule = StopSequences([[2, 2]], end_id=1)
    >>> memory = rule.start(ops.convert_to_tensor([2]), 9, ops.zeros((1, 0), "int32"))
    >>> for index in range(3):
    ...     logits, memory = rule(
    ...         ops.ones((1, 3)), ops.convert_to_tensor([2]), ops.convert_to_tensor(index), memory
    ...     )
    ...     print(ops.convert_to_numpy(logits))
    [[1. 1. 1.]]
    [[1. 1. 1.]]
    [[-inf   0. -inf]]
    """

    sequences: tuple
    end_id: int

    def __post_init__(self):
        """Checks the settings."""
        sequences = tuple(
            tuple(check_integer("sequences", token, minimum=0) for token in sequence) for sequence in self.sequences
        )
        if not all(sequences):
            raise ValueError(f"`sequences` must hold no empty sequence. Received: sequences={self.sequences!r}")
        object.__setattr__(self, "sequences", sequences)
        check_integer("end_id", self.end_id, minimum=0)

    def start(self, tokens, max_length, prompt):
        """See `LogitRule`."""
        return start_history(tokens, max(1, *(len(sequence) for sequence in self.sequences), 1))

    def __call__(self, logits, tokens, index, memory):
        """See `LogitRule`."""
        memory = remember(memory, decoded(tokens, index))
        stops = ops.zeros_like(tokens, dtype="bool")
        for sequence in self.sequences:
            # Equal as a whole: a stop of any length is one comparison with the newest tokens.
            newest = memory[:, -len(sequence) :]
            stops = ops.logical_or(stops, ops.all(newest == ops.convert_to_tensor(sequence, "int32"), axis=1))
        return ops.where(ops.expand_dims(stops, 1), only((self.end_id,), logits.shape[-1]), logits), memory
