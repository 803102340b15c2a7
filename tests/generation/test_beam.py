"""The promises of beam search, against exhaustive enumeration and a plain search in numpy float64."""

import keras
import ml_dtypes
import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from keras import ops

from keras_tfm.backend import compile_loop
from keras_tfm.generation import beam_search, greedy_search
from tests.generation.prefix_model import (
    MODES,
    STATES,
    PrefixModel,
    all_hypotheses,
    beam_oracle,
    count_steps,
    penalised,
    run,
)

seeds = st.integers(0, 2**31)
compiled = MODES[-1]


def check_pool(results, pools, max_length, pad_id=0):
    """`results` of each row are the hypotheses `(score, tokens)` of its pool, in order, and empty places after them."""
    for sequences, scores, lengths, pool in zip(*results, pools, strict=True):
        num_beams, count = len(scores), min(len(scores), len(pool))
        padded = [[*tokens, *[pad_id] * (max_length - len(tokens))] for _, tokens in pool[:count]]
        np.testing.assert_array_equal(sequences, padded + [[pad_id] * max_length] * (num_beams - count))
        np.testing.assert_array_equal(lengths, [len(tokens) for _, tokens in pool[:count]] + [0] * (num_beams - count))
        expected = [score for score, _ in pool[:count]] + [-np.inf] * (num_beams - count)
        np.testing.assert_allclose(scores, expected, rtol=1e-5, atol=1e-5)


def check_against_oracle(model, *, num_beams, max_length, alpha=0.6, pad_id=0, **how):
    options = dict(num_beams=num_beams, max_length=max_length, end_id=1)
    results = run(beam_search, model, pad_id=pad_id, length_penalty=alpha, **options, **how)
    assert [result.dtype for result in results] == ["int32", "float32", "int32"]
    pools = [beam_oracle(row, alpha=alpha, **options)[0] for row in model.rows()]
    check_pool(results, pools, max_length, pad_id)


@given(seed=seeds, case=st.sampled_from([(3, 4, 0.0), (4, 4, 0.6), (4, 3, 1.5), (3, 4, -0.7), (4, 1, 0.6)]))
def test_enough_beams_are_exhaustive_search(seed, case):
    size, max_length, alpha = case
    model = PrefixModel.random(seed, size, batch_size=3)
    options = dict(max_length=max_length, end_id=1)
    results = run(beam_search, model, mode=compiled, num_beams=size**max_length, length_penalty=alpha, **options)
    pools = [
        sorted(all_hypotheses(row, **options), key=lambda one: penalised(one[0], len(one[1]), alpha), reverse=True)
        for row in model.rows()
    ]
    check_pool(results, pools, max_length)


@pytest.mark.parametrize(("num_beams", "alphas"), [(2, [0.0, -0.7]), (3, [0.6, 1.5]), (4, [0.6])])
@given(data=st.data(), seed=seeds, end_bias=st.sampled_from([-3.0, 0.0, 2.0]))
def test_it_is_the_textbook_search_that_never_stops_early(num_beams, alphas, data, seed, end_bias):
    alpha = data.draw(st.sampled_from(alphas))
    model = PrefixModel.random(seed, 5, end_bias=end_bias)
    check_against_oracle(model, num_beams=num_beams, max_length=8, alpha=alpha, mode=compiled)


@pytest.mark.parametrize("mode", MODES)
@pytest.mark.parametrize("state", STATES)
def test_any_tree_of_tensors_is_a_state_and_follows_its_hypothesis(state, mode):
    check_against_oracle(PrefixModel.random(3, 5), num_beams=3, max_length=7, mode=mode, state=state)


@pytest.mark.parametrize(("size", "num_beams"), [(1, 3), (2, 2), (2, 5), (3, 7)])
def test_the_vocabulary_may_be_smaller_than_the_candidates(size, num_beams):
    if size == 1:
        model = PrefixModel.random(0, 1, end_id=0)
        sequences, scores, lengths = run(beam_search, model, num_beams=3, max_length=4, end_id=0)
        np.testing.assert_array_equal(lengths, [[1, 0, 0]] * 5)
        np.testing.assert_array_equal(scores, [[0, -np.inf, -np.inf]] * 5)
    else:
        check_against_oracle(PrefixModel.random(0, size), num_beams=num_beams, max_length=4, mode=compiled)


@pytest.mark.parametrize("max_length", [1, 5])
def test_the_pad_may_be_the_end(max_length):
    check_against_oracle(PrefixModel.random(2, 5), num_beams=3, max_length=max_length, pad_id=1)


