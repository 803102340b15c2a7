"""The promises of sampling, against the enumerated distribution of small models."""

import keras
import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from keras import ops

from keras_tfm.backend import compile_loop
from keras_tfm.generation.greedy import greedy_search
from keras_tfm.generation.mirostat import Mirostat
from keras_tfm.generation.sampling import Sampling, sample_search
from keras_tfm.generation.sampling_filters import MinP, TopK, TopP
from keras_tfm.generation.strategy import search
from tests.generation.prefix_model import MODES, STATES, PrefixModel, count_steps, run
from tests.generation.test_sampling_filters import kept

seeds = st.integers(0, 2**31)
compiled = MODES[-1] if MODES[-1] != "graph" else "xla"


def mirostat_search(step, state, start_tokens, *, seed=0, tau=3.0, eta=0.1, **options):
    return search(Mirostat(tau, eta), step, state, start_tokens, seed=seed, **options)


def seeded(step, state, start_tokens, *, seeds, **options):
    """`sample_search` with a seed for each row."""
    return sample_search(step, state, start_tokens, seed=np.array(seeds, "int32"), **options)


def numpy_distribution(logits, temperature=1.0, filters=()):
    """Of one row of float64 logits, after the temperature and then the filters in their order."""
    logits = logits / temperature
    for each in filters:
        places = kept(each, logits)
        left = np.full_like(logits, -np.inf)
        left[places] = logits[places]
        logits = left
    powers = np.exp(logits - logits.max())
    return powers / powers.sum()


def all_sequences(model, length, end_id, distribution, prefix=(), probability=1.0):
    """Every sequence of row 0 with its probability."""
    if len(prefix) == length or end_id in prefix:
        return {prefix: probability}
    found = {}
    for token, each in enumerate(distribution(model.log_probabilities(prefix))):
        if each:
            found |= all_sequences(model, length, end_id, distribution, (*prefix, token), probability * each)
    return found


SETTINGS = {
    "plain": (dict(), dict()),
    "temperature": (dict(temperature=0.6), dict(temperature=0.6)),
    "top-k": (dict(top_k=2), dict(filters=(TopK(2),))),
    "top-p": (dict(temperature=1.5, top_p=0.8), dict(temperature=1.5, filters=(TopP(0.8),))),
    "all": (dict(top_k=3, top_p=0.9, min_p=0.2), dict(filters=(TopK(3), TopP(0.9), MinP(0.2)))),
}


@pytest.mark.parametrize("name", SETTINGS)
def test_sequences_come_as_often_as_they_are_probable(name):
    options, how = SETTINGS[name]
    model, many = PrefixModel.random(4, 4, batch_size=2), 6007
    results = run(sample_search, model, mode=compiled, max_length=3, end_id=1, num_samples=many, seed=9, **options)
    assert [each.shape for each in results] == [(2, many, 3), (2, many), (2, many)]
    for row, sequences, scores, lengths in zip(model.rows(), *results, strict=True):
        expected = all_sequences(row, 3, 1, lambda gains: numpy_distribution(gains, **how))
        np.testing.assert_allclose(sum(expected.values()), 1.0)
        drawn = [tuple(tokens[:length]) for tokens, length in zip(sequences.tolist(), lengths, strict=True)]
        assert set(drawn) <= set(expected)
        check_frequencies(drawn, expected)
        by_sequence = {sequence: row.score(sequence) for sequence in set(drawn)}
        np.testing.assert_allclose(scores, [by_sequence[each] for each in drawn], rtol=1e-5, atol=1e-5)


def check_frequencies(drawn, probabilities):
    """Chi-square at five standard deviations; what is rare is counted together."""
    rare = {each for each, probability in probabilities.items() if probability * len(drawn) < 5}
    cells = {each: probability for each, probability in probabilities.items() if each not in rare}
    cells["rare"] = sum(probabilities[each] for each in rare) + 1e-9
    counts = dict.fromkeys(cells, 0)
    for each in drawn:
        counts["rare" if each in rare else each] += 1
    expected = {each: probability * len(drawn) for each, probability in cells.items()}
    statistic = sum((counts[each] - expected[each]) ** 2 / max(expected[each], 1) for each in cells)
    freedom = len(cells) - 1
    assert statistic < freedom + 5 * np.sqrt(2 * freedom) + 5


@given(seed=seeds)
def test_temperature_zero_is_greedy_search(seed):
    model = PrefixModel.random(seed, 7)
    options = dict(mode=compiled, max_length=6, end_id=1, pad_id=4)
    greedy = run(greedy_search, model, **options)
    for ours, expected in zip(run(sample_search, model, temperature=0, top_k=3, **options), greedy, strict=True):
        np.testing.assert_array_equal(ours, expected)
    for ours, expected in zip(run(sample_search, model, top_k=1, **options), greedy, strict=True):
        np.testing.assert_allclose(ours, expected, rtol=1e-5)


