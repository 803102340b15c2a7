"""Language models of KerasHub under our searches: every row as by whole passes of the model, alone."""

import functools

import keras
import numpy as np
import pytest
from keras import ops

from keras_tfm import generation
from keras_tfm.interop.keras_hub_causal_lm import KerasHubCausalLM
from tests.numerics import randomize

keras_hub = pytest.importorskip("keras_hub", reason="keras_hub is an extra")

V, END = 13, 2
PROMPTS = [[5, 6, 7], [8], [9, 10, 3]]


def backbone(kind):
    kinds = keras_hub.models
    if kind == "gpt2":
        return kinds.GPT2Backbone(V, 2, 2, 12, 17, dropout=0.1, max_sequence_length=40)
    return kinds.GemmaBackbone(V, 2, 2, 1, 12, 34, 8)


@functools.cache
def model_of(kind):
    inner = backbone(kind)
    randomize(inner, scale=0.4)
    return KerasHubCausalLM(inner, end_id=END)


def log_probabilities(model, text):
    padded = np.array([[*text, *[0] * (12 - len(text))]], "int32")  # one shape: what follows is not seen
    logits = model.model({"token_ids": padded, "padding_mask": np.ones_like(padded)}, training=False)
    logits = ops.convert_to_numpy(ops.stop_gradient(logits))[0, : len(text)].astype("float64")
    logits = logits - logits.max(-1, keepdims=True)
    return logits - np.log(np.exp(logits).sum(-1, keepdims=True))


def check_greedy(model, prompt, following, max_length):
    """By one whole pass, each token is the most probable; returns the sum of their log-probabilities."""
    scores = log_probabilities(model, [*prompt, *following])[len(prompt) - 1 : -1]
    assert scores.argmax(-1).tolist() == following
    assert END not in following[:-1] and (len(following) == max_length or following[-1] == END)
    return scores.max(-1).sum()


@pytest.mark.parametrize("kind", ["gpt2", "gemma"])
def test_cached_generation_is_that_of_whole_passes(kind):
    model = model_of(kind)
    results = model.generate(PROMPTS, max_length=6)
    for prompt, sequence, score, length in zip(PROMPTS, *results, strict=True):
        total = check_greedy(model, prompt, sequence[:length].tolist(), 6)
        assert (sequence[length:] == 0).all()
        np.testing.assert_allclose(score, total, rtol=1e-4, atol=1e-4)


def test_a_beams_scores_are_those_of_whole_passes_and_rules_see_the_prompt():
    model, rules = model_of("gpt2"), [generation.NoRepeatNgram(1)]
    results = model.generate(PROMPTS, max_length=4, strategy="beam", num_beams=3)
    assert results.sequences.shape == (3, 3, 4)
    for prompt, *hypotheses in zip(PROMPTS, *results, strict=True):
        for sequence, score, length in zip(*hypotheses, strict=True):
            scores = log_probabilities(model, [*prompt, *sequence[:length]])[len(prompt) - 1 : -1]
            np.testing.assert_allclose(score, scores[np.arange(length), sequence[:length]].sum(), rtol=1e-4, atol=1e-4)
    sequences = model.generate([[5, 6, 7], [9, 10, 3]], max_length=5, rules=rules, end_id=()).sequences
    for prompt, sequence in zip([[5, 6, 7], [9, 10, 3]], sequences.tolist(), strict=True):
        assert len({*prompt, *sequence}) == 8


def test_a_batch_is_its_rows_and_may_be_padded_on_either_side():
    model, short = model_of("gemma"), 1
    together = model.generate(PROMPTS, max_length=4, strategy="beam", num_beams=2)
    alone = model.generate([PROMPTS[short]], max_length=4, strategy="beam", num_beams=2)
    np.testing.assert_array_equal(alone.sequences[0], together.sequences[short])
    np.testing.assert_allclose(alone.scores[0], together.scores[short], rtol=1e-4, atol=1e-5)
    real = np.array([[column < len(prompt) for column in range(3)] for prompt in PROMPTS])
    for mask in (real, real[:, ::-1]):
        padded = np.full((3, 3), END)
        padded[mask] = np.concatenate(PROMPTS)
        results = model.generate(padded, padding_mask=mask, max_length=4, strategy="beam", num_beams=2)
        np.testing.assert_array_equal(results.sequences, together.sequences)


def test_scores_of_given_texts_are_those_of_whole_passes():
    model, continuations = model_of("gpt2"), [[3, 4], [5], []]
    scored = model.score(PROMPTS, continuations)
    for prompt, following, received, total in zip(PROMPTS, continuations, *scored, strict=True):
        log = log_probabilities(model, [*prompt, *following])[len(prompt) - 1 : -1]
        expected = log[np.arange(len(following)), following] if following else np.zeros(0)
        np.testing.assert_allclose(received, expected, rtol=1e-4, atol=1e-4)
        np.testing.assert_allclose(total, expected.sum(), rtol=1e-4, atol=1e-4)
    with pytest.raises(ValueError, match="Each prompt must have one continuation"):
        model.score(PROMPTS, [])


def test_a_stream_takes_prompts_of_one_length():
    model = model_of("gpt2")
    prompts = [[5, 6, 7], [9, 10, 3]]
    columns = np.stack(list(model.stream(prompts, max_length=4)), axis=1)
    for prompt, row in zip(prompts, columns.tolist(), strict=True):
        length = row.index(END) + 1 if END in row else len(row)
        check_greedy(model, prompt, row[:length], 4)
        assert not any(row[length:])
    with pytest.raises(ValueError, match="`prompts` must have one length.*Received: lengths .*3, 1"):
        model.stream(PROMPTS[:2], max_length=4)


def test_samples_are_reproduced_by_their_seed():
    model = model_of("gpt2")
    draws = [model.generate(PROMPTS, max_length=5, strategy="sampling", seed=seed)[0] for seed in (3, 3, 4)]
    np.testing.assert_array_equal(draws[0], draws[1])
    assert (draws[0] != draws[2]).any()


def test_errors_name_what_is_wrong():
    model = model_of("gpt2")
    for arguments, message in [
        (dict(prompts=[[]]), "`prompts` must hold at least one prompt, and none may be empty"),
        (dict(prompts=[[99]]), r"Ids of `prompts` must be in \[0, vocabulary_size\)"),
        (dict(prompts=[[3]], max_length=99), "within the 40 learned positions.*max_length=99"),
        (dict(prompts=[[3]], cache="int8"), "`cache` must be 'full' or None.*Received: cache='int8'"),
    ]:
        with pytest.raises(ValueError, match=message):
            model.generate(**{"max_length": 4, **arguments})
    with pytest.raises(ValueError, match="`model` must be a causal language model or a backbone of KerasHub"):
        KerasHubCausalLM(keras.Sequential([keras.Input((3,))]))
    encoder = keras_hub.models.BertBackbone(V, 1, 2, 8, 17, max_sequence_length=9)
    with pytest.raises(ValueError, match="KerasHub has no causal language model for this backbone"):
        KerasHubCausalLM(encoder)


def test_a_cached_pass_that_is_another_function_is_found(monkeypatch):
    model = model_of("gpt2").model
    whole = type(model).call_with_cache

    def flipped(self, token_ids, cache, cache_update_index):
        logits, hidden, cache = whole(self, token_ids, cache, cache_update_index)
        return ops.flip(logits, axis=-1), hidden, cache

    monkeypatch.setattr(type(model), "call_with_cache", flipped)
    with pytest.raises(ValueError, match="The cached pass of `model` must give the logits of a whole pass"):
        KerasHubCausalLM(model)
