"""NoRepeatNgram: no sequence of n tokens comes twice."""

import dataclasses

import numpy as np
from keras import ops

from keras_tfm.generation.logit_rule import LogitRule
from keras_tfm.generation.step_protocol import check_integer
from keras_tfm.generation.token_history import decoded, remember, start_history, token_counts


@dataclasses.dataclass(frozen=True)
class NoRepeatNgram(LogitRule):
    """Forbids the tokens that would complete a sequence of n tokens that was there before.

    Args:
        ngram_size: Python integer n >= 1; 1 forbids every token that was there.
        include_prompt: whether what stands in the prompt or is the start token counts too. Default `True`.

    Raises:
        ValueError: if `ngram_size` is no integer of at least 1.

    Reference:
        Paulus et al. 2017, https://arxiv.org/abs/1705.04304, section 2.5.

    Example:

    >>> rule = NoRepeatNgram(2)
    >>> start, prompt = ops.convert_to_tensor([1]), ops.convert_to_tensor([[1, 2]])
    >>> logits, _ = rule(ops.ones((1, 4)), start, ops.convert_to_tensor(0), rule.start(start, 5, prompt))
    >>> print(ops.convert_to_numpy(logits))  # 1 2 1 was read: 1 2 would come again
    [[  1.   1. -inf   1.]]
    """

    ngram_size: int
    include_prompt: bool = True

    def __post_init__(self):
        """Checks the settings."""
        check_integer("ngram_size", self.ngram_size, minimum=1)

    def start(self, tokens, max_length, prompt):
        """See `LogitRule`."""
        length = max_length + (prompt.shape[1] if self.include_prompt else 0)
        return start_history(tokens, max(length, self.ngram_size), prompt if self.include_prompt else None)

    def __call__(self, logits, tokens, index, memory):
        """See `LogitRule`."""
        memory = remember(memory, tokens if self.include_prompt else decoded(tokens, index))
        before = self.ngram_size - 1
        count = memory.shape[1] - before
        matches = memory[:, before:] >= 0
        for place in range(before):
            was, now = memory[:, place : place + count], memory[:, count + place : count + place + 1]
            matches = ops.logical_and(matches, ops.logical_and(was == now, now >= 0))
        repeated = token_counts(ops.where(matches, memory[:, before:], -1), logits.shape[-1])
        return ops.where(repeated > 0, -np.inf, logits), memory
