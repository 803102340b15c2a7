"""Beam search with a pool of finished hypotheses."""

import dataclasses
from collections.abc import Callable

from keras import ops

from keras_tfm.generation.beam_pool import (
    best_candidates,
    cannot_improve,
    does_not_lead,
    finished_hypotheses,
    follow,
    is_full,
    num_candidates,
    select,
    start_loop,
)
from keras_tfm.generation.coverage import CoveragePenalty
from keras_tfm.generation.greedy import Greedy
from keras_tfm.generation.length_penalty import check_length_penalty, length_divisors
from keras_tfm.generation.state_rows import take_rows
from keras_tfm.generation.step_protocol import check_integer, next_logits
from keras_tfm.generation.strategy import Strategy, search

EARLY_STOPPING = ("exact", "first", "heuristic")


@dataclasses.dataclass(frozen=True)
class Beam(Strategy):
    """Keeps the K best unfinished hypotheses and a pool of the K best finished ones.

    Every step takes the best continuations, (1 + number of ENDs) * K of them. Those among the first K that end enter
    the pool, where they are never extended nor changed; the K best of the others stay alive. At `max_length` the first
    K enter the pool as they are, ended or not: an unfinished hypothesis competes as one of length `max_length`. Which
    sentence is done says `early_stopping`; the loop ends when all are.

    With one beam and no coverage penalty there is nothing to rank, and END is final as soon as it is the best token:
    that is greedy search, whatever the other settings.

    Args:
        num_beams: K >= 1. Default 4.
        length_penalty: the exponent alpha of the penalty that divides scores to rank them; 0 ranks by the bare score,
            greater values favour longer hypotheses, negative ones shorter. Default 0.6.
        penalty: `"wu"`, `((5 + length) / 6) ** alpha`; `"average"`, `length ** alpha`, as Hugging Face Transformers
            does; or a callable `(lengths float64 [L], alpha) -> float64 [L]`, above 0. Default `"wu"`.
        early_stopping: when a sentence is done. `"exact"`: no alive hypothesis could beat the worst of a full pool at
            any length it may still reach. `"first"`: K hypotheses have finished. `"heuristic"`: the best alive one,
            under the penalty of its present length, does not beat the worst of a full pool. These are "never", True and
            False of Transformers, the penalty being `"average"`. Default `"exact"`.
        num_results: how many hypotheses are returned, at most K. Default `None`: K.
        coverage: a `CoveragePenalty`, or `None`.

    Returns:
        As a strategy of `search`: `sequences` int32 `[B, K, L]`, padded after END; `scores` float32 `[B, K]`, the sums
        of log-probabilities (END's included) before any penalty; `lengths` int32 `[B, K]`, the number of tokens with
        END; best first by the penalised score. Where there are fewer than K hypotheses, the last places have score
        -inf, length 0 and pads.

    Raises:
        ValueError: on a setting that is not as said above.

    Reference:
        Wu et al. 2016, https://arxiv.org/abs/1609.08144, section 7.

    Example:

    >>> import numpy as np
    >>> follows = [[0.1, 0.1, 0.48, 0.32], [0.25, 0.25, 0.25, 0.25], [0.2, 0.4, 0.2, 0.2], [0.05, 0.85, 0.05, 0.05]]
    >>> follows = ops.convert_to_tensor(np.log(follows))
    >>> def step(tokens, index, state):
    ...     return ops.take(follows, tokens, axis=0), state
    >>> strategy = Beam(num_beams=2, penalty="average", early_stopping="first", num_results=1)
    >>> sequences, scores, lengths = search(strategy, step, (), np.array([0]), max_length=3, end_id=1)
    >>> print(ops.convert_to_numpy(sequences[0]))
    [[3 1 0]]
    """

    num_beams: int = 4
    length_penalty: float = 0.6
    penalty: str | Callable = "wu"
    early_stopping: str = "exact"
    num_results: int | None = None
    coverage: CoveragePenalty | None = None

    def __post_init__(self):
        check_integer("num_beams", self.num_beams, minimum=1)
        check_length_penalty(self.penalty, self.length_penalty)
        if self.early_stopping not in EARLY_STOPPING:
            raise ValueError(
                f"`early_stopping` must be one of {', '.join(map(repr, EARLY_STOPPING))}. "
                f"Received: early_stopping={self.early_stopping!r}"
            )
        if self.num_results is not None and check_integer("num_results", self.num_results, 1) > self.num_beams:
            raise ValueError(
                "`num_results` must be at most `num_beams`. "
                f"Received: num_results={self.num_results}, num_beams={self.num_beams}"
            )
        if self.coverage is not None and not isinstance(self.coverage, CoveragePenalty):
            raise ValueError(f"`coverage` must be a `CoveragePenalty` or None. Received: coverage={self.coverage!r}")

    @property
    def is_greedy(self):
        """Whether there is nothing to rank."""
        return self.num_beams == 1 and self.coverage is None

    def start(self, tokens, state, limits, seed):
        """The loop before the first step."""
        divisors = length_divisors(self.penalty, self.length_penalty, limits.max_length)
        if self.is_greedy:
            return Greedy().start(tokens, state, limits, seed)
        return start_loop(tokens, state, self.num_beams, divisors, limits)

    def is_running(self, loop, limits):
        """Whether a sentence is not done."""
        if self.is_greedy:
            return Greedy().is_running(loop, limits)
        return ops.logical_not(ops.all(loop.is_done))

    def advance(self, step, loop, limits):
        """Takes one step."""
        if self.is_greedy:
            return Greedy().advance(step, loop, limits)
        logits, state = next_logits(step, loop.tokens, loop.index, loop.state, limits.end_ids)
        candidates = self.candidates(logits, loop, limits)
        coverage = self.coverage and ops.reshape(self.coverage(state), ops.shape(loop.alive_scores))
        selection = select(loop, candidates, limits, coverage)
        parents, following = follow(loop, candidates, selection, limits)
        is_done = self.is_settled(loop, selection, coverage, parents)
        rows = ops.reshape(loop.first_rows + parents, (-1,))
        return following._replace(
            is_done=ops.logical_or(loop.is_done, is_done),
            memory=self.remember(loop.memory, parents, following.tokens),
            state=take_rows(state, rows),
        )

    def result(self, loop, limits):
        """Sequences, scores, lengths."""
        if self.is_greedy:
            return tuple(ops.expand_dims(each, 1) for each in Greedy().result(loop, limits))
        results = finished_hypotheses(loop, limits)
        return results if self.num_results is None else tuple(each[:, : self.num_results] for each in results)

    def candidates(self, logits, loop, limits):
        """The `Candidates` of a step, from logits float32 `[B * K, V]`."""
        return best_candidates(logits, loop.alive_scores, num_candidates(self.num_beams, limits))

    def remember(self, memory, parents, tokens):
        """The memory of the hypotheses that go on from `parents` int32 `[B, K]` with `tokens` int32 `[B * K]`."""
        return memory

    def is_settled(self, loop, selection, coverage, parents):
        """bool `[B]`: by `early_stopping`, the pool needs no more."""
        if self.early_stopping == "first":
            return is_full(selection)
        if self.early_stopping == "exact":
            return cannot_improve(loop.index, selection, loop.divisors)
        coverage = coverage if coverage is None else ops.take_along_axis(coverage, parents, axis=1)
        return does_not_lead(loop.index, selection, loop.divisors, coverage)


