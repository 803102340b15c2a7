"""What every beam search does with its candidates: some stay alive, some enter the pool of finished hypotheses."""

from typing import Any, NamedTuple

import numpy as np
from keras import ops

from keras_tfm.generation.length_penalty import Divisors
from keras_tfm.generation.state_rows import make_reorderable, repeat_rows
from keras_tfm.generation.step_protocol import log_probabilities, write_tokens


class BeamLoop(NamedTuple):
    """What changes from step to step: K alive hypotheses and a pool of K finished ones."""

    index: Any  # int32 scalar
    tokens: Any  # int32 [B * K], what the next step reads
    sequences: Any  # int32 [B, 2K, L], the alive ones before the finished ones
    alive_scores: Any  # float32 [B, K], sums of log-probabilities
    finished_scores: Any  # float32 [B, K], sums of log-probabilities, best first by their ranks
    finished_ranks: Any  # float32 [B, K], the penalised scores; -inf: an empty place
    is_done: Any  # bool [B], nothing can enter the pool any more
    first_rows: Any  # int32 [B, 1], where the rows of a sentence begin
    divisors: Divisors  # of the length penalty
    memory: Any  # what a kind of beam search remembers, `()` for the plain one
    state: Any  # pytree, every leaf [B * K, ...]


class Candidates(NamedTuple):
    """Continuations C of the alive hypotheses, best first."""

    scores: Any  # float32 [B, C], sums of log-probabilities
    parents: Any  # int32 [B, C], in 0 .. K-1
    tokens: Any  # int32 [B, C]
    keys: Any = None  # float32 [B, C], what they are ordered by; None: the scores
    may_finish: Any = None  # bool [B, C], which may enter the pool; None: all


class Selection(NamedTuple):
    """Who goes on, as places among the K finished hypotheses and the C candidates after them."""

    alive: Any  # int32 [B, K]
    alive_scores: Any  # float32 [B, K]
    finished: Any  # int32 [B, K]
    finished_ranks: Any  # float32 [B, K]


def start_loop(tokens, state, num_beams, divisors, limits, memory=()):
    """The loop before the first step: one alive hypothesis a sentence, an empty pool."""
    batch_size = ops.shape(tokens)[0]
    nothing = ops.full((batch_size, num_beams), -np.inf, dtype="float32")
    return BeamLoop(
        index=ops.convert_to_tensor(0, dtype="int32"),
        tokens=ops.repeat(tokens, num_beams, axis=0),
        sequences=ops.full((batch_size, 2 * num_beams, limits.max_length), limits.pad_id, dtype="int32"),
        # All beams are alike at first: only one may go on, or each candidate would come K times.
        alive_scores=ops.where(ops.arange(num_beams) == 0, 0.0, nothing),
        finished_scores=nothing,
        finished_ranks=nothing,
        is_done=ops.zeros((batch_size,), dtype="bool"),
        first_rows=ops.expand_dims(ops.arange(batch_size, dtype="int32") * num_beams, 1),
        divisors=divisors,
        memory=memory,
        state=make_reorderable(repeat_rows(state, num_beams), num_beams),
    )


def num_candidates(num_beams, limits):
    """How many candidates leave K that do not end: each alive hypothesis may end by each END."""
    return (1 + len(limits.end_ids)) * num_beams