@pytest.mark.parametrize("search_by", [sample_search, mirostat_search])
def test_seeds_reproduce_and_other_seeds_differ(search_by):
    model, draws = PrefixModel.random(1, 11, batch_size=7), [(3, "eager"), (3, compiled), (4, "eager")]
    options = dict(max_length=9, end_id=1)
    first, again, other = (run(search_by, model, mode=mode, seed=seed, **options) for seed, mode in draws)
    np.testing.assert_array_equal(first[0], again[0])
    assert (first[0] != other[0]).any(axis=1).all()


@pytest.mark.parametrize("num_samples", [None, 3])
def test_a_batch_is_its_rows_one_by_one(num_samples):
    model = PrefixModel.random(2, 7, batch_size=3)
    options = dict(mode=compiled, max_length=6, end_id=1, top_p=0.9, num_samples=num_samples)
    own = (4, 8, 15)
    together = run(seeded, model, seeds=own, **options)
    pairs = zip(model.rows(), own, strict=True)
    alone = [run(seeded, row, seeds=(each,), **options) for row, each in pairs]
    for results, one_by_one in zip(together, zip(*alone, strict=True), strict=True):
        np.testing.assert_allclose(results, np.concatenate(one_by_one), rtol=1e-6)
    scalar = run(sample_search, model.rows()[2], seed=15, **options)
    np.testing.assert_array_equal(scalar[0], together[0][2:3])


def test_rows_and_samples_that_are_alike_draw_for_themselves():
    model = PrefixModel.random(2, 11, batch_size=1)
    model = model._replace(codes=np.repeat(model.codes, 5), starts=np.repeat(model.starts, 5))
    sequences = run(sample_search, model, max_length=9, num_samples=7)[0].reshape(35, 9)
    assert len(np.unique(sequences, axis=0)) == 35
    columns = np.array([[np.mean(a == b) for a in sequences] for b in sequences])
    assert np.mean(columns[~np.eye(35, dtype=bool)]) < 0.5


@pytest.mark.parametrize("state", STATES)
def test_samples_do_not_mix_sentences(state):
    model = PrefixModel.random(6, 5)
    options = dict(mode=compiled, state=state, max_length=4, end_id=1, num_samples=3, top_k=3)
    for row, *results in zip(model.rows(), *run(sample_search, model, **options), strict=True):
        for sequence, score, length in zip(*results, strict=True):
            np.testing.assert_allclose(score, row.score(sequence[:length].tolist()), rtol=1e-5)


@given(seed=seeds)
def test_a_finished_sequence_never_changes(seed):
    model = PrefixModel.random(seed, 5, end_bias=1.0)
    short, long = (run(sample_search, model, mode=compiled, max_length=length, end_id=1, pad_id=4) for length in (4, 9))
    np.testing.assert_array_equal(long[0][:, :4], short[0])
    ended = (short[0] == 1).any(axis=1)
    np.testing.assert_array_equal(long[1][ended], short[1][ended])
    np.testing.assert_array_equal(long[2][ended], short[2][ended])
    assert all((tokens[length:] == 4).all() for tokens, length in zip(long[0], long[2], strict=True))


def test_no_step_is_taken_after_all_have_finished():
    model = PrefixModel.random(8, 5, end_bias=2.0)
    options = dict(max_length=50, end_id=1, num_samples=2)
    assert count_steps(sample_search, model, **options) == run(sample_search, model, **options)[2].max() < 50


@pytest.mark.parametrize("search_by", [sample_search, mirostat_search])
@pytest.mark.parametrize("mode", MODES)
def test_forbidden_tokens_are_never_drawn_and_give_no_nan(search_by, mode):
    model = PrefixModel.random(9, 5, batch_size=53)
    model.table[:, 2:4] = -np.inf
    options = dict(mode=mode, max_length=6, end_id=1)
    sequences, scores, _ = run(search_by, model, **options)
    assert not np.isin(sequences, [2, 3]).any() and np.isfinite(scores).all()
    model.table[:] = -np.inf
    assert (run(search_by, model, **options)[1] == -np.inf).all()


def test_filtered_tokens_are_never_drawn():
    model = PrefixModel.random(5, 13, batch_size=101)
    options = dict(mode=compiled, max_length=1, top_k=5, top_p=0.7, typical_p=0.9, temperature=2.0)
    drawn = run(sample_search, model, **options)[0][:, 0]
    for row, token in zip(model.rows(), drawn, strict=True):
        gains = row.log_probabilities(())
        assert token in kept(TopP(0.7001), np.where(np.isin(np.arange(13), kept(TopK(5), gains)), gains / 2, -np.inf))


def test_mirostat_keeps_the_surprise_near_its_target():
    model = PrefixModel.random(5, 101, batch_size=23)
    model.table[:] *= 2
    for tau in (1.5, 2.0, 2.5):
        _, scores, lengths = run(mirostat_search, model, mode=compiled, max_length=97, tau=tau)
        np.testing.assert_allclose(-scores.sum() / np.log(2) / lengths.sum(), tau, atol=0.25)


