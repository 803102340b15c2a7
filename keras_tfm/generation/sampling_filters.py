"""Filters of a distribution before a token is drawn from it: temperature, top-k, top-p, min-p, typical.

Each is a logit rule without memory. `Sampling` applies them after the rules; given as rules themselves they work with
every strategy, and then they are part of the score.
"""

import dataclasses
import math

import numpy as np
from keras import ops

from keras_tfm.generation.logit_rule import LogitRule
from keras_tfm.generation.number_checks import check_number, check_positive
from keras_tfm.generation.step_protocol import LOWEST, check_integer, log_probabilities

_HALVINGS = 27  # of at most 33 nats: to the last bit of a float32 near 1


class LogitFilter(LogitRule):
    """Base of the rules that look at nothing but the logits of one step."""

    def filter(self, logits):
        """The logits float32 `[R, V]` that are left of float32 `[R, V]`."""
        raise NotImplementedError

    def __call__(self, logits, tokens, index, memory):
        """See `LogitRule`."""
        return self.filter(logits), memory


@dataclasses.dataclass(frozen=True)
class Temperature(LogitFilter):
    """Divides the logits.

    Args:
        temperature: greater than 0; below 1 sharpens the distribution, above 1 flattens it.

    Numerics:
        The greatest logit of a row becomes 0, so that no quotient overflows upwards.

    Raises:
        ValueError: if `temperature` is not a finite number greater than 0.

    Example:

    >>> print(ops.convert_to_numpy(Temperature(0.5).filter(ops.convert_to_tensor([[1.0, 3.0, 2.0]]))))
    [[-4.  0. -2.]]
    """

    temperature: float

    def __post_init__(self):
        """Checks the settings."""
        check_positive("temperature", self.temperature)

    def filter(self, logits):
        """See `LogitFilter`."""
        largest = ops.maximum(ops.max(logits, axis=-1, keepdims=True), LOWEST)
        return (logits - largest) / float(self.temperature)


@dataclasses.dataclass(frozen=True)
class TopK(LogitFilter):
    """Keeps the k most probable tokens, and those as probable as the last of them.

    Args:
        top_k: Python integer k >= 1; of a vocabulary that is smaller all is kept.

    Raises:
        ValueError: if `top_k` is no integer of at least 1.

    Reference:
        Fan et al. 2018, https://arxiv.org/abs/1805.04833, section 5.4.

    Example:

    >>> print(ops.convert_to_numpy(TopK(2).filter(ops.convert_to_tensor([[1.0, 3.0, 2.0, 0.0]]))))
    [[-inf   3.   2. -inf]]
    """

    top_k: int

    def __post_init__(self):
        """Checks the settings."""
        check_integer("top_k", self.top_k, minimum=1)

    def filter(self, logits):
        """See `LogitFilter`."""
        largest, _ = ops.top_k(logits, min(self.top_k, logits.shape[-1]))
        # Not `largest[:, -1:]`: where a top-k is sliced, XLA sorts the whole vocabulary instead (JAX 0.10 on CPU).
        return ops.where(logits >= ops.min(largest, axis=-1, keepdims=True), logits, -np.inf)


@dataclasses.dataclass(frozen=True)
class TopP(LogitFilter):
    """Keeps the fewest most probable tokens whose probabilities sum to p, and those as probable as the last of them.

    Args:
        top_p: p, from 0 to 1. At least one token is kept; 1 keeps all.

    Numerics:
        Probabilities and their sums are float32: what lies within rounding of p may fall on either side. Tokens whose
        log-probabilities differ by less than 3e-7 count as equally probable. Nothing is sorted.

    Raises:
        ValueError: if `top_p` is no number from 0 to 1.

    Reference:
        Holtzman et al. 2019, https://arxiv.org/abs/1904.09751, section 3.1 (nucleus sampling).

    Example:

    >>> logits = ops.log(ops.convert_to_tensor([[0.1, 0.5, 0.3, 0.1]]))
    >>> print(np.round(ops.convert_to_numpy(ops.exp(TopP(0.7).filter(logits))), 1))
    [[0.  0.5 0.3 0. ]]
    """

    top_p: float

    def __post_init__(self):
        """Checks the settings."""
        check_number("top_p", self.top_p, 0, 1)

    def filter(self, logits):
        """See `LogitFilter`."""
        if self.top_p == 1:
            return logits
        gains = log_probabilities(logits, logits)
        return ops.where(-gains <= _last_needed(-gains, ops.exp(gains), self.top_p), logits, -np.inf)


