"""What `speculate` promises of models: the results of `generate`, in fewer calls of the model."""

import functools

import keras
import numpy as np
import pytest

from keras_tfm import layers, models
from keras_tfm.generation.prompt_lookup import PromptLookup
from keras_tfm.models.cached_model import CachedModel
from keras_tfm.models.speculation import speculate
from tests.numerics import randomize

V, END, L, G = 13, 2, 7, 3
PROMPTS = [[5, 6, 7, 3, 4], [8], [9, 10, 3]]
SOURCES = np.array([[5, 6, 7, 3], [8, 9, 0, 0], [4, 3, 0, 0]], "int32")


@functools.cache
def language_model(num_layers=1, sequence_length=40, seed=0, **options):
    model = models.CausalLM(V, num_layers, 12, 17, 3, sequence_length=sequence_length, end_id=END, **options)
    return randomize(model, seed, scale=0.7)


@functools.cache
def functional():
    """A language model put together by hand, and the cached model of it."""
    ids = keras.Input((None,), dtype="int32")
    embedding = layers.PositionalEmbedding(V, 40, 12)
    x = layers.TransformerDecoder(17, 3)(embedding(ids))
    return CachedModel(randomize(keras.Model(ids, embedding(x, reverse=True)), scale=0.7), end_id=END)


def check_equal(results, expected):
    np.testing.assert_array_equal(results.sequences, expected.sequences)
    np.testing.assert_array_equal(results.lengths, expected.lengths)
    np.testing.assert_allclose(results.scores, expected.scores, rtol=1e-4, atol=1e-4)
    assert (results.num_calls <= results.lengths).all()
    assert (results.num_calls * (G + 1) >= results.lengths).all()


