"""Contrastive search: a probable token whose hidden state is unlike all before, against repetition."""

import dataclasses
from collections.abc import Callable
from typing import Any, NamedTuple

import numpy as np
from keras import ops, tree

from keras_tfm.generation.greedy import Greedy, append
from keras_tfm.generation.logit_rule import with_rules
from keras_tfm.generation.number_checks import check_number
from keras_tfm.generation.step_protocol import check_integer, log_probabilities, next_logits, prepare
from keras_tfm.generation.strategy import Limits, Strategy, run_loop


class ContrastiveLoop(NamedTuple):
    """What changes from step to step."""

    index: Any  # int32 scalar
    tokens: Any  # int32 [B]
    sequences: Any  # int32 [B, L]
    scores: Any  # float32 [B]
    lengths: Any  # int32 [B]
    is_finished: Any  # bool [B]
    state: Any  # of the model, after it read the last token; every leaf [B, ...]
    logits: Any  # float32 [B, V], of the next token
    memory: Any  # float32 [B, P + 1 + L, D], of length 1: the hidden states so far, zeros where there is none


@dataclasses.dataclass(frozen=True)
class Contrastive(Strategy):
    """Probable tokens unlike those before, see `contrastive_search`.

    Args:
        hidden: callable `(state) -> float [R, D]`, the hidden state of the token that was read last.
        num_candidates: k, of how many most probable tokens one is chosen.
        penalty_alpha: from 0 to 1, the weight of the likeness to what was before.
    """

    hidden: Callable
    num_candidates: int = 4
    penalty_alpha: float = 0.6

    def __post_init__(self):
        """Checks the settings."""
        check_integer("num_candidates", self.num_candidates, minimum=1)
        check_number("penalty_alpha", self.penalty_alpha, minimum=0, maximum=1)

    def start(self, tokens, state, limits, seed):
        """The loop after the start token was read.

        Args:
            tokens: int32 `[B]`, the start tokens.
            state: `(state, logits [B, V], memory [B, P, D])` after the step that read them.
            limits, seed: as in `Strategy`.
        """
        state, logits, memory = state
        room = ops.zeros((ops.shape(tokens)[0], limits.max_length, memory.shape[-1]), "float32")
        read = ops.cast(self.hidden(state), "float32")[:, None]
        memory = ops.concatenate([_unit(ops.concatenate([ops.cast(memory, "float32"), read], axis=1)), room], axis=1)
        return ContrastiveLoop(*Greedy().start(tokens, state, limits, seed), logits, memory)

    def is_running(self, loop, limits):
        """Whether a sequence has not ended."""
        return ops.logical_not(ops.all(loop.is_finished))

    def advance(self, step, loop, limits):
        """Reads every candidate and goes on with the best."""
        size = loop.logits.shape[-1]
        k = min(self.num_candidates, size)
        largest, candidates = ops.top_k(loop.logits, k)
        gains = log_probabilities(largest, loop.logits)
        candidates = ops.cast(candidates, "int32")
        state = tree.map_structure(lambda leaf: ops.repeat(leaf, k, axis=0), loop.state)
        logits, state = next_logits(step, ops.reshape(candidates, (-1,)), loop.index + 1, state, limits.end_ids)
        hidden = _unit(self.hidden(state))
        merits = self._merits(gains, ops.reshape(hidden, (-1, k, hidden.shape[-1])), loop.memory)
        best = ops.cast(ops.argmax(merits, axis=-1), "int32")
        rows = ops.arange(ops.shape(best)[0], dtype="int32") * k + best
        state, logits, hidden = tree.map_structure(lambda leaf: ops.take(leaf, rows, axis=0), (state, logits, hidden))
        tokens, gains = (ops.take_along_axis(each, best[:, None], axis=1)[:, 0] for each in (candidates, gains))
        place = loop.memory.shape[1] - limits.max_length + loop.index
        memory = ops.slice_update(loop.memory, (0, place, 0), hidden[:, None])
        return append(loop, tokens, gains, state, limits)._replace(logits=logits, memory=memory)

    def _merits(self, gains, hidden, memory):
        """float32 `[B, k]`: equation 5, of candidates with hidden states `[B, k, D]`; -inf where they are forbidden."""
        likeness = ops.einsum("bkd,bsd->bks", hidden, memory)
        is_there = ops.any(memory != 0, axis=-1)[:, None]
        likeness = ops.max(ops.where(is_there, likeness, -1.0), axis=-1)
        merits = (1 - self.penalty_alpha) * ops.exp(gains) - self.penalty_alpha * likeness
        return ops.where(gains > -np.inf, merits, -np.inf)

    def result(self, loop, limits):
        """Sequences, scores, lengths."""
        return loop.sequences, loop.scores, loop.lengths


