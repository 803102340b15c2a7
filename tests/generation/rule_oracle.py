"""Rules on logits against plain functions of one row: along given tokens, and in a beam search.

An oracle is a function `(logits float64 [V], prompt, start, decoded) -> logits` of Python lists and numpy.
"""

import functools

import numpy as np
import pytest
from keras import ops

from keras_tfm.generation.beam import beam_search
from keras_tfm.generation.logit_rule import with_rules
from keras_tfm.generation.step_protocol import prepare
from tests.generation.prefix_model import MODES, PrefixModel, beam_oracle, following_code, run

SIZE, ROWS, LENGTH = 7, 3, 5
PROMPT = ((2, 3, 2, 4), (-1, -1, 5, 3), (-1, -1, -1, -1))
compiled = "xla" if "xla" in MODES else MODES[-1]


@functools.cache
def _traced(rule, has_prompt, mode):
    def trace(logits, starts, tokens, prompt):
        memory, read, found = rule.start(starts, LENGTH, prompt), starts, []
        for index in range(LENGTH):
            ruled, memory = rule(logits[:, index], read, ops.convert_to_tensor(index, "int32"), memory)
            found.append(ruled)
            read = tokens[:, index]
        return ops.stack(found, axis=1)

    if mode == "jit":
        import jax

        return jax.jit(trace)
    if mode == "xla":
        import tensorflow as tf

        return tf.function(trace, jit_compile=True)
    return trace


def trace(rule, logits, starts, tokens, prompt=PROMPT, mode=compiled):
    """The logits `[R, L, V]` that `rule` leaves of `logits [R, L, V]` if `tokens [R, L]` are taken."""
    prompt = np.array(prompt, "int32").reshape(len(starts), -1)
    arrays = [ops.convert_to_tensor(each) for each in (logits, starts, tokens, prompt)]
    return ops.convert_to_numpy(_traced(rule, prompt.size > 0, mode)(*arrays))


def random_text(seed, size=SIZE):
    """Logits `[R, L, V]` with forbidden ones, start tokens `[R]` and tokens `[R, L]` that often come again."""
    rng = np.random.default_rng(seed)
    logits = (rng.normal(size=(ROWS, LENGTH, size)) * 2).astype("float32")
    logits[rng.random(logits.shape) < 0.1] = -np.inf
    starts, tokens = rng.integers(0, size, ROWS), rng.integers(2, 5, (ROWS, LENGTH))
    return logits, starts.astype("int32"), tokens.astype("int32")


def check_along_tokens(rule, oracle, seed=0, prompt=PROMPT):
    logits, starts, tokens = random_text(seed)
    ours = trace(rule, logits, starts, tokens, prompt)
    for row in range(ROWS):
        for index in range(LENGTH):
            before = [each for each in prompt[row] if each >= 0] if prompt else []
            expected = oracle(
                logits[row, index].astype("float64"), before, int(starts[row]), tokens[row, :index].tolist()
            )
            np.testing.assert_allclose(ours[row, index], expected, rtol=1e-5, atol=1e-6, err_msg=f"{row}, {index}")


def check_against_transformers(rule, processor, seed=0, prompt=PROMPT[:1] * ROWS):
    """`processor` is the one of transformers, asked with all that was read."""
    torch = pytest.importorskip("torch")
    logits, starts, tokens = random_text(seed)
    ours = trace(rule, logits, starts, tokens, prompt)
    before = np.array(prompt, "int64").reshape(ROWS, -1)
    for index in range(LENGTH):
        read = np.concatenate([before, starts[:, None], tokens[:, :index]], axis=1).astype("int64")
        theirs = processor(torch.from_numpy(read), torch.from_numpy(logits[:, index].copy())).numpy()
        np.testing.assert_allclose(ours[:, index], theirs, rtol=1e-6, err_msg=str(index))


def transformers_processors():
    return pytest.importorskip("transformers.generation.logits_process")


def ruled_beam_search(step, state, start_tokens, *, rules, max_length, prompt=None, **options):
    tokens, state = prepare(start_tokens, state)
    prompt = None if prompt is None else np.array(prompt, "int32")
    step, state = with_rules(rules, step, state, tokens, max_length, prompt)
    return beam_search(step, state, tokens, max_length=max_length, **options)


class RuledRow:
    """A row of a `PrefixModel` under an oracle."""

    def __init__(self, row, oracle, prompt=()):
        self.row, self.oracle, self.prompt = row, oracle, [each for each in prompt if each >= 0]

    def log_probabilities(self, prefix):
        code, start = int(self.row.codes[0]), int(self.row.starts[0])
        for index, token in enumerate((start, *prefix)):
            code = following_code(code, token, index)
        logits = self.oracle(self.row.table[code].astype("float64"), self.prompt, start, list(prefix))
        largest = logits.max()
        if largest == -np.inf:
            return logits
        with np.errstate(divide="ignore"):
            return logits - largest - np.log(np.exp(logits - largest).sum())


def check_in_beams(rule, oracle, seed=0, prompt=PROMPT, num_beams=3, **changes):
    """The memory of the rule goes with the hypotheses: the search is the plain one over the ruled rows."""
    model = PrefixModel.random(seed, SIZE, batch_size=ROWS)
    options = dict(num_beams=num_beams, max_length=LENGTH, end_id=1) | changes
    results = run(ruled_beam_search, model, mode=compiled, rules=(rule,), prompt=prompt, **options)
    for row, before, *found in zip(model.rows(), prompt or [()] * ROWS, *results, strict=True):
        pool, _ = beam_oracle(RuledRow(row, oracle, before), alpha=0.6, **options)
        for sequence, score, length, (expected, tokens) in zip(*found, pool, strict=False):
            np.testing.assert_array_equal(sequence[:length], tokens)
            np.testing.assert_allclose(score, expected, rtol=1e-5, atol=1e-5)
        assert (found[1][len(pool) :] == -np.inf).all()


def forbid(logits, ids):
    """A copy of `logits` with -inf at `ids`."""
    logits = logits.copy()
    logits[list(ids)] = -np.inf
    return logits


def force(logits, token):
    """Nothing but `token`, with logit 0."""
    forced = np.full_like(logits, -np.inf)
    forced[token] = 0.0
    return forced