@pytest.mark.parametrize("draft", ["itself", "another", "prompt_lookup", PromptLookup(2)], ids=str)
def test_greedy_results_are_those_of_generate(draft):
    model = language_model()
    drafts = {"itself": model, "another": language_model(seed=3)}
    results = speculate(model, PROMPTS, max_length=L, draft=drafts.get(draft, draft), num_draft_tokens=G)
    check_equal(results, model.generate(PROMPTS, max_length=L))
    if draft == "itself":  # all guesses stand
        np.testing.assert_array_equal(results.num_calls, -(-results.lengths // (G + 1)))


@pytest.mark.parametrize("options", [{"position": "rope"}, {"position": "alibi", "mask_zero": True}], ids=str)
def test_with_other_positions_and_with_padding_that_is_never_generated(options):
    model = language_model(**options)
    results = speculate(model, PROMPTS, max_length=L, num_draft_tokens=G)
    check_equal(results, model.generate(PROMPTS, max_length=L))


def test_results_may_end_where_learned_positions_end():
    model = language_model(sequence_length=len(PROMPTS[0]) + L - 1)
    results = speculate(model, PROMPTS, max_length=L, draft=model, num_draft_tokens=G, end_id=())
    check_equal(results, model.generate(PROMPTS, max_length=L, end_id=()))


def test_cached_models_check_and_guess():
    cached = functional()
    expected = cached.generate(PROMPTS, max_length=L)
    for draft in ("prompt_lookup", language_model()):
        check_equal(speculate(cached, PROMPTS, max_length=L, draft=draft, num_draft_tokens=G), expected)


def test_a_model_without_caches_runs_whole_passes():
    ids = keras.Input((None,), dtype="int32")
    embedding = layers.PositionalEmbedding(V, 40, 12)
    x = keras.layers.Conv1D(12, 3, padding="causal", activation="tanh")(embedding(ids))
    with pytest.warns(UserWarning, match="no cached call"):
        model = CachedModel(randomize(keras.Model(ids, embedding(x, reverse=True)), scale=0.7), end_id=END)
    results = speculate(model, PROMPTS, max_length=L, num_draft_tokens=G)
    check_equal(results, model.generate(PROMPTS, max_length=L))


def test_a_model_with_a_source_begins_with_its_start():
    model = randomize(models.Seq2SeqTransformer(V, 1, 12, 17, 3, sequence_length=40), scale=0.7)
    prompts = [[model.start_id]] * len(SOURCES)
    results = speculate(model, prompts, source=(SOURCES,), max_length=L, draft=model, num_draft_tokens=G)
    check_equal(results, model.generate(SOURCES, max_length=L))


def test_a_row_is_the_same_among_others_and_with_padding_on_both_sides():
    model = language_model()
    together = speculate(model, PROMPTS, max_length=L, num_draft_tokens=G)
    for i, prompt in enumerate(PROMPTS):
        padded = np.array([[END, *prompt, END], *[[3] * (len(prompt) + 2)] * 2])
        real = np.array([[False, *[True] * len(prompt), False]] * 3)
        alone = speculate(model, padded, padding_mask=real, max_length=L, num_draft_tokens=G)
        np.testing.assert_array_equal(alone.sequences[0], together.sequences[i])
        assert alone.num_calls[0] == together.num_calls[i]


def test_draws_are_distributed_as_the_models():
    model, other = language_model(), language_model(seed=3)
    options = dict(max_length=2, temperature=1.3, top_k=3, end_id=())
    rows = [PROMPTS[0]] * 2000
    draws = speculate(model, rows, draft=other, num_draft_tokens=2, seed=1, **options).sequences
    plain = model.generate(rows, strategy="sampling", seed=2, **options).sequences
    counts = [np.bincount(each @ [V, 1], minlength=V * V).astype("float64") for each in (draws, plain)]
    is_found = counts[0] + counts[1] >= 10
    statistic = (np.square(counts[0] - counts[1])[is_found] / (counts[0] + counts[1])[is_found]).sum()
    freedom = is_found.sum() - 1
    assert freedom >= 3
    assert statistic < freedom + 4 * np.sqrt(2 * freedom)


def test_a_seed_reproduces_and_a_second_call_of_a_bucket_compiles_nothing():
    model, other = language_model(), language_model(seed=3)
    options = dict(max_length=L, draft=other, temperature=1.5)
    first = speculate(model, PROMPTS, seed=1, **options)
    num_programs = len(model._generation_programs)
    np.testing.assert_array_equal(first.sequences, speculate(model, PROMPTS, seed=1, **options).sequences)
    assert (first.sequences != speculate(model, PROMPTS, seed=2, **options).sequences).any()
    assert len(model._generation_programs) == num_programs
    if keras.backend.backend() == "torch":
        program = next(reversed(model._generation_programs.values()))
        (kept,) = program.recordings._kept.values()
        speculate(model, [[3, 4], [5], [6]], seed=3, **options)
        assert list(program.recordings._kept.values()) == [kept]


def test_new_weights_are_seen():
    model = randomize(models.CausalLM(V, 1, 12, 17, 3, sequence_length=40), scale=0.7)
    before = speculate(model, PROMPTS, max_length=L, num_draft_tokens=G)
    randomize(model, 5, scale=0.7)
    after = speculate(model, PROMPTS, max_length=L, num_draft_tokens=G)
    assert (before.scores != after.scores).all()
    check_equal(after, model.generate(PROMPTS, max_length=L))


def test_an_int8_cache_is_near():
    model = language_model()
    expected = model.generate(PROMPTS, max_length=1)
    results = speculate(model, PROMPTS, max_length=1, cache="int8")
    np.testing.assert_allclose(results.scores, expected.scores, atol=0.1)


def test_errors_name_what_is_wrong():
    model = language_model()
    for arguments, message in [
        (dict(draft="smaller"), "`draft` must be a model that generates.*'smaller'"),
        (dict(draft=models.CausalLM(V + 1, 1, 12, 17, 3)), "vocabulary of 13 ids. Received: draft with 14 ids"),
        (dict(draft=language_model(sequence_length=8)), "within the 8 learned positions"),
        (dict(max_length=0), "`max_length` must be an integer of at least 1"),
        (dict(num_draft_tokens=0), "`num_draft_tokens` must be an integer of at least 1"),
        (dict(temperature=-1), "`temperature`"),
        (dict(cache="rolling"), "`cache` must be one of.*'rolling'"),
        (dict(prompts=[[99]]), r"Ids of `prompts` must be in"),
    ]:
        with pytest.raises(ValueError, match=message):
            speculate(model, **{"prompts": PROMPTS, "max_length": L, **arguments})


def test_linear_attention_cannot_go_back():
    ids = keras.Input((None,), dtype="int32")
    embedding = layers.PositionalEmbedding(V, 40, 12)
    x = embedding(ids)
    x = x + layers.LinearAttention(3, 4)(x, x, use_causal_mask=True)
    model = CachedModel(keras.Model(ids, embedding(x, reverse=True)))
    with pytest.raises(ValueError, match="which linear attention cannot"):
        speculate(model, PROMPTS, max_length=L)
