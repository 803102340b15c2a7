"""The promises of greedy search, against plain numpy loops."""

import keras
import ml_dtypes
import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from keras import ops

from keras_tfm.backend import compile_loop
from keras_tfm.generation import greedy_search
from tests.generation.prefix_model import MODES, STATES, PrefixModel, count_steps, greedy_oracle, run

seeds = st.integers(0, 2**31)


def check_against_oracle(results, model, **options):
    for row, sequence, score, length in zip(model.rows(), *results, strict=True):
        expected, expected_score, expected_length = greedy_oracle(row, **options)
        np.testing.assert_array_equal(sequence, expected)
        np.testing.assert_allclose(score, expected_score, rtol=1e-5, atol=1e-5)
        assert length == expected_length


@given(seed=seeds, size=st.sampled_from([3, 11]), max_length=st.sampled_from([1, 7]), pad_id=st.sampled_from([0, 1]))
def test_it_is_the_plain_loop(seed, size, max_length, pad_id):
    model = PrefixModel.random(seed, vocabulary_size=size)
    options = dict(max_length=max_length, end_id=1, pad_id=pad_id)
    results = run(greedy_search, model, mode=MODES[-1], **options)
    assert [result.dtype for result in results] == ["int32", "float32", "int32"]
    check_against_oracle(results, model, **options)


@given(seed=seeds)
def test_a_finished_sequence_never_changes(seed):
    model = PrefixModel.random(seed, 5)
    short, long = (
        run(greedy_search, model, mode=MODES[-1], max_length=length, end_id=1, pad_id=4) for length in (4, 9)
    )
    for short_sequence, short_score, length, long_sequence, long_score, long_length in zip(*short, *long, strict=True):
        np.testing.assert_array_equal(long_sequence[:4], short_sequence)
        if short_sequence[length - 1] == 1:
            assert (long_score, long_length) == (short_score, length)
            assert (long_sequence[length:] == 4).all()


@given(seed=seeds)
def test_a_batch_is_its_rows_one_by_one(seed):
    model = PrefixModel.random(seed, 7)
    options = dict(mode=MODES[-1], max_length=6, end_id=1)
    together = run(greedy_search, model, **options)
    alone = [run(greedy_search, row, **options) for row in model.rows()]
    for results, one_by_one in zip(together, zip(*alone, strict=True), strict=True):
        np.testing.assert_allclose(results, np.concatenate(one_by_one), rtol=1e-6)


@pytest.mark.parametrize("mode", MODES)
@pytest.mark.parametrize("state", STATES)
def test_any_tree_of_tensors_is_a_state(state, mode):
    model = PrefixModel.random(3, 5)
    results = run(greedy_search, model, mode=mode, state=state, max_length=6, end_id=1)
    check_against_oracle(results, model, max_length=6, end_id=1)


@pytest.mark.parametrize("dtype", ["float16", ml_dtypes.bfloat16, "float64"])
def test_scores_are_summed_in_float32_whatever_the_logits(dtype):
    model = PrefixModel.random(5, 13, dtype=dtype)
    if dtype == "float64" and keras.backend.backend() == "jax":
        model = model._replace(table=model.table.astype("float32"))
    check_against_oracle(run(greedy_search, model, max_length=9, end_id=1), model, max_length=9, end_id=1)


def test_no_step_is_taken_after_all_have_finished():
    model = PrefixModel.random(8, 5, end_bias=2.0)
    options = dict(max_length=50, end_id=1)
    assert count_steps(greedy_search, model, **options) == run(greedy_search, model, **options)[2].max() < 50


@pytest.mark.parametrize("mode", MODES)
def test_forbidden_tokens_are_never_taken_and_give_no_nan(mode):
    model = PrefixModel.random(9, 5)
    model.table[:, 2:4] = -np.inf
    sequences, scores, _ = run(greedy_search, model, mode=mode, max_length=6, end_id=1)
    assert not np.isin(sequences, [2, 3]).any() and np.isfinite(scores).all()
    model.table[:] = -np.inf
    assert (run(greedy_search, model, mode=mode, max_length=6, end_id=1)[1] == -np.inf).all()


def test_logits_of_any_size_give_finite_scores():
    model = PrefixModel.random(9, 5)
    model.table[:] *= 1e30
    _, scores, _ = run(greedy_search, model, max_length=6, end_id=1)
    np.testing.assert_array_equal(scores, 0.0)


