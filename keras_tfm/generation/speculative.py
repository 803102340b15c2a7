"""Speculative decoding: several guessed tokens are checked by the model at once, and those that stand are kept."""

import dataclasses
from typing import Any, NamedTuple

from keras import ops

from keras_tfm.generation.drafter import Drafter, Known, draw_from, filtered_probabilities
from keras_tfm.generation.sampling import Sampling, sample_keys
from keras_tfm.generation.step_protocol import check_integer, log_probabilities, prepare
from keras_tfm.generation.strategy import Limits, Strategy, run_loop
from keras_tfm.ops.counter_random import uniform

CHECK_STREAM = 2  # of random numbers; the drafter's are stream 1, the target's own 0


class SpeculativeLoop(NamedTuple):
    """What changes from call to call."""

    index: Any  # int32 scalar, the calls of the target
    places: Any  # int32 [B], how many tokens each row has
    tokens: Any  # int32 [B], the last of them
    sequences: Any  # int32 [B, L]
    scores: Any  # float32 [B]
    num_calls: Any  # int32 [B]
    is_finished: Any  # bool [B]
    keys: Any  # int32 [B]
    state: Any  # of target and drafter: a pair of pytrees, every leaf [B, ...]


@dataclasses.dataclass(frozen=True)
class Speculative(Strategy):
    """Guesses checked at once, see `speculative_search`. Its step is the target's `extend`.

    Args:
        drafter: a `Drafter`.
        num_draft_tokens: G, how many tokens are guessed at a time.
        sampling: a `Sampling` without `num_samples`: what the result is distributed as. Temperature 0 is greedy.
    """

    drafter: Drafter
    num_draft_tokens: int = 4
    sampling: Sampling = Sampling(temperature=0)

    def start(self, tokens, state, limits, seed):
        """The loop before the first call; `state` is that of the target and that of the drafter."""
        batch_size = ops.shape(tokens)[0]
        zeros = ops.zeros((batch_size,), dtype="int32")
        return SpeculativeLoop(
            index=ops.convert_to_tensor(0, dtype="int32"),
            places=zeros,
            tokens=tokens,
            sequences=ops.full((batch_size, limits.max_length), limits.pad_id, dtype="int32"),
            scores=ops.zeros((batch_size,), dtype="float32"),
            num_calls=zeros,
            is_finished=ops.zeros((batch_size,), dtype="bool"),
            keys=sample_keys(seed, batch_size, 1),
            state=state,
        )

    def is_running(self, loop, limits):
        """Whether a sequence has not ended."""
        return ops.logical_not(ops.all(loop.is_finished))

    def advance(self, step, loop, limits):
        """Guesses, checks, and keeps what stands and one token more."""
        state, draft_state = loop.state
        places = ops.minimum(loop.places, limits.max_length - 1)  # full rows are read too, and need no more room
        known = Known(loop.tokens, places, loop.sequences, loop.keys)
        drafts, chances, draft_state = self.drafter.draft(known, self.num_draft_tokens, self.sampling, draft_state)
        read = ops.concatenate([loop.tokens[:, None], drafts], axis=1)
        logits, state = step(read, places, state)
        logits = _checked(logits, read, limits)
        num_right, tokens = self._check(logits, drafts, chances, loop)
        offsets = ops.arange(self.num_draft_tokens + 1, dtype="int32")
        following = ops.concatenate([drafts, tokens[:, None]], axis=1)
        following = ops.where(offsets < num_right[:, None], following, tokens[:, None])
        return _keep(loop, following, num_right + 1, tokens, logits, (state, draft_state), limits)

    def _check(self, logits, drafts, chances, loop):
        """How many drafts stand in each row, and the token after them: both int32 `[B]`."""
        if self.sampling.temperature == 0:
            best = ops.cast(ops.argmax(logits, axis=-1), "int32")
            num_right = _count_first(ops.equal(drafts, best[:, :-1]))
            return num_right, ops.take_along_axis(best, num_right[:, None], axis=1)[:, 0]
        size = logits.shape[-1]
        rows = ops.reshape(logits, (-1, size))
        target = ops.reshape(filtered_probabilities(rows, self.sampling), (-1, self.num_draft_tokens + 1, size))
        if chances is None:  # drafts that were not drawn have all the probability
            chances = ops.cast(ops.equal(ops.arange(size, dtype="int32"), drafts[..., None]), "float32")
        positions = loop.places[:, None] + ops.arange(self.num_draft_tokens, dtype="int32")
        draws = uniform(loop.keys[:, None], positions, 1, CHECK_STREAM)[..., 0]
        wanted, given = (ops.take_along_axis(p, drafts[..., None], axis=2)[..., 0] for p in (target[:, :-1], chances))
        num_right = _count_first(draws * given < wanted)
        return num_right, _draw_the_rest(target, chances, num_right, loop)

    def result(self, loop, limits):
        """Sequences, scores, lengths."""
        return loop.sequences, loop.scores, loop.places


