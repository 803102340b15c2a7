"""Random models whose logits depend on all that was read before, and searches over them in plain numpy float64."""

import functools
from typing import Any, NamedTuple

import keras
import numpy as np
from keras import ops

PREFIXES = 4999  # prime: prefixes are numbered by a hash
MODES = {"jax": ["eager", "jit"], "tensorflow": ["eager", "xla", "graph"]}.get(keras.backend.backend(), ["eager"])


class Parts(NamedTuple):
    high: Any
    low: Any


def _split(code):
    """The hash in two leaves of other ranks and dtypes: an order that is wrong in either is wrong in the logits."""
    return code // 64, ops.cast(ops.reshape(code % 64, (-1, 1, 1)), "float32") * ops.ones((1, 2, 3))


def _join(high, low):
    return high * 64 + ops.cast(low[:, 1, 2], "int32")


# name: (state of a hash, hash of a state)
STATES = {
    "tensor": (lambda code: code, lambda state: state),
    "dict": (lambda code: dict(zip("ab", _split(code), strict=True)), lambda state: _join(state["a"], state["b"])),
    "named_tuple": (lambda code: Parts(*_split(code)), lambda state: _join(*state)),
    "nested": (
        lambda code: {"cache": [Parts(*_split(code - code % 2)), (code % 2 == 1,)], "none": ()},
        lambda state: _join(*state["cache"][0]) + ops.cast(state["cache"][1][0], "int32"),
    ),
}


class PrefixModel(NamedTuple):
    """`table [PREFIXES, V]` of logits; each row of a batch starts at a code of its own, so it is a model of its own."""

    table: Any
    codes: Any  # int32 [B]
    starts: Any  # int32 [B]

    @classmethod
    def random(cls, seed, vocabulary_size, batch_size=5, end_bias=0.0, end_id=1, dtype="float32"):
        rng = np.random.default_rng(seed)
        table = rng.normal(size=(PREFIXES, vocabulary_size)) * 1.5
        table[:, end_id] += end_bias
        codes = rng.integers(0, PREFIXES, batch_size).astype("int32")
        starts = rng.integers(0, vocabulary_size, batch_size).astype("int32")
        return cls(table.astype(dtype), codes, starts)

    def rows(self):
        """The one-row models of the batch."""
        places = [slice(i, i + 1) for i in range(len(self.codes))]
        return [self._replace(codes=self.codes[place], starts=self.starts[place]) for place in places]

    def log_probabilities(self, prefix):
        """Of the next token of row 0 after `prefix`, float64 `[V]`."""
        code = int(self.codes[0])
        for index, token in enumerate((int(self.starts[0]), *prefix)):
            code = following_code(code, token, index)
        logits = self.table[code].astype("float64")
        largest = logits.max()
        if largest == -np.inf:
            return logits
        with np.errstate(divide="ignore"):
            return logits - largest - np.log(np.exp(logits - largest).sum())

    def score(self, sequence):
        """Sum of the log-probabilities of the tokens of `sequence` in row 0."""
        return sum(self.log_probabilities(sequence[:i])[token] for i, token in enumerate(sequence))


def following_code(code, token, index):
    return (code * 31 + token * 7 + index + 1) % PREFIXES


def run(search, model, *, mode="eager", state="tensor", on_step=None, **options):
    """Returns the results of a search over `model` as numpy arrays."""
    if on_step is not None:
        return _numpy(_whole(search, state, on_step, tuple(options.items()))(*model))
    return _numpy(_compiled(mode, search, state, tuple(options.items()))(*model))


def _numpy(results):
    return tuple(ops.convert_to_numpy(result) for result in results)


def _whole(search, state, on_step, options):
    to_state, to_code = STATES[state]

    def whole(table, codes, starts):
        table, codes = ops.convert_to_tensor(table), ops.convert_to_tensor(codes)

        def step(tokens, index, state):
            if on_step is not None:
                on_step(index)
            code = following_code(to_code(state), tokens, index)
            return ops.take(table, code, axis=0), to_state(code)

        return search(step, to_state(codes), starts, **dict(options))

    return whole


@functools.cache
def _compiled(mode, search, state, options):
    whole = _whole(search, state, None, options)
    if mode == "jit":
        import jax

        return jax.jit(whole)
    if mode in ("graph", "xla"):
        import tensorflow as tf

        return tf.function(whole, jit_compile=mode == "xla")
    return whole


def count_steps(search, model, **options):
    """Returns how many steps the search really takes."""
    indices = []

    def on_step(index):
        if keras.backend.backend() != "jax":
            return indices.append(int(index))
        import jax

        return jax.debug.callback(lambda index: indices.append(int(index)), index)

    run(search, model, on_step=on_step, **options)
    assert sorted(indices) == list(range(len(indices)))
    return len(indices)


def penalised(score, length, alpha):
    return score / ((5 + length) / 6) ** alpha


def greedy_oracle(model, *, max_length, end_id, pad_id=0):
    """Sequence, score and length of row 0."""
    tokens, score = [], 0.0
    while len(tokens) < max_length and (not tokens or tokens[-1] != end_id):
        log_probabilities = model.log_probabilities(tokens)
        tokens.append(int(np.argmax(log_probabilities)))
        score += log_probabilities[tokens[-1]]
    return tokens + [pad_id] * (max_length - len(tokens)), score, len(tokens)


def all_hypotheses(model, *, max_length, end_id, prefix=(), score=0.0):
    """Every `(score, tokens)` of row 0 that ends with END or has `max_length` tokens."""
    if len(prefix) == max_length or (prefix and prefix[-1] == end_id):
        return [(score, prefix)]
    log_probabilities = model.log_probabilities(prefix)
    return [
        hypothesis
        for token, gain in enumerate(log_probabilities)
        for hypothesis in all_hypotheses(
            model, max_length=max_length, end_id=end_id, prefix=(*prefix, token), score=score + gain
        )
    ]


def beam_oracle(model, *, num_beams, max_length, end_id, alpha):
    """The pool of row 0, `(score, tokens)` best first, by a search that never stops early; and the steps it needs."""
    alive, pool, steps = [(0.0, ())], [], None
    for length in range(1, max_length + 1):
        candidates = [
            (score + gain, (*tokens, token))
            for score, tokens in alive
            for token, gain in enumerate(model.log_probabilities(tokens))
            if score + gain > -np.inf
        ]
        candidates = sorted(candidates, reverse=True)
        pool += [one for one in candidates[:num_beams] if one[1][-1] == end_id or length == max_length]
        pool = sorted(pool, key=lambda one: penalised(one[0], len(one[1]), alpha), reverse=True)[:num_beams]
        alive = [one for one in candidates if one[1][-1] != end_id][:num_beams]
        if steps is None and not _can_improve(alive, pool, num_beams, length, max_length, alpha):
            steps = length
    return pool, steps


def _can_improve(alive, pool, num_beams, length, max_length, alpha):
    if not alive or length == max_length:
        return False
    if len(pool) < num_beams:
        return True
    best = max(penalised(alive[0][0], later, alpha) for later in range(length + 1, max_length + 1))
    return best > penalised(pool[-1][0], len(pool[-1][1]), alpha)
