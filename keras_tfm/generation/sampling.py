"""Sampling: a token drawn at random at every step."""

import dataclasses
from typing import Any, NamedTuple

from keras import ops

from keras_tfm.generation.greedy import Greedy, append
from keras_tfm.generation.number_checks import check_number
from keras_tfm.generation.sampling_filters import MinP, Temperature, TopK, TopP, Typical
from keras_tfm.generation.state_rows import repeat_rows
from keras_tfm.generation.step_protocol import check_integer, log_probabilities, next_logits
from keras_tfm.generation.strategy import Strategy, search
from keras_tfm.ops.counter_random import gumbel, row_keys


class SamplingLoop(NamedTuple):
    """What changes from step to step, and the keys of the rows; R = B · n samples."""

    index: Any  # int32 scalar
    tokens: Any  # int32 [R], what the next step reads
    sequences: Any  # int32 [R, L]
    scores: Any  # float32 [R]
    lengths: Any  # int32 [R]
    is_finished: Any  # bool [R]
    state: Any  # pytree, every leaf [R, ...]
    keys: Any  # int32 [R]


@dataclasses.dataclass(frozen=True)
class Sampling(Strategy):
    """Tokens drawn at random, see `sample_search`.

    Args:
        temperature: divides the logits; 0 takes the most probable token, as `Greedy` does. Default 1.
        top_k, top_p, min_p, typical_p: settings of `TopK`, `TopP`, `MinP` and `Typical`, applied in this order after
            the temperature; `None` for no such filter.
        num_samples: Python integer n >= 1, how many samples are drawn for each row: results have the axes `[B, n]`.
            `None`, the default, draws one and has no such axis.

    Raises:
        ValueError: on a setting outside its range.

    Example:

    >>> Sampling(temperature=0.7, top_p=0.9).filters
    (Temperature(temperature=0.7), TopP(top_p=0.9))
    """

    temperature: float = 1.0
    top_k: int | None = None
    top_p: float | None = None
    min_p: float | None = None
    typical_p: float | None = None
    num_samples: int | None = None

    def __post_init__(self):
        """Checks the settings."""
        check_number("temperature", self.temperature, minimum=0)
        if self.num_samples is not None:
            check_integer("num_samples", self.num_samples, minimum=1)
        _ = self.filters  # they check theirs

    @property
    def filters(self):
        """The filters in the order in which they are applied."""
        temperature = None if self.temperature in (0, 1) else self.temperature
        settings = (temperature, self.top_k, self.top_p, self.min_p, self.typical_p)
        kinds = (Temperature, TopK, TopP, MinP, Typical)
        return tuple(kind(value) for kind, value in zip(kinds, settings, strict=True) if value is not None)

    def start(self, tokens, state, limits, seed):
        """The loop before the first step."""
        keys = sample_keys(seed, ops.shape(tokens)[0], self.num_samples or 1)
        if self.num_samples is not None:
            tokens, state = repeat_rows((tokens, state), self.num_samples)
        return SamplingLoop(*Greedy().start(tokens, state, limits, seed), keys=keys)

    def is_running(self, loop, limits):
        """Whether a sequence has not ended."""
        return ops.logical_not(ops.all(loop.is_finished))

    def advance(self, step, loop, limits):
        """Takes one step."""
        logits, state = next_logits(step, loop.tokens, loop.index, loop.state, limits.end_ids)
        tokens = self.draw(logits, loop)
        return append(loop, tokens, token_gains(logits, tokens), state, limits)

    def draw(self, logits, loop):
        """int32 `[R]`, a token of each row of float32 `logits [R, V]`."""
        if self.temperature == 0:
            return ops.cast(ops.argmax(logits, axis=-1), "int32")
        for each in self.filters:
            logits = each.filter(logits)
        return draw_tokens(logits, loop.keys, loop.index)

    def result(self, loop, limits):
        """Sequences, scores, lengths; with `num_samples` these have the axes `[B, n]`."""
        return with_samples((loop.sequences, loop.scores, loop.lengths), self.num_samples)


