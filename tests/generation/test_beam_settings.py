"""The settings of the beam strategy, against enumeration and a plain search in numpy float64."""

import keras
import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from keras import ops

from keras_tfm.generation.beam import Beam, beam_search
from keras_tfm.generation.constrained_beam import ConstrainedBeam
from keras_tfm.generation.coverage import CoveragePenalty
from keras_tfm.generation.diverse_beam import DiverseBeam
from keras_tfm.generation.greedy import greedy_search
from keras_tfm.generation.strategy import search
from tests.generation.beam_oracle import PENALTIES, check_results, decode, settings_oracle
from tests.generation.prefix_model import MODES, PrefixModel, all_hypotheses, count_steps, run

seeds = st.integers(0, 2**31)
compiled = MODES[-1]


def check_against_oracle(model, *, max_length, ends=(1,), num_results=None, mode=compiled, **settings):
    strategy = Beam(num_results=num_results, **settings)
    results = run(decode, model, strategy=strategy, mode=mode, max_length=max_length, end_id=ends)
    settings["alpha"] = settings.pop("length_penalty", 0.6)
    pools = [settings_oracle(row, max_length=max_length, ends=ends, **settings)[0] for row in model.rows()]
    check_results(results, pools, max_length, num_results or strategy.num_beams)


@pytest.mark.parametrize("early_stopping", ["exact", "first", "heuristic"])
@given(seed=seeds, case=st.sampled_from([("wu", 1.5), ("average", 1.0), ("average", -0.7)]))
def test_enough_beams_are_exhaustive_search_by_each_penalty_and_stopping_rule(early_stopping, seed, case):
    penalty, alpha = case
    model = PrefixModel.random(seed, 3, batch_size=2)
    options = dict(max_length=3, end_id=1)
    strategy = Beam(num_beams=27, penalty=penalty, length_penalty=alpha, early_stopping=early_stopping)

    def rank(one):
        return one[0] / PENALTIES[penalty](len(one[1]), alpha)

    pools = [sorted(all_hypotheses(row, **options), key=rank, reverse=True) for row in model.rows()]
    check_results(run(decode, model, strategy=strategy, mode=compiled, **options), pools, 3, 27)


@pytest.mark.parametrize("early_stopping", ["exact", "first", "heuristic"])
@given(
    seed=seeds,
    case=st.sampled_from([("wu", 0.6), ("average", 1.0), ("average", -1.0)]),
    end_bias=st.sampled_from([0.0, 2.0]),
)
def test_it_is_the_textbook_search_with_that_stopping_rule(early_stopping, seed, case, end_bias):
    model = PrefixModel.random(seed, 5, end_bias=end_bias)
    settings = dict(penalty=case[0], length_penalty=case[1], early_stopping=early_stopping)
    check_against_oracle(model, num_beams=3, max_length=8, **settings)


@pytest.mark.parametrize("early_stopping", ["exact", "first", "heuristic"])
def test_no_step_is_taken_that_the_stopping_rule_does_not_need(early_stopping):
    model = PrefixModel.random(8, 7, end_bias=3.0, batch_size=3)
    settings = dict(num_beams=3, early_stopping=early_stopping)
    needed = [settings_oracle(row, max_length=15, penalty="average", alpha=1.0, **settings)[1] for row in model.rows()]
    strategy = Beam(penalty="average", length_penalty=1.0, **settings)
    assert count_steps(decode, model, strategy=strategy, max_length=15, end_id=1) == max(needed) < 15


@pytest.mark.parametrize("ends", [(), (1, 3), (4, 2, 0)])
@pytest.mark.parametrize("mode", MODES)
def test_any_of_several_ids_ends_or_none_does(ends, mode):
    check_against_oracle(PrefixModel.random(4, 5), num_beams=3, max_length=6, ends=ends, mode=mode)