@given(seed=seeds, alpha=st.sampled_from([0.0, 1.5]))
def test_one_beam_is_greedy_search(seed, alpha):
    model = PrefixModel.random(seed, 7)
    options = dict(mode=compiled, max_length=6, end_id=1, pad_id=2)
    beam = run(beam_search, model, num_beams=1, length_penalty=alpha, **options)
    for result, expected in zip(beam, run(greedy_search, model, **options), strict=True):
        np.testing.assert_array_equal(result[:, 0], expected)


@given(seed=seeds, alpha=st.sampled_from([0.6, -0.7]))
def test_scores_are_the_models_own_and_ranked_by_the_penalty(seed, alpha):
    model = PrefixModel.random(seed, 11)
    results = run(beam_search, model, mode=compiled, num_beams=4, max_length=9, end_id=1, length_penalty=alpha)
    for row, sequences, scores, lengths in zip(model.rows(), *results, strict=True):
        hypotheses = [tuple(sequence[:length]) for sequence, length in zip(sequences, lengths, strict=True)]
        np.testing.assert_allclose(scores, [row.score(tokens) for tokens in hypotheses], rtol=1e-5)
        assert (np.diff(penalised(scores, lengths, alpha)) <= 0).all()
        assert len(set(hypotheses)) == 4
        assert all(1 not in tokens[:-1] and (tokens[-1] == 1 or len(tokens) == 9) for tokens in hypotheses)


@given(seed=seeds)
def test_a_finished_hypothesis_never_changes(seed):
    model = PrefixModel.random(seed, 5, end_bias=1.0, batch_size=11)
    options = dict(mode=compiled, num_beams=3, end_id=1, pad_id=3, length_penalty=0.0)
    short, long = (run(beam_search, model, max_length=length, **options) for length in (4, 9))
    # Without a penalty scores only fall: once all K have ended, more room can bring nothing better.
    ended = (short[0] == 1).any(axis=-1).all(axis=-1)
    assert ended.any()
    np.testing.assert_array_equal(long[0][ended, :, :4], short[0][ended])
    np.testing.assert_array_equal(long[0][ended, :, 4:], 3)
    np.testing.assert_array_equal(long[1][ended], short[1][ended])
    np.testing.assert_array_equal(long[2][ended], short[2][ended])


@given(seed=seeds)
def test_a_batch_is_its_rows_one_by_one(seed):
    model = PrefixModel.random(seed, 7, end_bias=1.0)
    options = dict(mode=compiled, num_beams=3, max_length=8, end_id=1)
    together = run(beam_search, model, **options)
    alone = [run(beam_search, row, **options) for row in model.rows()]
    for results, one_by_one in zip(together, zip(*alone, strict=True), strict=True):
        np.testing.assert_allclose(results, np.concatenate(one_by_one), rtol=1e-6)


@pytest.mark.parametrize("alpha", [0.0, 0.6, 1.5])
def test_it_stops_as_soon_as_nothing_can_be_gained(alpha):
    model = PrefixModel.random(8, 7, end_bias=4.0, batch_size=3)
    options = dict(num_beams=3, max_length=15, end_id=1)
    needed = [beam_oracle(row, alpha=alpha, **options)[1] for row in model.rows()]
    assert count_steps(beam_search, model, length_penalty=alpha, **options) == max(needed) < 15


@pytest.mark.parametrize("dtype", ["float16", ml_dtypes.bfloat16])
def test_scores_are_summed_in_float32_whatever_the_logits(dtype):
    check_against_oracle(PrefixModel.random(5, 13, dtype=dtype), num_beams=3, max_length=8, mode=compiled)


@pytest.mark.parametrize("mode", MODES)
def test_forbidden_tokens_are_never_taken_and_give_no_nan(mode):
    model = PrefixModel.random(9, 5)
    model.table[:, 2:4] = -np.inf
    model.table[::7] = -np.inf  # where nothing may follow, the hypothesis is given up
    check_against_oracle(model, num_beams=3, max_length=5, mode=mode)
    model.table[:] = -np.inf
    sequences, scores, lengths = run(beam_search, model, mode=mode, num_beams=3, max_length=5, end_id=1)
    assert (sequences == 0).all() and (scores == -np.inf).all() and (lengths == 0).all()


@pytest.mark.skipif(keras.backend.backend() != "jax", reason="reads the program that XLA makes for JAX")
def test_the_vocabulary_is_never_sorted():
    import jax

    def decode(table):
        def step(tokens, index, state):
            return ops.take(table, tokens, axis=0), state

        return beam_search(step, (), np.zeros(2, "int32"), num_beams=3, max_length=4, end_id=1)

    program = jax.jit(decode).lower(np.zeros((5003, 5003), "float32")).compile().as_text()
    assert "5003" in program
    assert not [line for line in program.splitlines() if " sort(" in line and "5003" in line]


