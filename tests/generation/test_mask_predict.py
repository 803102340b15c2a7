"""Mask-predict is the loop of the paper, row by row, whatever the lengths beside."""

import functools
import re

import keras
import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from keras import ops

from keras_tfm.backend import compile_loop
from keras_tfm.generation.mask_predict import mask_predict
from tests.generation.prefix_model import MODES

seeds = st.integers(0, 2**31)
V, MASK, PAD, LONGEST = 11, 7, 0, 5


def logits_of(tokens, real, table, where):
    """Of a model that sees all real tokens and their places; `where` is `ops` or numpy."""
    places = where.arange(1, tokens.shape[1] + 1)
    code = where.sum(where.where(real, (tokens + 3) * places * places, 0), axis=1)
    codes = (code[:, None] * 13 + places * 5 + tokens) % table.shape[0]
    return where.take(table, codes, axis=0)


def predict(tokens, padding_mask, memory):
    (table,) = memory
    return logits_of(tokens, padding_mask, table, ops)


def random_table(seed, dtype="float32"):
    return (np.random.default_rng(seed).normal(size=(101, V)) * 1.5).astype(dtype)


def row_oracle(table, length, num_iterations):
    """One candidate: tokens and log-probabilities, in plain numpy float64."""
    tokens, gains = np.full(LONGEST, PAD), np.zeros(LONGEST)
    real = np.arange(LONGEST) < length
    for t in range(num_iterations):
        num_masked = length * (num_iterations - t) // num_iterations
        masked = sorted(range(length), key=lambda i: (gains[i], i))[:num_masked]
        given = tokens.copy()
        given[masked] = MASK
        logits = logits_of(given[None], real[None], table, np)[0].astype("float64")
        logits[:, MASK] = -np.inf
        log_probabilities = logits - np.log(np.exp(logits).sum(-1, keepdims=True))
        tokens[masked] = log_probabilities.argmax(-1)[masked]
        gains[masked] = log_probabilities.max(-1)[masked]
    return tokens, gains[:length].mean()


def oracle(table, lengths, num_iterations):
    best = []
    for candidates in lengths:
        found = [(*row_oracle(table, length, num_iterations), length) for length in candidates]
        best.append(max(found, key=lambda one: one[1]))
    return tuple(np.array(column) for column in zip(*best, strict=True))


@functools.cache
def compiled(mode, num_iterations):
    def whole(table, lengths):
        options = dict(max_length=LONGEST, mask_id=MASK, pad_id=PAD, num_iterations=num_iterations)
        return mask_predict(predict, lengths, memory=(table,), **options)

    if mode == "jit":
        import jax

        return jax.jit(whole)
    if mode in ("graph", "xla"):
        import tensorflow as tf

        return tf.function(whole, jit_compile=mode == "xla")
    return compile_loop(whole, []) if mode == "loop" else whole


def run(table, lengths, num_iterations, mode=MODES[-1]):
    table, lengths = ops.convert_to_tensor(table), ops.convert_to_tensor(np.asarray(lengths, "int32"))
    return tuple(ops.convert_to_numpy(x) for x in compiled(mode, num_iterations)(table, lengths))


def check(results, expected):
    assert [x.dtype for x in results] == ["int32", "float32", "int32"]
    np.testing.assert_array_equal(results[0], expected[0])
    np.testing.assert_allclose(results[1], expected[1], rtol=1e-5, atol=1e-5)
    np.testing.assert_array_equal(results[2], expected[2])


@given(seed=seeds, num_iterations=st.sampled_from([1, 4, 9]))
def test_it_is_the_plain_loop(seed, num_iterations):
    lengths = np.random.default_rng(seed).integers(1, LONGEST + 1, (3, 2))
    table = random_table(seed)
    check(run(table, lengths, num_iterations), oracle(table, lengths, num_iterations))


@pytest.mark.parametrize("mode", [*MODES, "loop"])
def test_it_compiles(mode):
    table, lengths = random_table(3), [[5, 3], [2, 4], [1, 5]]
    check(run(table, lengths, 4, mode), oracle(table, lengths, 4))