@given(seed=seeds)
def test_n_best_are_the_first_of_all(seed):
    model = PrefixModel.random(seed, 5, end_bias=1.0)
    check_against_oracle(model, num_beams=4, max_length=5, num_results=2)


@given(seed=seeds)
def test_one_beam_is_greedy_search_whatever_the_settings(seed):
    model = PrefixModel.random(seed, 7)
    options = dict(mode=compiled, max_length=6, end_id=(1, 4), pad_id=2)
    strategy = Beam(num_beams=1, penalty="average", length_penalty=2.0, early_stopping="heuristic", num_results=1)
    results = run(decode, model, strategy=strategy, **options)
    for result, expected in zip(results, run(greedy_search, model, **options), strict=True):
        np.testing.assert_array_equal(result[:, 0], expected)


def test_beam_search_takes_all_settings():
    model = PrefixModel.random(3, 5, end_bias=1.0)
    settings = dict(num_beams=3, penalty="average", early_stopping="first", num_results=2, length_penalty=1.0)
    expected = run(decode, model, strategy=Beam(**settings), max_length=5, end_id=1)
    for result, one in zip(run(beam_search, model, max_length=5, end_id=1, **settings), expected, strict=True):
        np.testing.assert_array_equal(result, one)


@pytest.mark.skipif(keras.backend.backend() != "tensorflow", reason="only TensorFlow has shapes without a size")
@pytest.mark.parametrize(
    "strategy",
    [
        Beam(2, early_stopping="heuristic", coverage=CoveragePenalty(0.2, lambda state: state["seen"])),
        DiverseBeam(4, num_groups=2),
        ConstrainedBeam(2, constraints=lambda state: ops.expand_dims(state["phrase"], 1)),
        ConstrainedBeam(2, constraints=[[[1]], [[1]]]),
    ],
    ids=["coverage", "diverse", "constrained", "constants"],
)
def test_the_batch_size_may_be_unknown(strategy):
    import tensorflow as tf

    def step(tokens, index, state):
        return tf.one_hot(tokens - 1, 3) * 9, state | {"seen": state["seen"] + 1}

    @tf.function(
        input_signature=[
            tf.TensorSpec([None], "int32"),
            tf.TensorSpec([None, 2], "float32"),
            tf.TensorSpec([None, 1], "int32"),
        ]
    )
    def decode(starts, seen, phrase):
        return search(strategy, step, {"seen": seen, "phrase": phrase}, starts, max_length=3, end_id=0)

    sequences, _, _ = decode(tf.constant([2, 2]), tf.zeros([2, 2]), tf.constant([[1], [-1]]))
    np.testing.assert_array_equal(sequences[:, 0], [[1, 0, 0], [1, 0, 0]])


def test_equal_settings_are_one_key():
    assert Beam(num_beams=3) == Beam(num_beams=3) != Beam(num_beams=3, penalty="average")
    assert hash(Beam(num_beams=3)) == hash(Beam(num_beams=3))


@pytest.mark.parametrize(
    ("settings", "message"),
    [
        (dict(num_beams=1.5), "`num_beams` must be an integer of at least 1. Received: num_beams=1.5"),
        (dict(length_penalty="1"), "`length_penalty` must be a finite number. Received: length_penalty='1'"),
        (dict(penalty="mean"), "`penalty` must be 'wu', 'average' or a callable.*Received: penalty='mean'"),
        (dict(early_stopping=True), "`early_stopping` must be one of 'exact', 'first', 'heuristic'.*=True"),
        (dict(num_results=0), "`num_results` must be an integer of at least 1. Received: num_results=0"),
        (dict(num_results=5), "`num_results` must be at most `num_beams`. Received: num_results=5, num_beams=4"),
        (dict(coverage=0.2), "`coverage` must be a `CoveragePenalty` or None. Received: coverage=0.2"),
    ],
)
def test_a_wrong_setting_is_named(settings, message):
    with pytest.raises(ValueError, match=message):
        Beam(**settings)
