"""Beam search with a pool of finished hypotheses."""

import numbers
from typing import Any, NamedTuple

import numpy as np
from keras import ops, tree

from keras_tfm.generation.greedy import greedy_search
from keras_tfm.generation.step_protocol import check_integer, log_probabilities, next_logits, prepare, write_tokens


class BeamSearch(NamedTuple):
    """Loop state of `beam_search`: K alive hypotheses and a pool of K finished ones, both best first."""

    index: Any  # int32 scalar
    tokens: Any  # int32 [B * K], what the next step reads
    sequences: Any  # int32 [B, 2K, L], the alive ones before the finished ones
    alive_scores: Any  # float32 [B, K], sums of log-probabilities
    finished_scores: Any  # float32 [B, K], sums of log-probabilities
    finished_ranks: Any  # float32 [B, K], finished_scores by the length penalty; -inf: an empty place
    is_done: Any  # bool [B], nothing can enter the pool any more
    state: Any  # pytree, every leaf [B * K, ...]


class Candidates(NamedTuple):
    """The best continuations C of the alive hypotheses, best first."""

    scores: Any  # float32 [B, C]
    parents: Any  # int32 [B, C], in 0 .. K-1
    tokens: Any  # int32 [B, C]


class Selection(NamedTuple):
    """Who goes on, as places among the K finished hypotheses and the C candidates after them."""

    alive: Any  # int32 [B, K]
    alive_scores: Any  # float32 [B, K]
    finished: Any  # int32 [B, K]
    finished_ranks: Any  # float32 [B, K]


class Penalties(NamedTuple):
    """What divides the score of a hypothesis that takes its token at index i."""

    now: Any  # float32 [L], if that token is its last
    later: Any  # float32 [L], the greatest if it goes on


