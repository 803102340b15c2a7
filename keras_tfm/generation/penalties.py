"""Penalties on tokens that were there before: repetition, presence, frequency."""

import dataclasses

from keras import ops

from keras_tfm.generation.logit_rule import LogitRule
from keras_tfm.generation.number_checks import check_number, check_positive
from keras_tfm.generation.step_protocol import LOWEST
from keras_tfm.generation.token_history import decoded, remember, start_history, token_counts


class CountingRule(LogitRule):
    """Base of the rules that ask how often each token was there. It has a field `include_prompt`."""

    def penalised(self, logits, counts):
        """The logits float32 `[R, V]` by the counts float32 `[R, V]` of the tokens that were there."""
        raise NotImplementedError

    def start(self, tokens, max_length, prompt):
        """See `LogitRule`."""
        if self.include_prompt:
            return start_history(tokens, max_length + prompt.shape[1], prompt)
        return start_history(tokens, max_length)

    def __call__(self, logits, tokens, index, memory):
        """See `LogitRule`."""
        memory = remember(memory, tokens if self.include_prompt else decoded(tokens, index))
        return self.penalised(logits, token_counts(memory, logits.shape[-1])), memory


@dataclasses.dataclass(frozen=True)
class RepetitionPenalty(CountingRule):
    """Divides the positive logits of tokens that were there before, and multiplies the negative ones.

    Args:
        penalty: greater than 0; 1 changes nothing, the paper takes 1.2.
        include_prompt: whether the tokens of the prompt and the start token count too. Default `True`.

    Numerics:
        The rule depends on where the zero of the logits lies, as the paper's does: apply it to the model's own logits,
        before rules that move them.

    Raises:
        ValueError: if `penalty` is not a finite number greater than 0.

    Reference:
        Keskar et al. 2019 (CTRL), https://arxiv.org/abs/1909.05858, section 4.1; for negative logits as Hugging Face.

    Example:

    >>> rule, start = RepetitionPenalty(2.0), ops.convert_to_tensor([0])
    >>> memory = rule.start(start, 4, ops.convert_to_tensor([[1]]))
    >>> logits, _ = rule(ops.convert_to_tensor([[3.0, -3.0, 2.0]]), start, ops.convert_to_tensor(0), memory)
    >>> print(ops.convert_to_numpy(logits))
    [[ 1.5 -6.   2. ]]
    """

    penalty: float
    include_prompt: bool = True

    def __post_init__(self):
        """Checks the settings."""
        check_positive("penalty", self.penalty)

    def penalised(self, logits, counts):
        """See `CountingRule`."""
        changed = ops.where(logits > 0, logits / float(self.penalty), logits * float(self.penalty))
        return ops.where(counts > 0, ops.minimum(changed, -LOWEST), logits)


@dataclasses.dataclass(frozen=True)
class FrequencyPenalty(CountingRule):
    """Lowers the logits of tokens by how often they were there.

    Args:
        frequency: taken off for each time that the token was there. Default 0.
        presence: taken off once if it was there at all (the presence penalty). Default 0.
        include_prompt: whether the tokens of the prompt and the start token count too. Default `False`.

    Raises:
        ValueError: if `frequency` or `presence` is no finite number.

    Reference:
        https://platform.openai.com/docs/api-reference/chat, `frequency_penalty` and `presence_penalty`.

    Example:

    >>> rule, start = FrequencyPenalty(0.5, presence=1.0, include_prompt=True), ops.convert_to_tensor([0])
    >>> memory = rule.start(start, 4, ops.convert_to_tensor([[0, 1]]))
    >>> logits, _ = rule(ops.convert_to_tensor([[3.0, 3.0, 3.0]]), start, ops.convert_to_tensor(0), memory)
    >>> print(ops.convert_to_numpy(logits))
    [[1.  1.5 3. ]]
    """

    frequency: float = 0.0
    presence: float = 0.0
    include_prompt: bool = False

    def __post_init__(self):
        """Checks the settings."""
        check_number("frequency", self.frequency)
        check_number("presence", self.presence)

    def penalised(self, logits, counts):
        """See `CountingRule`."""
        return logits - float(self.frequency) * counts - float(self.presence) * ops.cast(counts > 0, "float32")