@pytest.mark.parametrize("mode", MODES)
def test_mirostat_is_its_published_loop(mode):
    model = PrefixModel.random(5, 11, batch_size=3)
    tau, eta = 1.2, 0.5
    sequences, scores, lengths = run(mirostat_search, model, mode=mode, max_length=8, end_id=1, tau=tau, eta=eta)
    for row, sequence, score, length in zip(model.rows(), sequences, scores, lengths, strict=True):
        bound = 2 * tau
        for i in range(length):
            surprise = -row.log_probabilities(sequence[:i].tolist()) / np.log(2)
            assert surprise[sequence[i]] <= max(bound, surprise.min()) + 1e-4
            bound -= eta * (surprise[sequence[i]] - tau)
        np.testing.assert_allclose(score, row.score(sequence[:length].tolist()), rtol=1e-5)


@pytest.mark.parametrize("strategy", [Sampling(0.8, 5, 0.9, 0.01, 0.9, num_samples=2), Mirostat(1.5)])
def test_it_runs_in_a_compiled_loop_with_any_seed(strategy):
    table = ops.convert_to_tensor(np.random.default_rng(0).normal(size=(7, 7)).astype("float32"))

    def decode(starts, seed):
        def step(tokens, index, state):
            return ops.take(table, tokens, axis=0), state

        return search(strategy, step, (), starts, max_length=8, end_id=1, seed=seed)

    fast, starts, found = compile_loop(decode, []), ops.convert_to_tensor([2, 3, 4], "int32"), []
    for seed in (ops.convert_to_tensor(each, "int32") for each in (3, 4)):
        for ours, expected in zip(fast(starts, seed), decode(starts, seed), strict=True):
            np.testing.assert_allclose(ops.convert_to_numpy(ours), ops.convert_to_numpy(expected), rtol=1e-5)
        found.append(ops.convert_to_numpy(fast(starts, seed)[0]))
    assert (found[0] != found[1]).any()


def test_an_empty_batch_gives_empty_results():
    model = PrefixModel.random(1, 5, batch_size=0)
    options = dict(max_length=4, end_id=1)
    assert [each.shape for each in run(sample_search, model, **options)] == [(0, 4), (0,), (0,)]
    assert run(sample_search, model, num_samples=3, **options)[0].shape == (0, 3, 4)


@pytest.mark.skipif(keras.backend.backend() != "tensorflow", reason="only TensorFlow has shapes without a size")
@pytest.mark.parametrize("search_by", [sample_search, mirostat_search])
def test_the_batch_size_may_be_unknown(search_by):
    import tensorflow as tf

    def step(tokens, index, state):
        return tf.one_hot(tokens - 1, 3) * 99, {"seen": state["seen"] + tokens[:, None]}

    options = dict(num_samples=2, top_p=0.9, top_k=2, typical_p=0.9) if search_by is sample_search else {}

    @tf.function(input_signature=[tf.TensorSpec([None], "int32"), tf.TensorSpec([None, 2], "int32")])
    def decode(starts, seen):
        return search_by(step, {"seen": seen}, starts, max_length=3, end_id=0, **options)

    sequences = decode(tf.constant([2, 1]), tf.zeros([2, 2], "int32"))[0]
    np.testing.assert_array_equal(np.unique(np.reshape(sequences, (-1, 3)), axis=0), [[0, 0, 0], [1, 0, 0]])


@pytest.mark.parametrize(
    ("settings", "message"),
    [
        (dict(temperature=-1), "`temperature` must be a finite number of at least 0. Received: temperature=-1"),
        (dict(temperature=None), "`temperature` must be a finite number of at least 0. Received: temperature=None"),
        (dict(top_k=0), "`top_k` must be an integer of at least 1. Received: top_k=0"),
        (dict(top_p=2), "`top_p` must be a finite number from 0 to 1. Received: top_p=2"),
        (dict(min_p=2), "`min_p` must be a finite number from 0 to 1. Received: min_p=2"),
        (dict(typical_p=0), "`typical_p` must be a finite number greater than 0. Received: typical_p=0"),
        (dict(num_samples=0), "`num_samples` must be an integer of at least 1. Received: num_samples=0"),
    ],
)
def test_a_wrong_setting_is_named(settings, message):
    with pytest.raises(ValueError, match=message):
        Sampling(**settings)
    with pytest.raises(ValueError, match=message):
        sample_search(lambda *args: None, (), ops.zeros(3, "int32"), max_length=4, **settings)


@pytest.mark.parametrize("name", ["tau", "eta"])
def test_a_wrong_setting_of_mirostat_is_named(name):
    with pytest.raises(ValueError, match=f"`{name}` must be a finite number greater than 0. Received: {name}=0"):
        Mirostat(**{name: 0})