def beam_search(step, state, start_tokens, *, num_beams, max_length, end_id, pad_id=0, length_penalty=0.6):
    """Decode by keeping the K best unfinished hypotheses and a pool of the K best finished ones.

    Every step takes the 2K best continuations. Those among the first K that end enter the pool, where they are never
    extended nor changed; the K best of the others stay alive. At `max_length` the first K enter the pool as they are,
    ended or not: an unfinished hypothesis competes as one of length `max_length`. A sentence is done when no alive
    hypothesis could beat the worst of a full pool at any length it may still reach; the loop ends when all are.

    Hypotheses are ranked by `score / ((5 + length) / 6) ** length_penalty`. With one beam there is nothing to rank and
    END is final as soon as it is the best token: `num_beams=1` is `greedy_search`, whatever the penalty.

    Args:
        step: callable `(tokens int32 [B * K], index int32 scalar, state) -> (logits [B * K, V], state)`, as in
            `greedy_search`; rows `b * K ... b * K + K - 1` belong to sentence b.
        state: pytree of tensors `[B, ...]`; repeated to `[B * K, ...]` here and reordered with the hypotheses. Its
            shapes, dtypes and structure stay the same from step to step. `()` if there is none.
        start_tokens: int `[B]`, the first token given to `step`, no part of the result.
        num_beams: Python integer K >= 1.
        max_length: Python integer L >= 1, the greatest number of tokens, END included.
        end_id: Python integer, the id of END.
        pad_id: Python integer, what fills the positions after END; it may equal `end_id`. Default 0.
        length_penalty: Python number, the exponent alpha; 0 ranks by the bare score, greater values favour longer
            hypotheses, negative ones shorter. Default 0.6.

    Returns:
        Tuple of `sequences` int32 `[B, K, L]`, `scores` float32 `[B, K]`, the sums of log-probabilities (END's
        included) before the penalty, and `lengths` int32 `[B, K]`, the number of tokens with END; best first by the
        penalised score. Where there are fewer than K hypotheses, the last places have score -inf, length 0 and pads.

    Raises:
        ValueError: on a bad number, id, `start_tokens`, state or shape of the logits.

    Reference:
        Wu et al., 2016, https://arxiv.org/abs/1609.08144, equation 14 (without the coverage penalty).

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
    num_beams = check_integer("num_beams", num_beams, minimum=1)
    max_length = check_integer("max_length", max_length, minimum=1)
    end_id = check_integer("end_id", end_id, minimum=0)
    pad_id = check_integer("pad_id", pad_id, minimum=0)
    penalties = length_penalties(length_penalty, max_length)
    if num_beams == 1:
        results = greedy_search(step, state, start_tokens, max_length=max_length, end_id=end_id, pad_id=pad_id)
        return tuple(ops.expand_dims(result, 1) for result in results)

    start_tokens, state = prepare(start_tokens, state)
    first_rows = ops.expand_dims(ops.arange(ops.shape(start_tokens)[0], dtype="int32") * num_beams, 1)

    def has_running(search):
        return ops.logical_not(ops.all(search.is_done))

    def advance(search):
        logits, state = next_logits(step, search.tokens, search.index, search.state, (end_id,))
        candidates = best_candidates(logits, search.alive_scores)
        selection = select(search, candidates, penalties, end_id)
        parents, following = follow(search, candidates, selection, penalties, pad_id)
        rows = ops.reshape(first_rows + parents, (-1,))
        state = tree.map_structure(lambda leaf: ops.take(leaf, rows, axis=0), state)
        return (following._replace(state=state),)

    start = start_search(start_tokens, state, num_beams, max_length, pad_id)
    # A NamedTuple given alone would be taken for the list of loop variables.
    (search,) = ops.while_loop(has_running, advance, (start,), maximum_iterations=max_length)
    return finished_hypotheses(search, end_id, pad_id)


def length_penalties(length_penalty, max_length):
    """Return the `Penalties` of Wu et al. for hypotheses of 1 ... L tokens."""
    if not isinstance(length_penalty, numbers.Real) or not np.isfinite(length_penalty):
        raise ValueError(f"`length_penalty` must be a finite number. Received: length_penalty={length_penalty!r}")
    with np.errstate(over="ignore", under="ignore"):
        now = (((5.0 + np.arange(1, max_length + 1)) / 6.0) ** float(length_penalty)).astype("float32")
    if not (np.isfinite(now).all() and now.all()):
        raise ValueError(
            f"`length_penalty` must leave the penalty of {max_length} tokens within float32. "
            f"Received: length_penalty={length_penalty}"
        )
    greatest = np.maximum.accumulate(now[::-1])[::-1]
    later = np.append(greatest[1:], greatest[-1:])
    return Penalties(ops.convert_to_tensor(now), ops.convert_to_tensor(later))


def start_search(start_tokens, state, num_beams, max_length, pad_id):
    """Return the loop state before the first step: one alive hypothesis a sentence, an empty pool."""
    batch_size = ops.shape(start_tokens)[0]
    nothing = ops.full((batch_size, num_beams), -np.inf, dtype="float32")
    return BeamSearch(
        index=ops.convert_to_tensor(0, dtype="int32"),
        tokens=ops.repeat(start_tokens, num_beams, axis=0),
        sequences=ops.full((batch_size, 2 * num_beams, max_length), pad_id, dtype="int32"),
        # All beams are alike at first: only one may go on, or each candidate would come K times.
        alive_scores=ops.where(ops.arange(num_beams) == 0, 0.0, nothing),
        finished_scores=nothing,
        finished_ranks=nothing,
        is_done=ops.zeros((batch_size,), dtype="bool"),
        state=tree.map_structure(lambda leaf: ops.repeat(leaf, num_beams, axis=0), state),
    )


def best_candidates(logits, alive_scores):
    """Return the 2K best continuations, or all K * V if there are fewer.

    Args:
        logits: float32 `[B * K, V]`.
        alive_scores: float32 `[B, K]`.
    """
    batch_size, num_beams = ops.shape(alive_scores)
    # The best of all are among the best of each: no tensor of the size of the logits is made.
    width = min(2 * num_beams, logits.shape[-1])
    largest, tokens = ops.top_k(logits, width)
    gains = ops.reshape(log_probabilities(largest, logits), (batch_size, num_beams, width))
    totals = ops.reshape(ops.expand_dims(alive_scores, -1) + gains, (batch_size, num_beams * width))
    scores, places = ops.top_k(totals, min(2 * num_beams, num_beams * width))
    tokens = ops.take_along_axis(ops.reshape(tokens, (batch_size, num_beams * width)), places, axis=1)
    return Candidates(scores, ops.cast(places // width, "int32"), ops.cast(tokens, "int32"))


def select(search, candidates, penalties, end_id):
    """Choose the next alive and finished hypotheses out of the candidates and the pool."""
    num_beams = search.alive_scores.shape[1]
    ends = candidates.tokens == end_id
    alive_scores, alive = ops.top_k(ops.where(ends, -np.inf, candidates.scores), num_beams)

    is_last = search.index == penalties.now.shape[0] - 1
    enters = ops.logical_or(ends, is_last)[:, :num_beams]
    enters = ops.logical_and(enters, ops.logical_not(ops.expand_dims(search.is_done, 1)))
    ranks = candidates.scores[:, :num_beams] / ops.take(penalties.now, search.index)
    ranks = ops.concatenate([search.finished_ranks, ops.where(enters, ranks, -np.inf)], axis=1)
    finished_ranks, finished = ops.top_k(ranks, num_beams)
    return Selection(
        alive=ops.cast(alive, "int32") + num_beams,
        alive_scores=alive_scores,
        finished=ops.cast(finished, "int32"),
        finished_ranks=finished_ranks,
    )


def follow(search, candidates, selection, penalties, pad_id):
    """Return the parents int32 `[B, K]` of the alive hypotheses and the next loop state but for the model's state."""
    num_beams = search.alive_scores.shape[1]
    kept = ops.zeros_like(search.finished_scores, dtype="int32")
    chosen = ops.concatenate([selection.alive, selection.finished], axis=1)
    # A hypothesis comes from an alive one and gets a token, or stays in the pool and gets a pad after its END.
    origins = ops.concatenate([kept + ops.arange(num_beams, 2 * num_beams, dtype="int32"), candidates.parents], axis=1)
    origins = ops.take_along_axis(origins, chosen, axis=1)
    tokens = ops.take_along_axis(ops.concatenate([kept + pad_id, candidates.tokens], axis=1), chosen, axis=1)
    sequences = ops.take_along_axis(search.sequences, ops.expand_dims(origins, -1), axis=1)
    scores = ops.concatenate([search.finished_scores, candidates.scores], axis=1)
    following = BeamSearch(
        index=search.index + 1,
        tokens=ops.reshape(tokens[:, :num_beams], (-1,)),
        sequences=write_tokens(sequences, search.index, tokens),
        alive_scores=selection.alive_scores,
        finished_scores=ops.take_along_axis(scores, selection.finished, axis=1),
        finished_ranks=selection.finished_ranks,
        is_done=ops.logical_or(search.is_done, cannot_improve(search.index, selection, penalties)),
        state=(),
    )
    return origins[:, :num_beams], following


def cannot_improve(index, selection, penalties):
    """Return bool `[B]`: no alive hypothesis can beat the worst finished one, at whatever length it ends.

    A score only falls as a hypothesis grows, so the best it can reach is its present one under the greatest penalty.
    """
    return selection.alive_scores[:, 0] / ops.take(penalties.later, index) <= selection.finished_ranks[:, -1]


def finished_hypotheses(search, end_id, pad_id):
    """Return the sequences, scores and lengths of the pool."""
    num_beams, max_length = search.alive_scores.shape[1], search.sequences.shape[2]
    is_empty = search.finished_ranks == -np.inf
    sequences = ops.where(ops.expand_dims(is_empty, -1), pad_id, search.sequences[:, num_beams:])
    is_end = sequences == end_id
    lengths = ops.cast(ops.argmax(ops.cast(is_end, "int32"), axis=-1), "int32") + 1
    lengths = ops.where(ops.any(is_end, axis=-1), lengths, max_length)
    scores = ops.where(is_empty, -np.inf, search.finished_scores)
    return sequences, scores, ops.where(is_empty, 0, lengths)
