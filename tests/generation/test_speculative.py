"""The promises of speculative decoding: the model's own result or distribution, whoever drafts."""

import keras
import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from keras import ops

from keras_tfm.generation.drafter import DraftModel
from keras_tfm.generation.greedy import greedy_search
from keras_tfm.generation.prompt_lookup import PromptLookup
from keras_tfm.generation.speculative import speculative_search
from tests.generation import prefix_model
from tests.generation.chunk_model import first_state, run, tensors_of
from tests.generation.prefix_model import MODES, PrefixModel, all_hypotheses

seeds = st.integers(0, 2**31)
IS_THOROUGH = settings.get_current_profile_name() == "thorough"


def speculate(extend, draft_extend, codes, starts, *, max_length, num_draft_tokens=3, drafter="model", **options):
    state = first_state(codes, max_length + num_draft_tokens)
    by_model = drafter == "model"
    return speculative_search(
        extend,
        state,
        DraftModel(draft_extend) if by_model else PromptLookup(),
        starts,
        draft_state=state if by_model else (),
        max_length=max_length,
        num_draft_tokens=num_draft_tokens,
        **options,
    )


def mixed(model, seed, share):
    """A table that drafts as the model does in about `share` of all places."""
    rng = np.random.default_rng(seed)
    other = rng.normal(size=model.table.shape).astype("float32") * 2
    return np.where(rng.random((len(other), 1)) < share, model.table, other)


