"""The coverage penalty: hypotheses that leave parts of the source unattended lose."""

import dataclasses
import math
import numbers
from collections.abc import Callable

from keras import ops

SMALLEST = 1.1754944e-38  # the smallest normal float32


@dataclasses.dataclass(frozen=True)
class CoveragePenalty:
    """`beta * sum over source positions of log(min(attention, 1))`, added to the penalised score.

    The attention is what the hypothesis gave to a source position in all its steps; the sum of a step is 1. The model
    must keep it in its state. The penalty ranks finished hypotheses; it does not choose which unfinished ones go on.

    Args:
        beta: Python number >= 0, its weight.
        attention: callable from the state that `step` returned to float `[R, S]`, the attention summed over the steps
            so far, this one included.
        source_mask: callable from that state to bool `[R, S]`, True where the source is real. Default `None`: all is.

    Call arguments:
        state: the state that `step` returned, of R rows. With logit rules it is `(state, memories)`.

    Returns:
        float32 `[R]`, at most 0.

    Numerics:
        float32. A position with no attention counts as one with 1.2e-38, so that the penalty stays finite.

    Raises:
        ValueError: if `beta` is no finite number of at least 0, or if one of the others is not callable.

    Reference:
        Wu et al. 2016, https://arxiv.org/abs/1609.08144, equation 14.

    Example:

    >>> import numpy as np
    >>> penalty = CoveragePenalty(0.2, attention=lambda state: state)
    >>> print(np.round(ops.convert_to_numpy(penalty(np.array([[1.5, 0.5], [1.0, 1.0]]))), 2))
    [-0.14  0.  ]
    """

    beta: float
    attention: Callable
    source_mask: Callable | None = None

    def __post_init__(self):
        is_number = isinstance(self.beta, numbers.Real) and not isinstance(self.beta, bool)
        if not is_number or not 0 <= self.beta < math.inf:
            raise ValueError(f"`beta` must be a finite number of at least 0. Received: beta={self.beta!r}")
        if not callable(self.attention):
            raise ValueError(f"`attention` must be a callable of the state. Received: attention={self.attention!r}")
        if self.source_mask is not None and not callable(self.source_mask):
            raise ValueError(
                f"`source_mask` must be a callable of the state, or None. Received: source_mask={self.source_mask!r}"
            )

    def __call__(self, state):
        attention = ops.cast(self.attention(state), "float32")
        penalties = ops.log(ops.clip(attention, SMALLEST, 1.0))
        if self.source_mask is not None:
            penalties = ops.where(self.source_mask(state), penalties, 0.0)
        return self.beta * ops.sum(penalties, axis=-1)
