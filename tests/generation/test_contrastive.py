"""The promises of contrastive search, against a plain numpy loop."""

import functools

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from keras import ops

from keras_tfm.generation.contrastive import contrastive_search
from keras_tfm.generation.greedy import greedy_search
from keras_tfm.generation.sampling_filters import TopK
from tests.generation import prefix_model
from tests.generation.prefix_model import MODES, PREFIXES, PrefixModel, following_code

V, D, L, P = 7, 3, 6, 2
HIDDEN = np.random.default_rng(0).normal(size=(PREFIXES, D)).astype("float32")
seeds = st.integers(0, 2**31)


@functools.cache
def compiled(mode, options):
    def whole(table, codes, starts, prompt_hidden):
        tables = ops.convert_to_tensor(table), ops.convert_to_tensor(HIDDEN)

        def step(tokens, index, state):
            code = following_code(state[0], tokens, index)
            return ops.take(tables[0], code, axis=0), (code,)

        state, prompt_hidden = (ops.convert_to_tensor(codes),), ops.convert_to_tensor(prompt_hidden)
        arguments = dict(prompt_hidden=prompt_hidden, max_length=L, end_id=1, **dict(options))
        return contrastive_search(
            step, state, starts, hidden=lambda state: ops.take(tables[1], state[0], axis=0), **arguments
        )

    if mode == "jit":
        import jax

        return jax.jit(whole)
    if mode in ("graph", "xla"):
        import tensorflow as tf

        return tf.function(whole, jit_compile=mode == "xla")
    return whole


def search(model, prompt_hidden=None, mode=MODES[-1], **options):
    prompt_hidden = np.zeros((len(model.codes), P, D), "float32") if prompt_hidden is None else prompt_hidden
    results = compiled(mode, tuple(options.items()))(*model, prompt_hidden)
    return [ops.convert_to_numpy(result) for result in results]


def cosine(x, y):
    return float(x @ y / np.sqrt((x @ x) * (y @ y)))


def plain(model, prompt_hidden, num_candidates, penalty_alpha):
    """The tokens of row 0."""
    code = following_code(int(model.codes[0]), int(model.starts[0]), 0)
    past = [*prompt_hidden[np.any(prompt_hidden != 0, axis=-1)], HIDDEN[code]]
    tokens, score = [], 0.0
    while len(tokens) < L and 1 not in tokens:
        gains = model.log_probabilities(tokens)
        merits = {}
        for token in np.argsort(-gains, kind="stable")[:num_candidates]:
            hidden = HIDDEN[following_code(code, int(token), len(tokens) + 1)]
            likeness = max(cosine(hidden, each) for each in past)
            merits[int(token)] = (1 - penalty_alpha) * np.exp(gains[token]) - penalty_alpha * likeness
        best = max(merits, key=merits.get)
        code = following_code(code, best, len(tokens) + 1)
        past.append(HIDDEN[code])
        score += gains[best]
        tokens.append(best)
    return tokens + [0] * (L - len(tokens)), score, len(tokens)


@given(seed=seeds, setting=st.sampled_from([(4, 0.6), (3, 1.0), (9, 0.3)]), has_prompt=st.booleans())
def test_it_is_the_plain_loop(seed, setting, has_prompt):
    model = PrefixModel.random(seed, V)
    rng = np.random.default_rng(seed)
    prompt_hidden = rng.normal(size=(5, P, D)).astype("float32") * (rng.random((5, P, 1)) < 0.5) * has_prompt
    prompt_hidden = prompt_hidden.astype("float32")
    results = search(model, prompt_hidden, num_candidates=setting[0], penalty_alpha=setting[1])
    for row, hidden, sequence, score, length in zip(model.rows(), prompt_hidden, *results, strict=True):
        expected = plain(row, hidden, *setting)
        np.testing.assert_array_equal(sequence, expected[0])
        np.testing.assert_allclose(score, expected[1], rtol=1e-5, atol=1e-5)
        assert length == expected[2]


@pytest.mark.parametrize("mode", MODES)
@pytest.mark.parametrize("options", [dict(penalty_alpha=0), dict(num_candidates=1), dict(rules=(TopK(1),))])
def test_without_choice_or_penalty_it_is_greedy_search(options, mode):
    model = PrefixModel.random(2, V)
    expected = prefix_model.run(greedy_search, model, max_length=L, end_id=1)
    sequences, scores, lengths = search(model, mode=mode, **options)
    np.testing.assert_array_equal(sequences, expected[0])
    np.testing.assert_array_equal(lengths, expected[2])
    if "rules" not in options:
        np.testing.assert_allclose(scores, expected[1], rtol=1e-5)


@pytest.mark.parametrize("mode", MODES)
def test_forbidden_tokens_are_never_taken_and_give_no_nan(mode):
    model = PrefixModel.random(9, V)
    model.table[:, 2:6] = -np.inf
    sequences, scores, _ = search(model, mode=mode, penalty_alpha=1.0)
    assert not np.isin(sequences, [2, 3, 4, 5]).any() and np.isfinite(scores).all()
    model.table[:] = -np.inf
    assert (search(model, mode=mode, penalty_alpha=1.0)[1] == -np.inf).all()


def test_a_batch_is_its_rows_one_by_one():
    model = PrefixModel.random(3, V)
    alone = [search(row) for row in model.rows()]
    for results, one_by_one in zip(search(model), zip(*alone, strict=True), strict=True):
        np.testing.assert_allclose(results, np.concatenate(one_by_one), rtol=1e-6)


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        (dict(num_candidates=0), "`num_candidates` must be an integer of at least 1. Received: num_candidates=0"),
        (dict(penalty_alpha=1.5), "`penalty_alpha` must be a finite number from 0 to 1. Received: penalty_alpha=1.5"),
    ],
)
def test_a_wrong_setting_is_named(changes, message):
    with pytest.raises(ValueError, match=message):
        search(PrefixModel.random(0, V), **changes)


def test_an_empty_batch_gives_empty_results():
    results = search(PrefixModel.random(1, V, batch_size=0), np.zeros((0, P, D), "float32"), mode="eager")
    assert [result.shape for result in results] == [(0, L), (0,), (0,)]