def _count_first(is_right):
    """int32 `[B]`, how many of bool `[B, G]` are True before the first that is not."""
    return ops.cast(ops.sum(ops.cumprod(ops.cast(is_right, "int32"), axis=1), axis=1), "int32")


def _draw_the_rest(target, chances, num_right, loop):
    """int32 `[B]`, the first token that no draft stands for, from what the drafter's chances left of the target's."""
    chances = ops.pad(chances, ((0, 0), (0, 1), (0, 0)))  # behind all drafts nothing was taken
    at = num_right[:, None, None]
    target, chances = (ops.take_along_axis(p, at, axis=1)[:, 0] for p in (target, chances))
    rest = ops.maximum(target - chances, 0.0)
    # By rounding nothing may be left; then the two are the same.
    rest = ops.where(ops.any(rest > 0, axis=-1, keepdims=True), rest, target)
    return draw_from(rest, loop.keys, loop.places + num_right)


def _keep(loop, following, num_following, tokens, logits, state, limits):
    """The loop with the first `num_following` of int32 `following [B, G + 1]`, up to END and the greatest length."""
    offsets = ops.arange(following.shape[1], dtype="int32")
    count = ops.minimum(ops.minimum(num_following, limits.lengths(following)), limits.max_length - loop.places)
    count = ops.where(loop.is_finished, 0, count)
    is_kept = offsets < count[:, None]
    largest = ops.max(logits, axis=-1, keepdims=True)
    chosen = ops.take_along_axis(logits, following[..., None], axis=2)
    gains = log_probabilities(ops.concatenate([chosen, largest], axis=-1), logits)[..., 0]
    has_ended = ops.any(ops.logical_and(is_kept, limits.is_end(following)), axis=1)
    is_full = loop.places + count >= limits.max_length
    return SpeculativeLoop(
        index=loop.index + 1,
        places=loop.places + count,
        tokens=ops.where(loop.is_finished, loop.tokens, tokens),
        sequences=_append(loop.sequences, loop.places, following, count),
        scores=loop.scores + ops.sum(ops.where(is_kept, gains, 0.0), axis=1),
        num_calls=loop.num_calls + ops.cast(ops.logical_not(loop.is_finished), "int32"),
        is_finished=ops.logical_or(loop.is_finished, ops.logical_or(has_ended, is_full)),
        keys=loop.keys,
        state=state,
    )


def _append(sequences, places, tokens, count):
    """int32 `sequences [B, L]` with the first `count [B]` of `tokens [B, G + 1]` from `places [B]` on."""
    sources = ops.arange(sequences.shape[1], dtype="int32") - places[:, None]
    is_new = ops.logical_and(sources >= 0, sources < count[:, None])
    return ops.where(is_new, ops.take_along_axis(tokens, ops.clip(sources, 0, tokens.shape[1] - 1), axis=1), sequences)


def _checked(logits, read, limits):
    """`logits` in float32, or a `ValueError` if they are not `[B, T, V]`."""
    shape, wanted = tuple(logits.shape), tuple(read.shape)
    fits = len(shape) == 3 and shape[2] is not None
    if not fits or any(None not in pair and pair[0] != pair[1] for pair in zip(shape, wanted, strict=False)):
        raise ValueError(
            f"`extend` must return logits of shape [{wanted[0]}, {wanted[1]}, vocabulary_size], one row a token. "
            f"Received: logits of shape {shape}"
        )
    if any(end_id >= shape[2] for end_id in limits.end_ids):
        raise ValueError(
            f"`end_id` must be smaller than the vocabulary size {shape[2]}. Received: end_id={limits.end_ids}"
        )
    return ops.cast(logits, "float32")