def sample_keys(seed, batch_size, num_samples):
    """int32 `[B * n]`, the random keys of n samples of each row.

    Args:
        seed: int32 scalar, or int32 `[B]`, one for each row. With seeds of their own, rows draw in a batch what each
            draws alone.
        batch_size: B, Python integer or int32 scalar.
        num_samples: n, Python integer.
    """
    if not len(seed.shape):
        return row_keys(seed, batch_size * num_samples)
    return ops.reshape(row_keys(ops.expand_dims(seed, 1), num_samples), (-1,))


def draw_tokens(logits, keys, index):
    """int32 `[R]`, a draw from the softmax of each row of float32 `logits [R, V]`; a logit of -inf is never drawn."""
    noise = gumbel(keys, index, logits.shape[-1])
    # Not argmax: XLA would make the noise inside its reduction, one number at a time (JAX 0.10 on CPU, 5 times slower).
    _, places = ops.top_k(logits + noise, 1)
    return ops.cast(ops.squeeze(places, axis=-1), "int32")


def token_gains(logits, tokens):
    """float32 `[R]`, the log-probabilities of int32 `tokens [R]` under float32 `logits [R, V]`."""
    chosen = ops.take_along_axis(logits, ops.expand_dims(tokens, 1), axis=1)
    largest = ops.concatenate([chosen, ops.max(logits, axis=-1, keepdims=True)], axis=1)
    return log_probabilities(largest, logits)[:, 0]


def with_samples(results, num_samples):
    """The results `[B * n, ...]` as `[B, n, ...]`; as they are where `num_samples` is `None`."""
    if num_samples is None:
        return tuple(results)
    return tuple(ops.reshape(each, (-1, num_samples, *each.shape[1:])) for each in results)


def sample_search(
    step,
    state,
    start_tokens,
    *,
    max_length,
    end_id=None,
    pad_id=0,
    rules=(),
    prompt=None,
    seed=0,
    temperature=1.0,
    top_k=None,
    top_p=None,
    min_p=None,
    typical_p=None,
    num_samples=None,
):
    """Decode by drawing a token at every step, until END or `max_length`.

    This is `search(Sampling(...), ...)`. A row is drawn from the softmax of its filtered logits by the Gumbel-max
    trick, with random numbers that depend on the seed, the row and the position only.

    Args:
        step, state, start_tokens, max_length, end_id, pad_id, rules, prompt: as in `search`.
        seed: int scalar, or int `[B]`, one for each row: rows with seeds of their own draw in a batch what each draws
            alone. The same seed draws the same tokens, as far as the logits are the same. Default 0.
        temperature, top_k, top_p, min_p, typical_p, num_samples: as in `Sampling`.

    Returns:
        Tuple of `sequences` int32 `[B, L]`; `scores` float32 `[B]`; `lengths` int32 `[B]`; all `[B, n, ...]` with
        `num_samples`. The score is the sum of the log-probabilities of the drawn tokens, END included, under the
        model and its rules: temperature and filters have no part in it, so that samples of different settings compare.

    Raises:
        ValueError: on a bad setting, number, id, `start_tokens`, state or shape of the logits.

    Reference:
        Maddison, Tarlow and Minka 2014, https://arxiv.org/abs/1411.0030, for the Gumbel-max trick.

    Example:

    >>> import numpy as np
    >>> follows = ops.convert_to_tensor(np.log([[0.1, 0.2, 0.7], [0.8, 0.1, 0.1], [0.1, 0.6, 0.3]]))
    >>> def step(tokens, index, state):
    ...     return ops.take(follows, tokens, axis=0), state
    >>> sequences, scores, lengths = sample_search(
    ...     step, (), np.array([0]), max_length=4, end_id=1, num_samples=3, seed=2, top_k=2
    ... )
    >>> print(ops.convert_to_numpy(sequences[0]))
    [[2 2 1 0]
     [2 1 0 0]
     [2 2 2 1]]
    """
    strategy = Sampling(temperature, top_k, top_p, min_p, typical_p, num_samples)
    return search(
        strategy,
        step,
        state,
        start_tokens,
        max_length=max_length,
        end_id=end_id,
        pad_id=pad_id,
        rules=rules,
        prompt=prompt,
        seed=seed,
    )
