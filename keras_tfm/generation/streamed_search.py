"""Streamed search: the steps of a search one by one, its tokens as they come."""

from keras import ops, tree

from keras_tfm import backend
from keras_tfm.generation.greedy import Greedy
from keras_tfm.generation.logit_rule import with_rules
from keras_tfm.generation.mirostat import Mirostat
from keras_tfm.generation.sampling import Sampling
from keras_tfm.generation.step_protocol import prepare
from keras_tfm.generation.strategy import Limits

APPENDING = (Greedy, Sampling, Mirostat)  # strategies that only append: what they have said stays


class StreamedSearch:
    """A search that is made once and run many times, one step after the other.

    Args:
        strategy: `Greedy`, `Sampling` or `Mirostat`. Beams are refused: their past changes.
        step, max_length, end_id, pad_id, rules: as `search` has them. For a compiled search all tensors that `step`
            reads are in the state.
        compiled: a function that compiles a function of trees of tensors, such as
            `lambda function: backend.compile_loop(function, model.variables)`; `None` runs the steps as they are.

    Raises:
        ValueError: the strategy may change what it has said; bad numbers or ids.

    Example:

    >>> import numpy as np
    >>> follows = ops.convert_to_tensor(np.log([[0.1, 0.2, 0.7], [0.8, 0.1, 0.1], [0.1, 0.6, 0.3]]))
    >>> def step(tokens, index, state):
    ...     return ops.take(follows, tokens, axis=0), state
    >>> streamed = StreamedSearch(Greedy(), step, max_length=4, end_id=1)
    >>> [tokens.tolist() for tokens in streamed((), np.array([0, 2]))]
    [[2, 1], [1, 0]]
    """

    def __init__(self, strategy, step, *, max_length, end_id=None, pad_id=0, rules=(), compiled=None):
        if not isinstance(strategy, APPENDING):
            raise ValueError(
                "A stream needs a strategy that never changes what it has said, one of "
                f"{[kind.__name__ for kind in APPENDING]}. "
                f"Received: strategy={strategy!r}"
            )
        self._strategy, self._step, self._rules = strategy, step, tuple(rules)
        self._limits = Limits.create(max_length, end_id, pad_id)
        self._start = self._begin if compiled is None else compiled(self._begin)
        self._next = self._advance if compiled is None else compiled(self._advance_compiled)

    def __call__(self, state, start_tokens, *, prompt=None, seed=0):
        """The tokens of each step.

        Args:
            state, start_tokens, prompt, seed: as `search` has them.

        Yields:
            numpy int32 `[B]` (`[B, n]` with `num_samples=n`): the columns of the sequences of `search`, `pad_id` in
            rows that have ended. After the step in which the last row ends nothing more is computed.
        """
        prompt = prompt if prompt is None else ops.convert_to_tensor(prompt)
        inputs = tree.map_structure(ops.convert_to_tensor, (state, start_tokens))
        loop, is_running = self._start(*inputs, prompt, ops.convert_to_tensor(seed))
        for _ in range(self._limits.max_length):
            if not bool(is_running):
                return
            loop, tokens, is_running = self._next(loop)
            yield ops.convert_to_numpy(tokens)

    def _begin(self, state, start_tokens, prompt, seed):
        tokens, state = prepare(start_tokens, state)
        _, state = with_rules(self._rules, self._step, state, tokens, self._limits.max_length, prompt)
        loop = self._strategy.start(tokens, state, self._limits, ops.cast(seed, "int32"))
        return loop, self._strategy.is_running(loop, self._limits)

    def _advance(self, loop):
        # The memories that rules start with are in the loop: of `with_rules` the step alone is wanted.
        step, _ = with_rules(self._rules, self._step, (), loop.tokens, self._limits.max_length)
        return self._said(self._strategy.advance(step, loop, self._limits))

    def _advance_compiled(self, loop):
        """As `_advance`, as a loop of one step: PyTorch records the bodies of loops."""
        step, _ = with_rules(self._rules, self._step, (), loop.tokens, self._limits.max_length)
        loop = backend.while_loop(
            lambda loop: self._strategy.is_running(loop, self._limits),
            lambda loop: self._strategy.advance(step, loop, self._limits),
            loop,
            maximum_iterations=1,
        )
        return self._said(loop)

    def _said(self, loop):
        """The loop, its newest tokens, and whether it goes on."""
        sequences, *_ = self._strategy.result(loop, self._limits)
        tokens = ops.take(sequences, loop.index - 1, axis=-1)
        return loop, tokens, self._strategy.is_running(loop, self._limits)


def stream_search(
    strategy, step, state, start_tokens, *, max_length, end_id=None, pad_id=0, rules=(), prompt=None, seed=0
):
    """As `search`, eagerly and one step after the other: yields the tokens of each step as they come.

    Args:
        strategy: `Greedy`, `Sampling` or `Mirostat`. Beams are refused: their past changes.
        step, state, start_tokens, max_length, end_id, pad_id, rules, prompt, seed: as `search` has them.

    Returns:
        An iterator of numpy int32 `[B]`, the columns of the sequences of `search`.

    Raises:
        ValueError: the strategy may change what it has said; what `search` refuses.

    Example:

    >>> import numpy as np
    >>> follows = ops.convert_to_tensor(np.log([[0.1, 0.2, 0.7], [0.8, 0.1, 0.1], [0.1, 0.6, 0.3]]))
    >>> def step(tokens, index, state):
    ...     return ops.take(follows, tokens, axis=0), state
    >>> [int(tokens[0]) for tokens in stream_search(Greedy(), step, (), np.array([0]), max_length=4, end_id=1)]
    [2, 1]
    """
    streamed = StreamedSearch(strategy, step, max_length=max_length, end_id=end_id, pad_id=pad_id, rules=rules)
    return streamed(state, start_tokens, prompt=prompt, seed=seed)
