"""Mirostat: sampling that keeps the surprise of the text near a target."""

import dataclasses
import math
from typing import Any, NamedTuple

import numpy as np
from keras import ops

from keras_tfm.generation.greedy import append
from keras_tfm.generation.number_checks import check_positive
from keras_tfm.generation.sampling import Sampling, draw_tokens, token_gains
from keras_tfm.generation.step_protocol import log_probabilities, next_logits
from keras_tfm.generation.strategy import Strategy


class MirostatLoop(NamedTuple):
    """The fields of `SamplingLoop`, and the bound of every row."""

    index: Any
    tokens: Any
    sequences: Any
    scores: Any
    lengths: Any
    is_finished: Any
    state: Any
    keys: Any
    bounds: Any  # float32 [B], mu: the greatest surprise, in bits, that may be drawn


@dataclasses.dataclass(frozen=True)
class Mirostat(Strategy):
    """Draws among the tokens whose surprise is below a bound, and moves the bound until the mean surprise is tau.

    Args:
        tau: target surprise in bits a token, greater than 0. Default 3.
        eta: how far an error moves the bound, greater than 0. Default 0.1.

    Numerics:
        The surprise of a token is `-log2` of its probability under the model and its rules. The bound starts at 2 tau;
        the most probable token is always allowed. Scores are as those of `sample_search`.

    Raises:
        ValueError: if `tau` or `eta` is not a finite number greater than 0.

    Reference:
        Basu et al. 2020, https://arxiv.org/abs/2007.14966, and its authors' second version, which has no estimate of
        Zipf's exponent.

    Example:

    >>> from keras_tfm.generation.strategy import search
    >>> def step(tokens, index, state):
    ...     return ops.one_hot(tokens + 1, 5) * 9.0, state
    >>> sequences, _, _ = search(Mirostat(tau=1.0), step, (), np.array([0]), max_length=4, seed=3)
    >>> print(ops.convert_to_numpy(sequences))
    [[1 2 3 4]]
    """

    tau: float = 3.0
    eta: float = 0.1

    def __post_init__(self):
        """Checks the settings."""
        check_positive("tau", self.tau)
        check_positive("eta", self.eta)

    def start(self, tokens, state, limits, seed):
        """The loop before the first step."""
        loop = Sampling().start(tokens, state, limits, seed)
        return MirostatLoop(*loop, bounds=ops.zeros_like(loop.scores) + 2.0 * self.tau)

    def is_running(self, loop, limits):
        """Whether a sequence has not ended."""
        return ops.logical_not(ops.all(loop.is_finished))

    def advance(self, step, loop, limits):
        """Takes one step."""
        logits, state = next_logits(step, loop.tokens, loop.index, loop.state, limits.end_ids)
        surprise = log_probabilities(logits, logits) * (-1 / math.log(2))
        greatest = ops.maximum(ops.expand_dims(loop.bounds, 1), ops.min(surprise, axis=-1, keepdims=True))
        tokens = draw_tokens(ops.where(surprise <= greatest, logits, -np.inf), loop.keys, loop.index)
        gains = token_gains(logits, tokens)
        bounds = loop.bounds - self.eta * (gains * (-1 / math.log(2)) - self.tau)
        return append(loop._replace(bounds=bounds), tokens, gains, state, limits)

    def result(self, loop, limits):
        """Sequences, scores, lengths."""
        return loop.sequences, loop.scores, loop.lengths