def _unit(hidden):
    """`hidden [..., D]` in float32 at length 1; zeros stay."""
    hidden = ops.cast(hidden, "float32")
    length = ops.sqrt(ops.sum(ops.square(hidden), axis=-1, keepdims=True))
    return hidden / ops.where(length > 0, length, 1.0)


def contrastive_search(
    step,
    state,
    start_tokens,
    *,
    hidden,
    max_length,
    end_id=None,
    pad_id=0,
    rules=(),
    prompt=None,
    prompt_hidden=None,
    num_candidates=4,
    penalty_alpha=0.6,
):
    """Decodes by taking, of the most probable tokens, one whose hidden state is unlike those of all tokens before.

    `(1 - α) p(token) - α max cos(h(token), h(earlier))` decides: text that stays on its subject without repeating
    itself, and without chance. Each step reads all candidates, in one batch k times as large.

    Args:
        step: callable `(tokens int32 [R], index int32 scalar, state) -> (logits [R, V], state)`, as in `search`, for
            R = B and R = B · k rows. It reads the last token too, at `index = max_length`.
        state: pytree of tensors `[B, ...]`; `hidden` finds the hidden state in what `step` returns.
        start_tokens: int `[B]`, the first token given to `step`, no part of the result.
        hidden: callable `(state) -> float [R, D]`, the hidden state of the token that was read last.
        max_length: Python integer L >= 1, the greatest number of tokens, END included.
        end_id: Python integer, the id of END, or several of them; `None` for none.
        pad_id: Python integer, what fills the positions after END. Default 0.
        rules, prompt: as `search` has them.
        prompt_hidden: float `[B, P, D]`, hidden states of what was read before `start_tokens`, zeros where there is
            nothing. Default: none.
        num_candidates: Python integer k >= 1. Default 4; 1 is greedy search.
        penalty_alpha: α, from 0 to 1. Default 0.6; 0 is greedy search.

    Returns:
        Tuple of `sequences` int32 `[B, L]`; `scores` float32 `[B]`, the sums of the tokens' log-probabilities;
        `lengths` int32 `[B]`.

    Numerics:
        Likeness is computed in float32. A hidden state of zeros is like nothing.

    Raises:
        ValueError: on a bad number, id, `start_tokens`, state or shape of the logits.

    Reference:
        Su et al. 2022, https://arxiv.org/abs/2202.06417, equation 5.

    Example:

    >>> follows = ops.convert_to_tensor([[5.0, 4, 0], [0, 5, 4.0], [4, 0, 5]])  # each token likes to be repeated
    >>> def step(tokens, index, state):
    ...     return ops.take(follows, tokens, axis=0), ops.one_hot(tokens, 3)
    >>> for alpha in (0, 0.6):
    ...     sequences, _, _ = contrastive_search(
    ...         step, np.zeros((1, 3)), np.array([0]), hidden=lambda state: state, max_length=3, penalty_alpha=alpha
    ...     )
    ...     print(ops.convert_to_numpy(sequences))
    [[0 0 0]]
    [[1 2 2]]
    """
    limits = Limits.create(max_length, end_id, pad_id)
    tokens, state = prepare(start_tokens, state)
    step, state = with_rules(rules, step, state, tokens, limits.max_length, prompt)
    of_state = (lambda state: hidden(state[0])) if tuple(rules) else hidden
    strategy = Contrastive(of_state, num_candidates, penalty_alpha)
    logits, state = next_logits(step, tokens, ops.convert_to_tensor(0, dtype="int32"), state, limits.end_ids)
    if prompt_hidden is None:
        prompt_hidden = ops.zeros((ops.shape(tokens)[0], 0, of_state(state).shape[-1]), "float32")
    loop = strategy.start(tokens, (state, logits, ops.convert_to_tensor(prompt_hidden)), limits, None)
    return strategy.result(run_loop(strategy, step, loop, limits), limits)