@dataclasses.dataclass(frozen=True)
class MinP(LogitFilter):
    """Keeps the tokens that are at least `min_p` times as probable as the most probable one.

    Args:
        min_p: from 0, which keeps all, to 1, which keeps the most probable.

    Raises:
        ValueError: if `min_p` is no number from 0 to 1.

    Reference:
        Nguyen et al. 2024, https://arxiv.org/abs/2407.01082, section 3.

    Example:

    >>> logits = ops.log(ops.convert_to_tensor([[0.1, 0.5, 0.3, 0.1]]))
    >>> print(np.round(ops.convert_to_numpy(ops.exp(MinP(0.4).filter(logits))), 1))
    [[0.  0.5 0.3 0. ]]
    """

    min_p: float

    def __post_init__(self):
        """Checks the settings."""
        check_number("min_p", self.min_p, 0, 1)

    def filter(self, logits):
        """See `LogitFilter`."""
        if self.min_p == 0:
            return logits
        least = ops.max(logits, axis=-1, keepdims=True) + math.log(self.min_p)
        return ops.where(logits >= least, logits, -np.inf)


@dataclasses.dataclass(frozen=True)
class Typical(LogitFilter):
    """Keeps the tokens whose surprise is nearest to the entropy, the fewest whose probabilities sum to p.

    Args:
        typical_p: p, greater than 0, at most 1, which keeps all. Tokens as near as the last one are kept too.

    Numerics:
        As `TopP`.

    Raises:
        ValueError: if `typical_p` is no number from 0 to 1 or is 0.

    Reference:
        Meister et al. 2022, https://arxiv.org/abs/2202.00666, equation 9 (locally typical sampling).

    Example:

    >>> logits = ops.log(ops.convert_to_tensor([[0.05, 0.5, 0.25, 0.2]]))
    >>> print(np.round(ops.convert_to_numpy(ops.exp(Typical(0.4).filter(logits))), 2))
    [[0.   0.   0.25 0.2 ]]
    """

    typical_p: float

    def __post_init__(self):
        """Checks the settings."""
        check_number("typical_p", check_positive("typical_p", self.typical_p), 0, 1)

    def filter(self, logits):
        """See `LogitFilter`."""
        if self.typical_p == 1:
            return logits
        gains = log_probabilities(logits, logits)
        probabilities = ops.exp(gains)
        # 0 · -inf is 0 here: a forbidden token has no part in the entropy.
        entropy = -ops.sum(probabilities * ops.maximum(gains, LOWEST), axis=-1, keepdims=True)
        distances = ops.abs(-gains - entropy)
        return ops.where(distances <= _last_needed(distances, probabilities, self.typical_p), logits, -np.inf)


def _last_needed(distances, masses, total):
    """`[R, 1]`: how far one must go for the masses of all that is no farther to reach `total`, below 1.

    Args:
        distances: float32 `[R, V]`: surprise, or how far from the entropy it is.
        masses: float32 `[R, V]`, the probabilities, which sum to 1.
        total: Python float.
    """
    # The last needed token and those behind it sum to more than 1 - total: one of them has (1 - total) / V or more, and
    # that bounds the distance. Halving is far cheaper than sorting.
    bound = math.log(distances.shape[-1] / max(1.0 - total, 1e-7)) + 1.0
    nearest = ops.min(distances, axis=-1, keepdims=True)

    def halve(_, bounds):
        low, high = bounds
        middle = (low + high) * 0.5
        mass = ops.sum(ops.where(distances <= middle, masses, 0.0), axis=-1, keepdims=True)
        is_enough = mass >= total
        return ops.where(is_enough, low, middle), ops.where(is_enough, middle, high)

    start = ops.zeros_like(nearest) - 1e-6
    _, last = ops.fori_loop(0, _HALVINGS, halve, (start, ops.zeros_like(nearest) + bound))
    return ops.maximum(last, nearest)