def test_an_empty_batch_gives_empty_results():
    model = PrefixModel.random(1, 5, batch_size=0)
    results = run(beam_search, model, num_beams=3, max_length=4, end_id=1)
    assert [result.shape for result in results] == [(0, 3, 4), (0, 3), (0, 3)]


def test_beams_do_not_mix_sentences():
    vocabulary_size = 6

    def step(tokens, index, state):
        favourite = ops.one_hot(state["sentence"], vocabulary_size) * 5
        return favourite + ops.cast(index, "float32") * ops.one_hot(0, vocabulary_size), state

    sentences = np.array([2, 5, 3, 4])
    sequences, _, _ = beam_search(
        step, {"sentence": sentences}, np.zeros(4, "int32"), num_beams=2, max_length=4, end_id=0, length_penalty=0
    )
    np.testing.assert_array_equal(ops.convert_to_numpy(sequences)[:, 0, 0], sentences)


def test_it_compiles_with_the_weights_of_a_keras_model():
    head = keras.layers.Dense(7)
    model = keras.Sequential([keras.Input((), dtype="int32"), keras.layers.Embedding(7, 8), head])

    def decode(starts):
        options = dict(num_beams=2, max_length=4, end_id=1)
        return beam_search(lambda tokens, index, state: (model(tokens), state), (), starts, **options)

    starts = ops.convert_to_tensor([0, 3, 5], dtype="int32")
    fast = compile_loop(decode, model.variables)
    for bias in (0.0, 50.0):
        head.bias.assign(ops.one_hot(1, 7) * bias)
        for ours, expected in zip(fast(starts), decode(starts), strict=True):
            expected = ops.convert_to_numpy(ops.stop_gradient(expected))
            np.testing.assert_allclose(ops.convert_to_numpy(ours), expected, rtol=1e-5)
    np.testing.assert_array_equal(ops.convert_to_numpy(fast(starts)[2])[:, 0], 1)


@pytest.mark.skipif(keras.backend.backend() != "tensorflow", reason="only TensorFlow has shapes without a size")
def test_the_batch_size_may_be_unknown():
    import tensorflow as tf

    def step(tokens, index, state):
        return tf.one_hot(tokens - 1, 3) * 9, {"seen": state["seen"] + tokens[:, None]}

    @tf.function(input_signature=[tf.TensorSpec([None], "int32"), tf.TensorSpec([None, 2], "int32")])
    def decode(starts, seen):
        return beam_search(step, {"seen": seen}, starts, num_beams=2, max_length=3, end_id=0)

    sequences, _, _ = decode(tf.constant([2, 1]), tf.zeros([2, 2], "int32"))
    np.testing.assert_array_equal(sequences[:, 0], [[1, 0, 0], [0, 0, 0]])


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        (dict(num_beams=0), "`num_beams` must be an integer of at least 1. Received: num_beams=0"),
        (dict(num_beams=True), "`num_beams` must be an integer of at least 1. Received: num_beams=True"),
        (dict(max_length=0), "`max_length` must be an integer of at least 1. Received: max_length=0"),
        (dict(end_id=5), "`end_id` must be smaller than the vocabulary size 5. Received: end_id=5"),
        (dict(length_penalty=None), "`length_penalty` must be a finite number. Received: length_penalty=None"),
        (dict(length_penalty=float("nan")), "`length_penalty` must be a finite number. Received: length_penalty=nan"),
        (dict(length_penalty=900.0), "`length_penalty` must leave .* Received: length_penalty=900.0"),
        (dict(start_tokens=np.zeros((3, 1), "int32")), r"`start_tokens` must be a vector.*Received: .*\(3, 1\)"),
        (dict(state=(np.zeros((6, 2)),)), r"Every leaf of `state`.*of size 3.*Received: .*\(6, 2\)"),
        (dict(step=lambda t, i, s: (ops.zeros((3, 5)), s)), r"`step` must return logits of shape \[6, .*\(3, 5\)"),
        (dict(step=lambda t, i, s: (ops.zeros((6, 5)), (t, t))), "`step` must return a state.*Received: .* 2 leaves"),
    ],
)
def test_a_wrong_argument_is_named(changes, message):
    def uniform(tokens, index, state):
        return ops.zeros((tokens.shape[0], 5)), state

    arguments = dict(step=uniform, state=(), start_tokens=np.zeros(3, "int32"), num_beams=2, max_length=4, end_id=1)
    arguments |= changes
    step, state, start_tokens = (arguments.pop(name) for name in ("step", "state", "start_tokens"))
    with pytest.raises(ValueError, match=message):
        beam_search(step, state, start_tokens, **arguments)
