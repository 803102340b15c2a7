"""The promises of the coverage penalty."""

import functools

import keras
import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from keras import ops

from keras_tfm.generation.beam import Beam
from keras_tfm.generation.coverage import CoveragePenalty
from keras_tfm.generation.strategy import search
from tests.generation.beam_oracle import check_results, settings_oracle
from tests.generation.prefix_model import PREFIXES, PrefixModel, following_code

SOURCE = 3
LENGTHS = np.array([3, 1, 2, 3, 2], "int32")  # real source positions of each sentence


def numpy_penalty(attention, beta, length):
    return beta * sum(np.log(np.minimum(np.maximum(attention[:length], 1.1754944e-38), 1.0)))


def attention_table(seed):
    return np.random.default_rng(seed).dirichlet([0.5] * SOURCE, PREFIXES).astype("float32")


@functools.cache
def program(num_beams, early_stopping, penalty):
    """Decodes a random model that attends to a source, compiled where the backend compiles."""
    coverage = CoveragePenalty(0.7, lambda state: state[1], lambda state: state[2])
    strategy = Beam(num_beams, early_stopping=early_stopping, penalty=penalty, coverage=coverage)

    def whole(table, attention, codes, starts):
        def step(tokens, index, state):
            code, total, is_real = state
            code = following_code(code, tokens, index)
            return ops.take(table, code, axis=0), (code, total + ops.take(attention, code, axis=0), is_real)

        is_real = ops.arange(SOURCE) < ops.expand_dims(ops.convert_to_tensor(LENGTHS), 1)
        state = (codes, ops.zeros((len(LENGTHS), SOURCE)), is_real)
        return search(strategy, step, state, starts, max_length=6, end_id=1)

    if keras.backend.backend() == "jax":
        import jax

        return jax.jit(whole)
    if keras.backend.backend() == "tensorflow":
        import tensorflow as tf

        return tf.function(whole)
    return whole


@pytest.mark.parametrize("num_beams", [1, 3])
@given(seed=st.integers(0, 2**31), case=st.sampled_from([("exact", "wu"), ("heuristic", "average"), ("first", "wu")]))
def test_finished_hypotheses_are_ranked_with_their_coverage(num_beams, seed, case):
    model, attention = PrefixModel.random(seed, 5, end_bias=1.0), attention_table(seed)
    tensors = map(ops.convert_to_tensor, (model.table, attention, model.codes, model.starts))
    results = [ops.convert_to_numpy(each) for each in program(num_beams, *case)(*tensors)]

    def coverage_of(row, length):
        def coverage(tokens):
            code, total = int(row.codes[0]), np.zeros(SOURCE)
            for index, token in enumerate((int(row.starts[0]), *tokens)):
                code = following_code(code, token, index)
                total += attention[code].astype("float64")
            return numpy_penalty(total, 0.7, length)

        return coverage

    pools = [
        settings_oracle(
            row,
            num_beams=num_beams,
            max_length=6,
            early_stopping=case[0],
            penalty=case[1],
            coverage=coverage_of(row, length),
        )[0]
        for row, length in zip(model.rows(), LENGTHS, strict=True)
    ]
    check_results(results, pools, 6, num_beams)


def test_no_attention_gives_a_finite_penalty():
    penalty = CoveragePenalty(1.0, lambda state: state)
    result = ops.convert_to_numpy(penalty(np.array([[0.0, 2.0], [1.0, 0.5]], "float32")))
    np.testing.assert_allclose(result, [numpy_penalty(np.array([0.0, 2.0]), 1.0, 2), np.log(0.5)], rtol=1e-5)


@pytest.mark.parametrize(
    ("settings", "message"),
    [
        (dict(beta=-1.0), "`beta` must be a finite number of at least 0. Received: beta=-1.0"),
        (dict(beta=np.nan), "`beta` must be a finite number of at least 0. Received: beta=nan"),
        (dict(attention=3), "`attention` must be a callable of the state. Received: attention=3"),
        (dict(source_mask=3), "`source_mask` must be a callable of the state, or None. Received: source_mask=3"),
    ],
)
def test_a_wrong_setting_is_named(settings, message):
    with pytest.raises(ValueError, match=message):
        CoveragePenalty(**(dict(beta=0.2, attention=lambda state: state) | settings))
