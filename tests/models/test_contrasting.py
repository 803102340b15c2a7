"""What `contrast` promises of models: contrastive search as whole passes over the text do it."""

import functools

import keras
import numpy as np
import pytest
from keras import ops

from keras_tfm import generation, models
from keras_tfm.models.contrasting import contrast
from tests.numerics import randomize

V, END, L = 13, 2, 6
PROMPTS = [[5, 6, 7, 3, 4], [8], [9, 10, 3]]


@functools.cache
def language_model(position="learned", **options):
    model = models.CausalLM(V, 1, 12, 17, 3, position=position, sequence_length=40, end_id=END, **options)
    return randomize(model, scale=0.7)


@functools.cache
def parts(model):
    """Hidden states and logits of whole texts."""
    (hidden,) = [node.outputs[0] for node in model.decoder._inbound_nodes]
    return keras.Model(model.input, [hidden, model.output])


def by_whole_passes(model, prompt, alpha, k, allowed):
    """Tokens and score of one prompt, in float64; every candidate by a pass over all of the text."""

    def read(texts):
        length = len(texts[0])
        padded = np.zeros((k, 12), "int32")  # one shape, so that little is compiled; causal models do not see it
        padded[: len(texts), :length] = texts
        outputs = parts(model)(ops.convert_to_tensor(padded))
        hidden, logits = (ops.convert_to_numpy(each).astype("float64")[: len(texts), :length] for each in outputs)
        return hidden / np.linalg.norm(hidden, axis=-1, keepdims=True), logits

    text, score = list(prompt), 0.0
    while len(text) < len(prompt) + L:
        last = np.full(V, -np.inf)
        last[allowed] = read([text])[1][0, -1][allowed]
        chances = np.exp(last - last.max())
        chances /= chances.sum()
        candidates = np.argsort(-chances, kind="stable")[:k]
        hidden, _ = read([[*text, token] for token in candidates])
        likeness = np.einsum("kd,ksd->ks", hidden[:, -1], hidden[:, :-1]).max(-1)
        best = candidates[((1 - alpha) * chances[candidates] - alpha * likeness).argmax()]
        text.append(int(best))
        score += np.log(chances[best])
        if best == END:
            break
    return text[len(prompt) :], score


def check(model, results, alpha, k, allowed=slice(None)):
    for prompt, sequence, score, length in zip(PROMPTS, *results, strict=True):
        tokens, total = by_whole_passes(model, prompt, alpha, k, allowed)
        assert sequence[:length].tolist() == tokens
        assert (sequence[length:] == 0).all()
        np.testing.assert_allclose(score, total, rtol=1e-3, atol=1e-3)


@pytest.mark.parametrize("position", ["learned", "rope"])
def test_it_is_contrastive_search_by_whole_passes(position):
    model = language_model(position)
    results = contrast(model, PROMPTS, max_length=L, penalty_alpha=0.6, num_candidates=3)
    check(model, results, 0.6, 3)
    if position == "rope":
        assert (results.sequences != model.generate(PROMPTS, max_length=L).sequences).any()


def test_padding_is_never_generated():
    model = language_model(mask_zero=True)
    check(model, contrast(model, PROMPTS, max_length=L, num_candidates=3), 0.6, 3, np.arange(1, V))


def test_without_penalty_it_is_greedy():
    model = language_model()
    expected = model.generate(PROMPTS, max_length=L)
    results = contrast(model, PROMPTS, max_length=L, penalty_alpha=0, num_candidates=3)
    np.testing.assert_array_equal(results.sequences, expected.sequences)
    np.testing.assert_allclose(results.scores, expected.scores, rtol=1e-4, atol=1e-4)


def test_a_row_is_the_same_among_others():
    model = language_model()
    options = dict(max_length=L, penalty_alpha=0.6, num_candidates=3)
    together = contrast(model, PROMPTS, **options)
    for i, prompt in enumerate(PROMPTS):
        alone = contrast(model, [prompt, *[[3] * len(prompt)] * 2], **options)
        np.testing.assert_array_equal(alone.sequences[0], together.sequences[i])


def test_rules_see_the_prompt():
    rules = [generation.NoRepeatNgram(1)]
    results = contrast(language_model(), PROMPTS, max_length=L, num_candidates=3, rules=rules, end_id=())
    for prompt, sequence in zip(PROMPTS, results.sequences, strict=True):
        text = [*prompt, *sequence.tolist()]
        assert len(set(text)) == len(text)


def test_a_second_call_of_a_bucket_compiles_nothing():
    model = models.CausalLM(V, 1, 12, 17, 3, sequence_length=40)
    contrast(model, PROMPTS, max_length=3)
    (program,) = model._generation_programs.values()
    recordings = getattr(program, "recordings", None)
    kept = list(recordings._kept.values()) if recordings else []
    contrast(model, [[3], [4, 5], [6]], max_length=3)
    assert list(model._generation_programs.values()) == [program]
    assert not recordings or (kept == list(recordings._kept.values()) and len(kept) == 1)


def test_errors_name_what_is_wrong():
    model = language_model()
    for arguments, message in [
        (dict(model=keras.Sequential()), "`model` must be a `CausalLM`. Received: model of type Sequential"),
        (dict(max_length=36), "within the 40 learned positions.*prompt of 5 tokens, max_length=36"),
        (dict(num_candidates=0), "`num_candidates` must be an integer of at least 1"),
        (dict(penalty_alpha=2), "`penalty_alpha`"),
        (dict(prompts=[[]]), "`prompts` must hold at least one prompt"),
    ]:
        with pytest.raises(ValueError, match=message):
            contrast(**{"model": model, "prompts": PROMPTS, "max_length": L, **arguments})
