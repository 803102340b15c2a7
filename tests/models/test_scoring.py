"""Forced decoding gives the log-probabilities of `generate` and of whole passes."""

import numpy as np
import pytest
from keras import ops

from keras_tfm import models
from tests.models.test_generate import (
    END,
    PROMPTS,
    SOURCES,
    V,
    functional,
    language_model,
    log_probabilities,
    tensor,
    translator,
)

CONTINUATIONS = [[4, 3], [], [7, 7, 12, 1, END]]


def by_whole_passes(whole, prompt, continuation, allowed):
    scores = np.full((len(prompt) + len(continuation), V), -np.inf)
    scores[:, allowed] = log_probabilities(whole([*prompt, *continuation]))[0][:, allowed]
    scores = scores - np.log(np.exp(scores).sum(-1, keepdims=True))
    return [scores[len(prompt) - 1 + i, token] for i, token in enumerate(continuation)]


def test_scores_are_those_of_whole_passes():
    model = language_model()
    results = model.score(PROMPTS, CONTINUATIONS, batch_size=2)
    for prompt, continuation, row in zip(PROMPTS, CONTINUATIONS, results.log_probabilities, strict=True):
        whole = lambda text: model(ops.convert_to_tensor([text], "int32"))  # noqa: E731
        expected = by_whole_passes(whole, prompt, continuation, slice(None))
        assert row.dtype == "float32" and row.shape == (len(continuation),)
        np.testing.assert_allclose(row, expected, rtol=1e-4, atol=1e-5)
    np.testing.assert_allclose(results.scores, [sum(row) for row in results.log_probabilities], rtol=1e-6)


def test_padding_has_no_probability_in_translations():
    model = translator()
    targets = [[4, 3, END], [5, END], [6, 0, 8]]
    results = model.score(SOURCES, targets)
    for source, target, row in zip(SOURCES, targets, results.log_probabilities, strict=True):
        whole = lambda text, source=source: model(  # noqa: E731
            {"source_ids": tensor(source), "target_ids": ops.convert_to_tensor([text], "int32")}
        )
        if 0 in target:
            assert row[1] == -np.inf and np.isfinite(row[0])
        else:
            expected = by_whole_passes(whole, [1], target, np.arange(1, V))
            np.testing.assert_allclose(row[: len(target)], expected, rtol=1e-4, atol=1e-5)


def test_scores_are_those_of_what_generate_found():
    for model, rows in ((language_model(), PROMPTS), (translator(), SOURCES)):
        found = model.generate(rows, max_length=5, strategy="beam", num_beams=3)
        for k in (0, 2):
            said = [row[:length] for row, length in zip(found.sequences[:, k], found.lengths[:, k], strict=True)]
            results = model.score(rows, said)
            assert [len(row) for row in results.log_probabilities] == found.lengths[:, k].tolist()
            np.testing.assert_allclose(results.scores, found.scores[:, k], rtol=1e-4, atol=1e-4)


def test_functional_models_score():
    cached = models.CachedModel(functional("stack"), end_id=END)
    found = cached.generate(PROMPTS, max_length=4, end_id=())
    np.testing.assert_allclose(cached.score(PROMPTS, found.sequences).scores, found.scores, rtol=1e-4, atol=1e-4)


def test_errors_name_what_is_wrong():
    model = language_model()
    for prompts, continuations, message in [
        ([[3]], [], "Each prompt must have one continuation. Received: 1 prompts, 0 continuations"),
        ([[]], [[3]], "No prompt may be empty. Received: prompts of lengths"),
        ([[3]], [[V]], r"Ids of `prompts` must be in \[0, vocabulary_size\)|Ids of `token_ids`"),
        ([[3]], [[4] * 41], "within the 40 learned positions. Received: 42 tokens"),
    ]:
        with pytest.raises(ValueError, match=message):
            model.score(prompts, continuations)
    assert model.score([], []).scores.shape == (0,)