def speculative_search(
    extend,
    state,
    drafter,
    start_tokens,
    *,
    max_length,
    draft_state=(),
    num_draft_tokens=4,
    end_id=None,
    pad_id=0,
    prompt=None,
    seed=0,
    temperature=0.0,
    top_k=None,
    top_p=None,
    min_p=None,
    typical_p=None,
):
    """Decodes with guesses that a cheap drafter makes and the model checks several at a time.

    At temperature 0 the result is that of `greedy_search`, else its distribution is that of `sample_search`: exactly
    the model's, whatever the drafter. A good drafter saves calls of the model, a bad one costs some time. Rows go on at
    their own pace.

    Args:
        extend: callable `(tokens int32 [B, T], index int32 [B], state) -> (logits [B, T, V], state)`. Token j of a row
            stands at position `index - 1 + j`, and its logits score position `index + j`. What was read at a position
            before and is read anew is overwritten; nothing at later positions is seen.
        state: pytree of tensors `[B, ...]`: caches with room for `max_length + num_draft_tokens` tokens, the first
            one included. `()` if there is none.
        drafter: a `Drafter`, such as `DraftModel` or `PromptLookup`.
        start_tokens: int `[B]`, the token at position -1, no part of the result.
        max_length: Python integer L >= 1, the greatest number of tokens, END included.
        draft_state: as `state`, of the drafter.
        num_draft_tokens: Python integer G >= 1, how many tokens are guessed at a time. Default 4.
        end_id: Python integer, the id of END, or several of them; `None` for none.
        pad_id: Python integer, what fills the positions after END. Default 0.
        prompt: int `[B, P]`, what was read before `start_tokens`, -1 where there is nothing, for drafters that look it
            up.
        seed: int, int32 scalar, or int32 `[B]` for rows that draw in a batch what they draw alone. Default 0.
        temperature, top_k, top_p, min_p, typical_p: as `Sampling`. Default: greedy.

    Returns:
        Tuple of `sequences` int32 `[B, L]`; `scores` float32 `[B]`, the sums of the tokens' log-probabilities under the
        model, before temperature and filters; `lengths` int32 `[B]`; `num_calls` int32 `[B]`, how many calls of
        `extend` each row took: `lengths / num_calls` tokens a call, at most G + 1.

    Raises:
        ValueError: on a bad number, id, `start_tokens`, state, drafter or shape of the logits.

    Reference:
        Leviathan, Kalman and Matias 2023, https://arxiv.org/abs/2211.17192, algorithm 1; Chen et al. 2023,
        https://arxiv.org/abs/2302.01318, theorem 1.

    Example:

    >>> import numpy as np
    >>> from keras_tfm.generation.prompt_lookup import PromptLookup
    >>> follows = ops.convert_to_tensor([[0.0, 9, 0], [0, 0, 9], [9, 0, 0]])  # 0 1 2 0 1 2 ...
    >>> def extend(tokens, index, state):
    ...     return ops.take(follows, tokens, axis=0), state
    >>> sequences, _, lengths, num_calls = speculative_search(
    ...     extend, (), PromptLookup(), np.array([0]), max_length=8, prompt=np.array([[0, 1, 2]])
    ... )
    >>> print(ops.convert_to_numpy(sequences), int(num_calls[0]))
    [[1 2 0 1 2 0 1 2]] 2
    """
    if not isinstance(drafter, Drafter):
        raise ValueError(f"`drafter` must be a `Drafter`. Received: drafter={drafter!r}")
    limits = Limits.create(max_length, end_id, pad_id)
    num_draft_tokens = check_integer("num_draft_tokens", num_draft_tokens, minimum=1)
    sampling = Sampling(temperature, top_k=top_k, top_p=top_p, min_p=min_p, typical_p=typical_p)
    tokens, states = prepare(start_tokens, (state, draft_state))
    prompt = ops.zeros((ops.shape(tokens)[0], 0), "int32") if prompt is None else ops.cast(prompt, "int32")
    states = states[0], drafter.start(tokens, prompt, states[1])
    strategy = Speculative(drafter, num_draft_tokens, sampling)
    loop = run_loop(strategy, extend, strategy.start(tokens, states, limits, ops.cast(seed, "int32")), limits)
    return *strategy.result(loop, limits), loop.num_calls