@given(
    seed=seeds,
    size=st.sampled_from([3, 11]) if IS_THOROUGH else st.just(11),
    max_length_and_drafter=st.sampled_from([(7, "model"), (7, "lookup"), (1, "model")]),
)
def test_at_temperature_0_it_is_greedy_search(seed, size, max_length_and_drafter):
    max_length, drafter = max_length_and_drafter
    model = PrefixModel.random(seed, vocabulary_size=size)
    options = dict(max_length=max_length, end_id=1, pad_id=2)
    expected = prefix_model.run(greedy_search, model, mode=MODES[-1], **options)
    tensors = tensors_of(model, mixed(model, 0, 0.7))
    results = run(speculate, tensors, mode=MODES[-1], drafter=drafter, **options)
    for received, wanted in zip(results, expected, strict=False):
        assert received.dtype == wanted.dtype
        np.testing.assert_allclose(received, wanted, rtol=1e-5, atol=1e-5)
    assert (results[3] <= results[2]).all() and (results[3] >= -(-results[2] // 4)).all()


@pytest.mark.parametrize("mode", MODES)
def test_a_perfect_drafter_is_right_each_time(mode):
    model = PrefixModel.random(1, 7, end_bias=-99.0)
    for temperature in (0.0, 0.8):
        results = run(speculate, tensors_of(model), mode=mode, max_length=8, temperature=temperature, end_id=1)
        np.testing.assert_array_equal(results[3], 2)


def counts_of(sequences, hypotheses, pad_id):
    padded = {tokens + (pad_id,) * (sequences.shape[1] - len(tokens)): chance for chance, tokens in hypotheses}
    drawn, counts = np.unique(sequences, axis=0, return_counts=True)
    counts = {tuple(int(token) for token in row): count for row, count in zip(drawn, counts, strict=True)}
    assert not counts.keys() - padded.keys()
    return np.array([counts.get(tokens, 0) for tokens in padded]), np.array([*padded.values()])


def check_distribution(counts, chances):
    """A chi-square test at about one in a million; what is expected less than 5 times is put together."""
    expected = chances / chances.sum() * counts.sum()
    is_rare = expected < 5
    counts, expected = ([*x[~is_rare], x[is_rare].sum()] for x in (counts, expected))
    statistic = sum((c - e) ** 2 / e for c, e in zip(counts, expected, strict=True) if e > 0)
    freedom = len(counts) - 1
    # Wilson and Hilferty 1931: the cube root of chi-square is near a normal distribution.
    deviation = ((statistic / freedom) ** (1 / 3) - (1 - 2 / (9 * freedom))) / (2 / (9 * freedom)) ** 0.5
    assert deviation < 4.75, (statistic, freedom)


ROWS = 20000


def one_model(seed, size, rows=ROWS):
    model = PrefixModel.random(seed, size, batch_size=1)
    return model._replace(codes=np.repeat(model.codes, rows), starts=np.repeat(model.starts, rows))


@pytest.mark.parametrize(("num_draft_tokens", "drafter"), [(1, "model"), (2, "lookup"), (4, "model")])
def test_whole_sequences_are_distributed_as_the_model_s(drafter, num_draft_tokens):
    model = one_model(num_draft_tokens, 4)
    options = dict(max_length=3, end_id=1, pad_id=0, temperature=1.0, seed=num_draft_tokens)
    results = run(
        speculate,
        tensors_of(model, mixed(model, 1, 0.0)),
        mode=MODES[-1],
        drafter=drafter,
        num_draft_tokens=num_draft_tokens,
        **options,
    )
    hypotheses = [(np.exp(score), tokens) for score, tokens in all_hypotheses(model, max_length=3, end_id=1)]
    check_distribution(*counts_of(results[0], hypotheses, pad_id=0))
    scores = {tokens + (0,) * (3 - len(tokens)): np.log(chance) for chance, tokens in hypotheses}
    expected = [scores[tuple(int(token) for token in row)] for row in results[0][:500]]
    np.testing.assert_allclose(results[1][:500], expected, rtol=1e-4, atol=1e-5)


def filtered(log_probabilities, temperature, top_k):
    scaled = log_probabilities / temperature
    scaled = np.where(scaled >= np.sort(scaled)[-top_k], scaled, -np.inf)
    weights = np.exp(scaled - scaled.max())
    return weights / weights.sum()


@pytest.mark.parametrize("drafter", ["model", "lookup"])
def test_temperature_and_filters_shape_the_distribution(drafter):
    model = one_model(5, 5)
    options = dict(max_length=2, temperature=1.7, top_k=3, seed=9)
    results = run(speculate, tensors_of(model, mixed(model, 2, 0.0)), mode=MODES[-1], drafter=drafter, **options)
    hypotheses = [
        (first * second, (a, b))
        for a, first in enumerate(filtered(model.log_probabilities(()), 1.7, 3))
        for b, second in enumerate(filtered(model.log_probabilities((a,)), 1.7, 3))
        if first * second > 0
    ]
    check_distribution(*counts_of(results[0], hypotheses, pad_id=0))


@pytest.mark.parametrize("drafter", ["model", "lookup"])
def test_a_batch_is_its_rows_one_by_one(drafter):
    model, keys = PrefixModel.random(3, 5), [3, 1, 4, 1, 5]
    tensors, mode = tensors_of(model, mixed(model, 3, 0.5)), MODES[-1]

    options = dict(mode=mode, max_length=6, end_id=1, drafter=drafter, temperature=1.0)
    together = run(with_seeds, (*tensors, np.array(keys, "int32")), **options)
    alone = [
        run(with_seeds, (*tensors[:2], *(x[row : row + 1] for x in tensors[2:]), np.array([key], "int32")), **options)
        for row, key in enumerate(keys)
    ]
    for results, one_by_one in zip(together, zip(*alone, strict=True), strict=True):
        np.testing.assert_allclose(results, np.concatenate(one_by_one), rtol=1e-5)


def with_seeds(extend, draft_extend, codes, starts, seeds=0, **options):
    return speculate(extend, draft_extend, codes, starts, seed=ops.convert_to_tensor(seeds), **options)


@pytest.mark.parametrize("drafter", ["model", "lookup"])
@pytest.mark.parametrize("temperature", [0.0, 1.0])
def test_forbidden_tokens_are_never_taken_and_give_no_nan(drafter, temperature):
    model = PrefixModel.random(9, 5)
    model.table[:, 2:4] = -np.inf
    options = dict(mode=MODES[-1], max_length=6, end_id=1, drafter=drafter, temperature=temperature)
    draft = PrefixModel.random(8, 5).table
    sequences, scores, _, _ = run(speculate, tensors_of(model, draft), **options)
    assert not np.isin(sequences, [2, 3]).any() and np.isfinite(scores).all()
    model.table[:] = -np.inf
    assert (run(speculate, tensors_of(model, draft), **options)[1] == -np.inf).all()


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        (dict(num_draft_tokens=0), "`num_draft_tokens` must be an integer of at least 1. Received: num_draft_tokens=0"),
        (dict(max_length=0), "`max_length` must be an integer of at least 1. Received: max_length=0"),
        (dict(end_id=5), r"`end_id` must be smaller than the vocabulary size 5. Received: end_id=\(5,\)"),
        (dict(temperature=-1), "`temperature` must be .*Received: temperature=-1"),
        (dict(drafter="model"), "`drafter` must be a `Drafter`. Received: drafter='model'"),
        (dict(draft_state=np.zeros((2, 1))), r"Every leaf of `state`.*Received: .*\(2, 1\)"),
        (dict(extend=lambda t, i, s: (ops.zeros((3, 5)), s)), r"`extend` must return .*\[3, 5, .*Received: .*\(3, 5\)"),
        (dict(extend=lambda t, i, s: (ops.zeros((3, 1, 5)), s)), r"`extend` must return .*Received: .*\(3, 1, 5\)"),
    ],
)
def test_a_wrong_argument_is_named(changes, message):
    def extend(tokens, index, state):
        return ops.zeros((*tokens.shape, 5)), state

    arguments = dict(extend=extend, state=(), drafter=PromptLookup(), start_tokens=np.zeros(3, "int32"), max_length=4)
    with pytest.raises(ValueError, match=message):
        speculative_search(**(arguments | changes))


@pytest.mark.parametrize("drafter", ["model", "lookup"])
def test_an_empty_batch_gives_empty_results(drafter):
    tensors = tensors_of(PrefixModel.random(1, 5, batch_size=0))
    results = run(speculate, tensors, max_length=4, end_id=1, drafter=drafter)
    assert [result.shape for result in results] == [(0, 4), (0,), (0,), (0,)]


@pytest.mark.skipif(keras.backend.backend() != "tensorflow", reason="only TensorFlow has shapes without a size")
@pytest.mark.parametrize("temperature", [0.0, 1.0])
def test_the_batch_size_may_be_unknown(temperature):
    import tensorflow as tf

    def extend(tokens, index, state):
        return tf.one_hot(tokens - 1, 3) * 99.0, state

    @tf.function(input_signature=[tf.TensorSpec([None], "int32")])
    def decode(starts):
        options = dict(max_length=3, end_id=0, temperature=temperature)
        return [
            speculative_search(extend, (), drafter, starts, **options)[0]
            for drafter in (PromptLookup(), DraftModel(extend))
        ]

    for sequences in decode(tf.constant([2, 1])):
        np.testing.assert_array_equal(sequences, [[1, 0, 0], [0, 0, 0]])
