"""The promises of diverse beam search, against a plain search in numpy float64."""

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from keras_tfm.generation.beam import Beam
from keras_tfm.generation.diverse_beam import DiverseBeam
from tests.generation.beam_oracle import check_results, continuations, decode
from tests.generation.prefix_model import MODES, PrefixModel, penalised, run

seeds = st.integers(0, 2**31)
compiled = MODES[-1]
OPTIONS = dict(max_length=5, end_id=1)


def rank(one):
    return penalised(one[0], len(one[1]), 0.6)


def diverse_oracle(model, *, num_beams, num_groups, diversity, max_length, end_id):
    """The merged pools of row 0 by groups that stop when K / G of theirs have finished."""
    width = num_beams // num_groups
    alive, pools = [[(0.0, ())] for _ in range(num_groups)], [[] for _ in range(num_groups)]
    for length in range(1, max_length + 1):
        used = np.zeros(model.table.shape[1])
        for group in range(num_groups):
            candidates = continuations(model, alive[group])
            candidates.sort(key=lambda one: one[0] - diversity * used[one[1][-1]], reverse=True)
            is_done = len(pools[group]) == width
            if not is_done:
                pools[group] += [one for one in candidates[:width] if one[1][-1] == end_id or length == max_length]
                pools[group] = sorted(pools[group], key=rank, reverse=True)[:width]
            alive[group] = [one for one in candidates if one[1][-1] != end_id][:width]
            if not is_done:
                np.add.at(used, [tokens[-1] for _, tokens in alive[group]], 1)
    return sorted((one for pool in pools for one in pool), key=rank, reverse=True)


@pytest.mark.parametrize(("num_beams", "num_groups"), [(4, 2), (6, 3), (3, 3)])
@given(seed=seeds, diversity=st.sampled_from([0.4, 5.0]))
def test_groups_avoid_the_tokens_of_the_groups_before(num_beams, num_groups, seed, diversity):
    model = PrefixModel.random(seed, 7, end_bias=1.0)
    strategy = DiverseBeam(num_beams, num_groups=num_groups, diversity_penalty=diversity, early_stopping="first")
    results = run(decode, model, strategy=strategy, mode=compiled, **OPTIONS)
    settings = dict(num_beams=num_beams, num_groups=num_groups, diversity=diversity)
    pools = [diverse_oracle(row, **settings, **OPTIONS) for row in model.rows()]
    # Two groups may find the same hypothesis: then the order of the two is nobody's business.
    check_results(results, pools, 5, num_beams)


@pytest.mark.parametrize("mode", MODES)
def test_one_group_is_beam_search(mode):
    model = PrefixModel.random(7, 5)
    strategies = Beam(3), DiverseBeam(3, num_groups=1)
    results = [run(decode, model, strategy=strategy, mode=mode, **OPTIONS) for strategy in strategies]
    for expected, result in zip(*results, strict=True):
        np.testing.assert_allclose(result, expected, rtol=1e-5)


@given(seed=seeds)
def test_without_a_penalty_all_groups_find_the_same(seed):
    model = PrefixModel.random(seed, 5)
    expected = run(decode, model, strategy=Beam(2), mode=compiled, **OPTIONS)
    strategy = DiverseBeam(4, num_groups=2, diversity_penalty=0.0)
    for result, one in zip(run(decode, model, strategy=strategy, mode=compiled, **OPTIONS), expected, strict=True):
        np.testing.assert_allclose(result, np.repeat(one, 2, axis=1), rtol=1e-5)


def test_a_great_penalty_gives_each_group_tokens_of_its_own():
    model = PrefixModel.random(7, 11, end_bias=-9.0)
    strategy = DiverseBeam(3, num_groups=3, diversity_penalty=100.0, num_results=3)
    sequences, _, _ = run(decode, model, strategy=strategy, **OPTIONS)
    assert all(len(set(column)) == 3 for sentence in sequences for column in sentence.T)


@given(seed=seeds)
def test_scores_are_the_models_own(seed):
    model = PrefixModel.random(seed, 7)
    strategy = DiverseBeam(4, num_groups=2, diversity_penalty=0.7, num_results=3)
    results = run(decode, model, strategy=strategy, mode=compiled, **OPTIONS)
    for row, sequences, scores, lengths in zip(model.rows(), *results, strict=True):
        hypotheses = [tuple(sequence[:length]) for sequence, length in zip(sequences, lengths, strict=True)]
        np.testing.assert_allclose(scores, [row.score(tokens) for tokens in hypotheses], rtol=1e-5)
        assert (np.diff(penalised(scores, lengths, 0.6)) <= 0).all()


def test_a_batch_is_its_rows_one_by_one():
    model = PrefixModel.random(5, 7, end_bias=2.0)
    options = dict(strategy=DiverseBeam(4, num_groups=2, diversity_penalty=0.7), mode=compiled, **OPTIONS)
    alone = [run(decode, row, **options) for row in model.rows()]
    for results, one_by_one in zip(run(decode, model, **options), zip(*alone, strict=True), strict=True):
        np.testing.assert_allclose(results, np.concatenate(one_by_one), rtol=1e-5)


def test_forbidden_tokens_give_no_nan():
    model = PrefixModel.random(9, 5)
    model.table[:, 2:4] = -np.inf
    model.table[::7] = -np.inf
    strategy = DiverseBeam(4, num_groups=2, early_stopping="first")
    sequences, scores, _ = run(decode, model, strategy=strategy, **OPTIONS)
    assert not np.isnan(scores).any() and not np.isin(sequences, [2, 3]).any()


@pytest.mark.parametrize(
    ("settings", "message"),
    [
        (dict(num_groups=3), "`num_groups` must divide `num_beams`. Received: num_groups=3, num_beams=4"),
        (dict(num_groups=0), "`num_groups` must be an integer of at least 1. Received: num_groups=0"),
        (dict(diversity_penalty=-0.1), "`diversity_penalty` must be a finite number of at least 0. Received: .*-0.1"),
    ],
)
def test_a_wrong_setting_is_named(settings, message):
    with pytest.raises(ValueError, match=message):
        DiverseBeam(4, **settings)