@given(seed=seeds)
def test_a_batch_is_its_rows_and_a_candidate_of_one_is_none(seed):
    lengths, table = [5, 2, 3], random_table(seed)
    together = run(table, lengths, 4)
    for row, length in enumerate(lengths):
        for alone in (run(table, [length], 4), run(table, [[length]], 4)):
            for ours, expected in zip(alone, together, strict=True):
                np.testing.assert_allclose(ours[0], expected[row], rtol=1e-6)


def test_every_iteration_masks_fewer_and_none_is_wasted():
    table, masked = random_table(5), []

    def counted(tokens, padding_mask, memory):
        masked.append((ops.convert_to_numpy(tokens) == MASK).sum(1).tolist())
        return predict(tokens, padding_mask, memory)

    options = dict(max_length=LONGEST, mask_id=MASK, memory=(ops.convert_to_tensor(table),))
    if keras.backend.backend() == "jax":
        import jax

        with jax.disable_jit():
            mask_predict(counted, np.array([5, 2]), num_iterations=10, **options)
    else:
        mask_predict(counted, np.array([5, 2]), num_iterations=10, **options)
    assert masked == [[5 * (10 - t) // 10, 2 * (10 - t) // 10] for t in range(9)]  # the tenth would mask none


@pytest.mark.parametrize("dtype", ["float16", "float32"])
def test_forbidden_tokens_are_never_taken_and_give_no_nan(dtype):
    table = random_table(9, dtype)
    table[:, 2:6] = -np.inf
    sequences, scores, lengths = run(table, [5, 3], 4)
    assert not np.isin(sequences, [2, 3, 4, 5, MASK]).any() and np.isfinite(scores).all()
    table[:] = -np.inf
    assert (run(table, [5, 3], 4)[1] == -np.inf).all()


def test_lengths_outside_are_clipped_and_an_empty_batch_is_empty():
    table = random_table(1)
    np.testing.assert_array_equal(run(table, [0, -3, 99], 4)[2], [1, 1, LONGEST])
    assert [x.shape for x in run(table, np.zeros((0, 2)), 4)] == [(0, LONGEST), (0,), (0,)]


@pytest.mark.skipif(keras.backend.backend() != "tensorflow", reason="only TensorFlow has shapes without a size")
def test_the_batch_size_may_be_unknown():
    import tensorflow as tf

    table, lengths = random_table(2), np.array([[5, 3], [2, 4], [1, 5]], "int32")
    signature = [tf.TensorSpec([101, V], "float32"), tf.TensorSpec([None, 2], "int32")]
    unknown = tf.function(compiled("eager", 4), input_signature=signature)
    check(tuple(x.numpy() for x in unknown(table, lengths)), oracle(table, lengths, 4))


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        (dict(max_length=0), "`max_length` must be an integer of at least 1. Received: max_length=0"),
        (dict(mask_id=-1), "`mask_id` must be an integer of at least 0. Received: mask_id=-1"),
        (dict(pad_id=0.5), "`pad_id` must be an integer of at least 0. Received: pad_id=0.5"),
        (dict(num_iterations=0), "`num_iterations` must be an integer of at least 1. Received: num_iterations=0"),
        (dict(lengths=np.ones((1, 2, 3), int)), "`lengths` must be integers [B] or [B, K] with K >= 1. Received: len"),
        (dict(lengths=np.ones(2, "float32")), "float32"),
        (dict(lengths=np.ones((2, 0), int)), "(2, 0)"),
        (
            dict(predict=lambda tokens, real, memory: ops.zeros((2, V))),
            "`predict` must return logits of shape [2, 5, vocabulary_size]. Received: logits of shape (2, 11)",
        ),
        (dict(predict=lambda tokens, real, memory: ops.zeros((3, 5, V))), "logits of shape (3, 5, 11)"),
    ],
)
def test_a_wrong_argument_is_named(changes, message):
    arguments = dict(predict=predict, lengths=np.array([3, 5]), max_length=LONGEST, mask_id=MASK) | changes
    arguments["memory"] = (ops.convert_to_tensor(random_table(0)),)
    with pytest.raises(ValueError, match=re.escape(message)):
        mask_predict(**arguments)
