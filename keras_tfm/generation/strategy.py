"""Strategy: what a way of decoding must say, and the loop that runs any of them."""

from typing import NamedTuple

from keras import ops

from keras_tfm import backend
from keras_tfm.generation.logit_rule import with_rules
from keras_tfm.generation.step_protocol import check_ids, check_integer, prepare


class Limits(NamedTuple):
    """What ends a sequence, the same for every strategy.

    Args:
        max_length: Python integer L >= 1, the greatest number of tokens, END included.
        end_ids: tuple of the ids that end a sequence; may be empty.
        pad_id: what fills the positions after the end.
    """

    max_length: int
    end_ids: tuple = ()
    pad_id: int = 0

    @classmethod
    def create(cls, max_length, end_id=None, pad_id=0):
        """Checked limits; `end_id` is an integer, several, or `None` for no end but `max_length`."""
        return cls(
            check_integer("max_length", max_length, minimum=1),
            check_ids("end_id", end_id),
            check_integer("pad_id", pad_id, minimum=0),
        )

    def is_end(self, tokens):
        """bool, in the shape of int `tokens`: which of them end their sequence."""
        found = ops.zeros_like(tokens, dtype="bool")
        for end_id in self.end_ids:
            found = ops.logical_or(found, ops.equal(tokens, end_id))
        return found

    def lengths(self, sequences):
        """int32 `[...]`, the number of tokens of int `sequences [..., L]`, the first END included."""
        is_end = self.is_end(sequences)
        first = ops.cast(ops.argmax(ops.cast(is_end, "int32"), axis=-1), "int32") + 1
        return ops.where(ops.any(is_end, axis=-1), first, self.max_length)


class Strategy:
    """Base of the ways to decode. A strategy is a frozen dataclass of its settings; what changes is the loop's value.

    A loop is a NamedTuple of tensors with at least `index` (int32 scalar, the number of steps taken) and `state` (the
    model's). Nothing else remembers anything, so that the same methods run in a compiled loop and one by one.
    """

    def start(self, tokens, state, limits, seed):
        """The loop before the first step.

        Args:
            tokens: int32 `[B]`, the first tokens given to `step`.
            state: pytree of tensors `[B, ...]`.
            limits: `Limits`.
            seed: int32 scalar, for strategies that draw.
        """
        raise NotImplementedError

    def is_running(self, loop, limits):
        """bool scalar: whether any sequence can still change. The number of steps need not be looked at."""
        raise NotImplementedError

    def advance(self, step, loop, limits):
        """The loop after one more step."""
        raise NotImplementedError

    def result(self, loop, limits):
        """`(sequences int32 [B, (K,) L], scores float32 [B, (K)], lengths int32 [B, (K)])`."""
        raise NotImplementedError


def search(strategy, step, state, start_tokens, *, max_length, end_id=None, pad_id=0, rules=(), prompt=None, seed=0):
    """Decodes by any strategy, eagerly or inside `jax.jit` and `tf.function`; leaves the loop when all have ended.

    Args:
        strategy: a `Strategy`.
        step: callable `(tokens int32 [R], index int32 scalar, state) -> (logits [R, V], state)`. It reads the token at
            position `index - 1` (`start_tokens` at index 0) and scores position `index`. Logits may have any float
            dtype and are finite or -inf (a forbidden token).
        state: pytree of tensors `[B, ...]` (tuples, NamedTuples, lists, dicts). Its shapes, dtypes and structure stay
            the same from step to step. `()` if there is none. What never changes need not be in it.
        start_tokens: int `[B]`, the first token given to `step`, no part of the result.
        max_length: Python integer L >= 1, the greatest number of tokens, END included.
        end_id: Python integer, the id of END, or several of them; `None` for none.
        pad_id: Python integer, what fills the positions after END; it may equal an END. Default 0.
        rules: sequence of logit rules, applied in their order before the strategy sees the logits.
        prompt: int `[B, P]`, what was read before `start_tokens`, -1 where there is nothing, for rules that look back.
        seed: int or int32 scalar, for strategies that draw. Default 0.

    Returns:
        `(sequences, scores, lengths)`, see the strategy.

    Raises:
        ValueError: on a bad number, id, `start_tokens`, state or shape of the logits.

    Example:

    >>> import numpy as np
    >>> from keras import ops
    >>> from keras_tfm.generation import Greedy
    >>> follows = ops.convert_to_tensor(np.log([[0.1, 0.2, 0.7], [0.8, 0.1, 0.1], [0.1, 0.6, 0.3]]))
    >>> def step(tokens, index, state):
    ...     return ops.take(follows, tokens, axis=0), state
    >>> sequences, scores, lengths = search(Greedy(), step, (), np.array([0, 2]), max_length=4, end_id=1)
    >>> print(ops.convert_to_numpy(sequences))
    [[2 1 0 0]
     [1 0 0 0]]
    """
    limits = Limits.create(max_length, end_id, pad_id)
    tokens, state = prepare(start_tokens, state)
    step, state = with_rules(rules, step, state, tokens, limits.max_length, prompt)
    loop = strategy.start(tokens, state, limits, ops.cast(seed, "int32"))
    return strategy.result(run_loop(strategy, step, loop, limits), limits)


def run_loop(strategy, step, loop, limits):
    """The loop after all its steps."""
    return backend.while_loop(
        lambda loop: strategy.is_running(loop, limits),
        lambda loop: strategy.advance(step, loop, limits),
        loop,
        maximum_iterations=limits.max_length,
    )
