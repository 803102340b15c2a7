"""Diverse beam search: groups of beams that avoid each other's tokens."""

import dataclasses
import math
import numbers

import numpy as np
from keras import ops

from keras_tfm.generation.beam import Beam
from keras_tfm.generation.beam_pool import Candidates, best_alive, finished_hypotheses, num_candidates, start_loop
from keras_tfm.generation.length_penalty import length_divisors
from keras_tfm.generation.state_rows import repeat_rows
from keras_tfm.generation.step_protocol import check_integer, log_probabilities


@dataclasses.dataclass(frozen=True)
class DiverseBeam(Beam):
    """Beam search in G groups of K / G beams, each with a pool of its own.

    At every step the groups choose one after another. A token that alive hypotheses of earlier groups have just taken
    loses `diversity_penalty` for each of them. This orders the candidates of this step only: the scores of hypotheses
    stay the sums of their log-probabilities, and so do the ranks in the pools. A group whose pool is done does not
    count. The first group is a plain `Beam` of K / G beams; several groups may find the same hypothesis.

    Args:
        num_groups: G >= 1, a divisor of `num_beams`. Default 2.
        diversity_penalty: lambda >= 0, in log-probability. Default 0.5.
        num_beams, length_penalty, penalty, early_stopping, num_results, coverage: as `Beam` has them, for each group;
            `num_results` of all K.

    Returns:
        As `Beam`: the hypotheses of all groups, best first by the penalised score.

    Raises:
        ValueError: on a setting that is not as said above.

    Reference:
        Vijayakumar et al. 2016, https://arxiv.org/abs/1610.02424, algorithm 1 with Hamming diversity.

    Example:

    >>> import numpy as np
    >>> from keras_tfm.generation import search
    >>> follows = ops.convert_to_tensor(np.log([[0.5, 0.1, 0.4], [0.3, 0.4, 0.3], [0.2, 0.3, 0.5]]))
    >>> def step(tokens, index, state):
    ...     return ops.take(follows, tokens, axis=0), state
    >>> strategy = DiverseBeam(num_beams=2, num_groups=2, diversity_penalty=1.0)
    >>> sequences, scores, lengths = search(strategy, step, (), np.array([0]), max_length=2)
    >>> print(ops.convert_to_numpy(sequences[0]))
    [[0 0]
     [2 2]]
    """

    num_groups: int = 2
    diversity_penalty: float = 0.5

    def __post_init__(self):
        super().__post_init__()
        if self.num_beams % check_integer("num_groups", self.num_groups, minimum=1):
            raise ValueError(
                "`num_groups` must divide `num_beams`. "
                f"Received: num_groups={self.num_groups}, num_beams={self.num_beams}"
            )
        is_number = isinstance(self.diversity_penalty, numbers.Real) and not isinstance(self.diversity_penalty, bool)
        if not is_number or not 0 <= self.diversity_penalty < math.inf:
            raise ValueError(
                "`diversity_penalty` must be a finite number of at least 0. "
                f"Received: diversity_penalty={self.diversity_penalty!r}"
            )

    @property
    def is_greedy(self):
        """Groups are always ranked."""
        return False

    def start(self, tokens, state, limits, seed):
        """The loop before the first step: each group is a sentence."""
        divisors = length_divisors(self.penalty, self.length_penalty, limits.max_length)
        tokens, state = repeat_rows((tokens, state), self.num_groups)
        return start_loop(tokens, state, self.num_beams // self.num_groups, divisors, limits)

    def result(self, loop, limits):
        """Sequences, scores, lengths."""
        results = tuple(self._ungrouped(each) for each in finished_hypotheses(loop, limits))
        count = self.num_results or self.num_beams
        _, order = ops.top_k(self._ungrouped(loop.finished_ranks), count)
        sequences = ops.take_along_axis(results[0], ops.expand_dims(order, -1), axis=1)
        return sequences, *(ops.take_along_axis(each, order, axis=1) for each in results[1:])

    def candidates(self, logits, loop, limits):
        """The `Candidates` of a step `[B * G, C]`, group after group."""
        vocabulary_size, width = logits.shape[-1], self.num_beams // self.num_groups
        gains = ops.reshape(log_probabilities(logits, logits), (-1, self.num_groups, width, vocabulary_size))
        alive_scores = ops.reshape(loop.alive_scores, (-1, self.num_groups, width, 1))
        is_done = ops.reshape(loop.is_done, (-1, self.num_groups, 1))
        used, groups = ops.zeros_like(gains[:, 0, 0]), []
        for group in range(self.num_groups):
            penalty = ops.expand_dims(self.diversity_penalty * used, 1)
            groups.append(diverse_candidates(alive_scores[:, group] + gains[:, group], penalty, limits))
            used = used + counts_of_alive(groups[-1], width, vocabulary_size, is_done[:, group], limits)
        stacked = zip(*(group[:4] for group in groups), strict=True)
        count = groups[0].tokens.shape[1]
        return Candidates(*(ops.reshape(ops.stack(each, axis=1), (-1, count)) for each in stacked))

    def _ungrouped(self, tensor):
        """`[B * G, K / G, ...]` as `[B, K, ...]`."""
        return ops.reshape(tensor, (-1, self.num_beams, *tensor.shape[2:]))


def diverse_candidates(totals, penalty, limits):
    """The `Candidates` of one group.

    Args:
        totals: float32 `[B, W, V]`, the scores of all continuations of its W hypotheses.
        penalty: float32 `[B, 1, V]`, what the tokens lose.
        limits: `Limits`.
    """
    width, vocabulary_size = totals.shape[1:]
    totals, keys = (ops.reshape(each, (-1, width * vocabulary_size)) for each in (totals, totals - penalty))
    keys, places = ops.top_k(keys, min(num_candidates(width, limits), width * vocabulary_size))
    scores = ops.take_along_axis(totals, places, axis=1)
    parents, tokens = (ops.cast(each, "int32") for each in (places // vocabulary_size, places % vocabulary_size))
    return Candidates(scores, parents, tokens, keys)


def counts_of_alive(candidates, width, vocabulary_size, is_done, limits):
    """How many of the hypotheses that go on take each token, none if the group is done: float32 `[B, V]`."""
    scores, places = best_alive(candidates, limits.is_end(candidates.tokens), width)
    tokens = ops.take_along_axis(candidates.tokens, places, axis=1)
    counts = ops.logical_and(scores > -np.inf, ops.logical_not(is_done))
    tokens = ops.expand_dims(tokens, -1) == ops.arange(vocabulary_size, dtype="int32")
    return ops.sum(ops.cast(ops.logical_and(tokens, ops.expand_dims(counts, -1)), "float32"), axis=1)