def test_the_pad_need_not_be_in_the_vocabulary():
    def step(tokens, index, state):
        return ops.one_hot(ops.maximum(tokens, 1) - 1, 3), state + ops.cast(tokens > 2, "int32")

    state, starts = np.zeros(2, "int32"), np.array([2, 3])
    sequences, _, lengths = greedy_search(step, state, starts, max_length=4, end_id=1, pad_id=9)
    np.testing.assert_array_equal(sequences, [[1, 9, 9, 9], [2, 1, 9, 9]])
    np.testing.assert_array_equal(lengths, [1, 2])


def test_an_empty_batch_gives_empty_results():
    model = PrefixModel.random(1, 5, batch_size=0)
    assert [result.shape for result in run(greedy_search, model, max_length=4, end_id=1)] == [(0, 4), (0,), (0,)]


def test_it_compiles_with_the_weights_of_a_keras_model():
    embedding, head = keras.layers.Embedding(7, 8), keras.layers.Dense(7)
    model = keras.Sequential([keras.Input((), dtype="int32"), embedding, head])

    def decode(starts):
        return greedy_search(lambda tokens, index, state: (model(tokens), state), (), starts, max_length=4, end_id=1)

    starts = ops.convert_to_tensor([0, 3, 5], dtype="int32")
    compiled = compile_loop(decode, model.variables)
    for changes in range(2):
        if changes:
            head.bias.assign(head.bias + ops.one_hot(1, 7) * 50)
        for ours, expected in zip(compiled(starts), decode(starts), strict=True):
            np.testing.assert_allclose(
                ops.convert_to_numpy(ours), ops.convert_to_numpy(ops.stop_gradient(expected)), rtol=1e-5
            )
    np.testing.assert_array_equal(ops.convert_to_numpy(compiled(starts)[2]), 1)


@pytest.mark.skipif(keras.backend.backend() != "tensorflow", reason="only TensorFlow has shapes without a size")
def test_the_batch_size_may_be_unknown():
    import tensorflow as tf

    def step(tokens, index, state):
        return tf.one_hot(tokens - 1, 3), state

    @tf.function(input_signature=[tf.TensorSpec([None], "int32")])
    def decode(starts):
        return greedy_search(step, (), starts, max_length=3, end_id=0)

    np.testing.assert_array_equal(decode(tf.constant([2, 1]))[0], [[1, 0, 0], [0, 0, 0]])


def uniform(tokens, index, state):
    return ops.zeros((tokens.shape[0], 5)), state


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        (dict(max_length=0), "`max_length` must be an integer of at least 1. Received: max_length=0"),
        (dict(max_length=2.0), "`max_length` must be an integer of at least 1. Received: max_length=2.0"),
        (dict(end_id=-1), "`end_id` must be an integer of at least 0. Received: end_id=-1"),
        (dict(end_id=5), "`end_id` must be smaller than the vocabulary size 5. Received: end_id=5"),
        (dict(end_id="a"), "`end_id` must be an integer of at least 0. Received: end_id='a'"),
        (dict(pad_id=-1), "`pad_id` must be an integer of at least 0. Received: pad_id=-1"),
        (dict(start_tokens=np.zeros((3, 1), "int32")), r"`start_tokens` must be a vector.*Received: .*\(3, 1\)"),
        (dict(start_tokens=np.zeros(3, "float32")), r"`start_tokens` must be a vector.*Received: .*float32"),
        (dict(state={"a": np.zeros((2, 3))}), r"Every leaf of `state`.*of size 3.*Received: .*\(2, 3\)"),
        (dict(state=[np.float32(1)]), r"Every leaf of `state`.*Received: .*\(\)"),
        (dict(state=None), "a step without state takes `state=.*Received: state with None"),
        (dict(step=lambda t, i, s: (ops.zeros((3, 1, 5)), s)), r"`step` must return logits.*Received: .*\(3, 1, 5\)"),
        (dict(step=lambda t, i, s: (ops.zeros((4, 5)), s)), r"`step` must return logits.*Received: .*\(4, 5\)"),
        (dict(step=lambda t, i, s: (ops.zeros((3, 5)), (t,))), "`step` must return a state.*Received: .* 1 leaves"),
    ],
)
def test_a_wrong_argument_is_named(changes, message):
    arguments = dict(step=uniform, state=(), start_tokens=np.zeros(3, "int32"), max_length=4, end_id=1) | changes
    step, state, start_tokens = (arguments.pop(name) for name in ("step", "state", "start_tokens"))
    with pytest.raises(ValueError, match=message):
        greedy_search(step, state, start_tokens, **arguments)
