"""The promises of constrained beam search, against exhaustive enumeration."""

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from keras import ops

from keras_tfm.generation.beam import Beam
from keras_tfm.generation.constrained_beam import ConstrainedBeam
from keras_tfm.generation.strategy import search
from tests.generation.beam_oracle import check_results, decode
from tests.generation.prefix_model import MODES, PrefixModel, all_hypotheses, penalised, run

seeds = st.integers(0, 2**31)
compiled = MODES[-1]

PHRASES = (  # of five sentences
    ((2, 0, -1), (3, -1, -1)),
    ((2, 2, 3), (-1, -1, -1)),
    ((0, 2, 0), (0, 2, 3)),
    ((-1, -1, -1), (-1, -1, -1)),
    ((4, -1, -1), (4, -1, -1)),
)


def contains(tokens, phrase):
    phrase = tuple(token for token in phrase if token >= 0)
    return any(tuple(tokens[i : i + len(phrase)]) == phrase for i in range(len(tokens) + 1))


@given(seed=seeds)
def test_enough_beams_are_exhaustive_search_among_those_with_the_phrases(seed):
    phrases = (((2, 0), (0, -1)), ((2, 2), (-1, -1)), ((0, 2), (2, 0)))
    model = PrefixModel.random(seed, 3, batch_size=3)
    options = dict(max_length=4, end_id=1)
    pools = [
        sorted(
            (one for one in all_hypotheses(row, **options) if all(contains(one[1], phrase) for phrase in required)),
            key=lambda one: penalised(one[0], len(one[1]), 0.6),
            reverse=True,
        )
        for row, required in zip(model.rows(), phrases, strict=True)
    ]
    strategy = ConstrainedBeam(num_beams=81, constraints=phrases)
    check_results(run(decode, model, strategy=strategy, mode=compiled, **options), pools, 4, 81)


@pytest.mark.parametrize("num_beams", [1, 3])
@given(seed=seeds, end_bias=st.sampled_from([-2.0, 3.0]))
def test_there_is_a_result_and_every_result_has_all_phrases(num_beams, seed, end_bias):
    model = PrefixModel.random(seed, 5, end_bias=end_bias)
    strategy = ConstrainedBeam(num_beams=num_beams, constraints=PHRASES)
    results = run(decode, model, strategy=strategy, mode=compiled, max_length=6, end_id=1)
    for row, required, sequences, scores, lengths in zip(model.rows(), PHRASES, *results, strict=True):
        assert lengths[0] > 0
        for sequence, score, length in zip(sequences, scores, lengths, strict=True):
            tokens = tuple(sequence[:length])
            assert length == 0 or all(contains(tokens, phrase) for phrase in required)
            np.testing.assert_allclose(score, row.score(tokens) if length else -np.inf, rtol=1e-5)
        hypotheses = [tuple(sequence) for sequence, length in zip(sequences, lengths, strict=True) if length]
        assert len(set(hypotheses)) == len(hypotheses)


@pytest.mark.parametrize("mode", MODES)
def test_without_phrases_it_is_beam_search(mode):
    model, none = PrefixModel.random(3, 5), (((-1,),),) * 5
    strategies = Beam(3), ConstrainedBeam(3, constraints=none)
    results = [run(decode, model, strategy=each, mode=mode, max_length=6, end_id=(1, 4)) for each in strategies]
    for expected, result in zip(*results, strict=True):
        np.testing.assert_allclose(result, expected, rtol=1e-5)


@pytest.mark.parametrize("mode", MODES)
def test_a_batch_is_its_rows_one_by_one(mode):
    model = PrefixModel.random(3, 5, end_bias=1.0)
    together = run(decode, model, strategy=ConstrainedBeam(3, constraints=PHRASES), mode=mode, max_length=6, end_id=1)
    for row in (0, 2, 3):
        sentence, strategy = model.rows()[row], ConstrainedBeam(3, constraints=PHRASES[row : row + 1])
        alone = run(decode, sentence, strategy=strategy, mode=mode, max_length=6, end_id=1)
        for results, one in zip(together, alone, strict=True):
            np.testing.assert_allclose(results[row : row + 1], one, rtol=1e-5)


def test_phrases_may_come_with_the_state():
    follows = ops.convert_to_tensor(np.log([[0.5, 0.1, 0.4], [0.3, 0.4, 0.3], [0.2, 0.3, 0.5]]).astype("float32"))

    def step(tokens, index, state):
        return ops.take(follows, tokens, axis=0), state

    state = {"phrases": np.array([[[2, 0]], [[0, 0]]], "int32")}
    strategy = ConstrainedBeam(num_beams=2, constraints=lambda state: state["phrases"])
    sequences, _, _ = search(strategy, step, state, np.zeros(2, "int32"), max_length=2)
    np.testing.assert_array_equal(ops.convert_to_numpy(sequences)[:, 0], [[2, 0], [0, 0]])


def test_what_cannot_be_said_leaves_empty_places():
    model = PrefixModel.random(3, 5)
    model.table[:, 2] = -np.inf
    strategy = ConstrainedBeam(3, constraints=(((2, -1),), ((0, -1),), ((2, 0),), ((3, -1),), ((0, 2),)))
    sequences, scores, lengths = run(decode, model, strategy=strategy, max_length=4, end_id=1)
    np.testing.assert_array_equal(lengths[:, 0] > 0, [False, True, False, True, False])
    assert (scores[lengths == 0] == -np.inf).all() and (sequences[lengths == 0] == 0).all()


def test_equal_constraints_are_one_key():
    array = ConstrainedBeam(constraints=np.array([[[2, 3]]]))
    assert array == ConstrainedBeam(constraints=[[[2, 3]]]) and hash(array) == hash(
        ConstrainedBeam(constraints=[[[2, 3]]])
    )


@pytest.mark.parametrize(
    ("constraints", "message"),
    [
        ([[2, 3]], r"`constraints` must be integers \[B, C, M\].*Received: constraints=\[\[2, 3\]\]"),
        ([[[2], [3, 4]]], r"`constraints` must be integers \[B, C, M\]"),
        ([[[2.0]]], r"`constraints` must be integers \[B, C, M\]"),
        ([[[-1, 2]]], r"`constraints` must be integers \[B, C, M\].*padded with -1 at its end"),
        ([[[-2]]], r"`constraints` must be integers \[B, C, M\]"),
        ((), r"`constraints` must be integers \[B, C, M\]"),
        ([[[2]]] * 4, "`constraints` must be of 5 sentences, as many as `start_tokens`. Received: .*4, 1, 1"),
        ([[[2, 1]]] * 5, "`constraints` must not contain END.*Received: .*end_id=.1,"),
        ([[[2, 5]]] * 5, "`constraints` must be smaller than the vocabulary size 5. Received: "),
    ],
)
def test_wrong_constraints_are_named(constraints, message):
    model = PrefixModel.random(3, 5)
    with pytest.raises(ValueError, match=message):
        run(decode, model, strategy=ConstrainedBeam(constraints=constraints), max_length=4, end_id=1)