def best_candidates(logits, alive_scores, count):
    """The best `count` continuations, or all K * V if there are fewer.

    Args:
        logits: float32 `[B * K, V]`.
        alive_scores: float32 `[B, K]`.
        count: Python integer.
    """
    batch_size, num_beams = ops.shape(alive_scores)
    # The best of all are among the best of each: no tensor of the size of the logits is made.
    width = min(count, logits.shape[-1])
    largest, tokens = ops.top_k(logits, width)
    gains = ops.reshape(log_probabilities(largest, logits), (batch_size, num_beams, width))
    totals = ops.reshape(ops.expand_dims(alive_scores, -1) + gains, (batch_size, num_beams * width))
    scores, places = ops.top_k(totals, min(count, num_beams * width))
    tokens = ops.take_along_axis(ops.reshape(tokens, (batch_size, num_beams * width)), places, axis=1)
    return Candidates(scores, ops.cast(places // width, "int32"), ops.cast(tokens, "int32"))


def best_alive(candidates, ends, num_beams):
    """The first K candidates that do not end: their scores float32 `[B, K]` and places int32 `[B, K]`.

    Args:
        candidates: `Candidates`.
        ends: bool `[B, C]`, which of them end.
        num_beams: K.
    """
    if candidates.keys is None:
        scores, places = ops.top_k(ops.where(ends, -np.inf, candidates.scores), num_beams)
        return scores, ops.cast(places, "int32")
    keys, places = ops.top_k(ops.where(ends, -np.inf, candidates.keys), num_beams)
    scores = ops.take_along_axis(candidates.scores, places, axis=1)
    return ops.where(keys == -np.inf, -np.inf, scores), ops.cast(places, "int32")


def select(loop, candidates, limits, coverage=None):
    """Chooses the next alive and finished hypotheses out of the candidates and the pool.

    Args:
        loop: `BeamLoop`.
        candidates: `Candidates`.
        limits: `Limits`.
        coverage: float32 `[B, K]`, added to the ranks of those that come from an alive hypothesis; or `None`.
    """
    num_beams = loop.alive_scores.shape[1]
    ends = limits.is_end(candidates.tokens)
    alive_scores, alive = best_alive(candidates, ends, num_beams)
    enters = ops.logical_or(ends, loop.index == limits.max_length - 1)
    if candidates.may_finish is not None:
        enters = ops.logical_and(enters, candidates.may_finish)
    enters = ops.logical_and(enters[:, :num_beams], ops.logical_not(ops.expand_dims(loop.is_done, 1)))
    ranks = candidates.scores[:, :num_beams] / ops.take(loop.divisors.now, loop.index)
    if coverage is not None:
        ranks = ranks + ops.take_along_axis(coverage, candidates.parents[:, :num_beams], axis=1)
    ranks = ops.concatenate([loop.finished_ranks, ops.where(enters, ranks, -np.inf)], axis=1)
    finished_ranks, finished = ops.top_k(ranks, num_beams)
    return Selection(
        alive=alive + num_beams,
        alive_scores=alive_scores,
        finished=ops.cast(finished, "int32"),
        finished_ranks=finished_ranks,
    )


def follow(loop, candidates, selection, limits):
    """The parents int32 `[B, K]` of the alive hypotheses, and the next loop but for `is_done`, memory and state."""
    num_beams = loop.alive_scores.shape[1]
    kept = ops.zeros_like(loop.finished_scores, dtype="int32")
    chosen = ops.concatenate([selection.alive, selection.finished], axis=1)
    # A hypothesis comes from an alive one and gets a token, or stays in the pool and gets a pad after its END.
    origins = ops.concatenate([kept + ops.arange(num_beams, 2 * num_beams, dtype="int32"), candidates.parents], axis=1)
    origins = ops.take_along_axis(origins, chosen, axis=1)
    tokens = ops.concatenate([kept + limits.pad_id, candidates.tokens], axis=1)
    tokens = ops.take_along_axis(tokens, chosen, axis=1)
    sequences = ops.take_along_axis(loop.sequences, ops.expand_dims(origins, -1), axis=1)
    scores = ops.concatenate([loop.finished_scores, candidates.scores], axis=1)
    following = loop._replace(
        index=loop.index + 1,
        tokens=ops.reshape(tokens[:, :num_beams], (-1,)),
        sequences=write_tokens(sequences, loop.index, tokens),
        alive_scores=selection.alive_scores,
        finished_scores=ops.take_along_axis(scores, selection.finished, axis=1),
        finished_ranks=selection.finished_ranks,
    )
    return origins[:, :num_beams], following


def is_full(selection):
    """bool `[B]`: the pool has K hypotheses, or nothing is alive."""
    nothing_alive = ops.max(selection.alive_scores, axis=1) == -np.inf
    return ops.logical_or(selection.finished_ranks[:, -1] > -np.inf, nothing_alive)


def cannot_improve(index, selection, divisors):
    """bool `[B]`: no alive hypothesis can beat the worst finished one, at whatever length it ends.

    A score only falls as a hypothesis grows, so the best it can reach is its present one under the greatest divisor. A
    coverage penalty is at most 0.
    """
    best = ops.max(selection.alive_scores, axis=1) / ops.take(divisors.later, index)
    return best <= selection.finished_ranks[:, -1]


def does_not_lead(index, selection, divisors, coverage=None):
    """bool `[B]`: no alive hypothesis, ranked as it is now, beats the worst finished one.

    Args:
        index: int32 scalar.
        selection: `Selection`.
        divisors: `Divisors`.
        coverage: float32 `[B, K]` of the alive hypotheses, or `None`.
    """
    ranks = selection.alive_scores / ops.take(divisors.now, index)
    ranks = ranks if coverage is None else ranks + coverage
    return ops.max(ranks, axis=1) <= selection.finished_ranks[:, -1]


def finished_hypotheses(loop, limits):
    """The sequences int32 `[B, K, L]`, scores float32 `[B, K]` and lengths int32 `[B, K]` of the pool."""
    num_beams = loop.alive_scores.shape[1]
    is_empty = loop.finished_ranks == -np.inf
    sequences = ops.where(ops.expand_dims(is_empty, -1), limits.pad_id, loop.sequences[:, num_beams:])
    scores = ops.where(is_empty, -np.inf, loop.finished_scores)
    return sequences, scores, ops.where(is_empty, 0, limits.lengths(sequences))