def beam_search(
    step,
    state,
    start_tokens,
    *,
    num_beams,
    max_length,
    end_id=None,
    pad_id=0,
    length_penalty=0.6,
    rules=(),
    prompt=None,
    **settings,
):
    """Decode by keeping the K best unfinished hypotheses and a pool of the K best finished ones.

    This is `search(Beam(...), ...)`; `Beam` says how it goes. `num_beams=1` is `greedy_search`.

    Args:
        step: callable `(tokens int32 [B * K], index int32 scalar, state) -> (logits [B * K, V], state)`, as in
            `greedy_search`; rows `b * K ... b * K + K - 1` belong to sentence b.
        state: pytree of tensors `[B, ...]`; repeated to `[B * K, ...]` here and reordered with the hypotheses. Its
            shapes, dtypes and structure stay the same from step to step. `()` if there is none. What never changes
            need not be in it.
        start_tokens: int `[B]`, the first token given to `step`, no part of the result.
        num_beams: Python integer K >= 1.
        max_length: Python integer L >= 1, the greatest number of tokens, END included.
        end_id: Python integer, the id of END, or several of them; `None` for none.
        pad_id: Python integer, what fills the positions after END; it may equal `end_id`. Default 0.
        length_penalty: Python number, the exponent alpha; 0 ranks by the bare score, greater values favour longer
            hypotheses, negative ones shorter. Default 0.6.
        rules, prompt: as `search` has them.
        **settings: the other settings of `Beam`: `penalty`, `early_stopping`, `num_results`, `coverage`.

    Returns:
        Tuple of `sequences` int32 `[B, K, L]`, `scores` float32 `[B, K]`, the sums of log-probabilities (END's
        included) before the penalty, and `lengths` int32 `[B, K]`, the number of tokens with END; best first by the
        penalised score. Where there are fewer than K hypotheses, the last places have score -inf, length 0 and pads.

    Raises:
        ValueError: on a bad number, id, setting, `start_tokens`, state or shape of the logits.

    Reference:
        Wu et al. 2016, https://arxiv.org/abs/1609.08144, section 7.

    Example:

    >>> import numpy as np
    >>> from keras import ops
    >>> follows = [[0.1, 0.1, 0.48, 0.32], [0.25, 0.25, 0.25, 0.25], [0.2, 0.4, 0.2, 0.2], [0.05, 0.85, 0.05, 0.05]]
    >>> follows = ops.convert_to_tensor(np.log(follows))
    >>> def step(tokens, index, state):
    ...     return ops.take(follows, tokens, axis=0), state
    >>> sequences, scores, lengths = beam_search(step, (), np.array([0]), num_beams=2, max_length=3, end_id=1)
    >>> print(ops.convert_to_numpy(sequences[0]))
    [[3 1 0]
     [2 1 0]]
    >>> print(np.round(np.exp(ops.convert_to_numpy(scores[0])), 2), ops.convert_to_numpy(lengths[0]))
    [0.27 0.19] [2 2]
    """
    return search(
        Beam(num_beams=num_beams, length_penalty=length_penalty, **settings),
        step,
        state,
        start_tokens,
        max_length=max_length,
        end_id=end_id,
        pad_id=pad_id,
        rules=rules,
        prompt=prompt,
    )
