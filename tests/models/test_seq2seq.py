"""The model decodes by its own full passes, whatever its caches do."""

import numpy as np
import pytest

from keras_tfm import models
from tests.numerics import randomize, to_numpy

SOURCES = np.array([[5, 6, 7, 8, 9], [9, 4, 2, 0, 0], [3, 3, 2, 0, 0]], "int32")


@pytest.fixture(scope="module")
def model():
    size = dict(num_layers=2, hidden_dim=12, intermediate_dim=20, num_heads=2)
    return randomize(models.Seq2SeqTransformer(11, **size, normalize_first=True), 3, scale=0.4)


def log_probabilities(model, sequences):
    """float64 `[B, T, V]`, by one pass over the whole target."""
    targets = np.concatenate([np.ones((len(sequences), 1), "int32"), sequences[:, :-1]], axis=1)
    # Padding of a finished target would be masked; what follows END is not compared.
    logits = to_numpy(model({"source_ids": SOURCES, "target_ids": np.where(targets == 0, 3, targets)}))
    logits = logits - logits.max(-1, keepdims=True)
    return logits - np.log(np.exp(logits).sum(-1, keepdims=True))


def test_greedy_takes_the_best_token_of_a_full_pass_at_every_step(model):
    sequences, scores, lengths = model.decode(SOURCES, max_length=7)
    full = log_probabilities(model, sequences)
    full[..., 0] = -np.inf  # padding is never generated
    for row, length in enumerate(lengths):
        np.testing.assert_array_equal(sequences[row, :length], full[row, :length].argmax(-1))
        assert np.all(sequences[row, length:] == 0)


@pytest.mark.parametrize("num_beams", [1, 4])
def test_scores_are_the_log_probabilities_of_a_full_pass(model, num_beams):
    sequences, scores, lengths = model.decode(SOURCES, max_length=7, num_beams=num_beams)
    raw = log_probabilities(model, sequences)
    # Without the padding's share, as decoding normalises it.
    full = raw - np.log1p(-np.exp(raw[..., :1]))
    for row, length in enumerate(lengths):
        expected = np.take_along_axis(full[row, :length], sequences[row, :length, None], -1).sum()
        assert abs(scores[row] - expected) < 1e-4


def test_a_sentence_is_translated_alike_in_a_batch_and_alone(model):
    together = model.decode(SOURCES, max_length=7, num_beams=2)
    for row, source in enumerate(SOURCES):
        alone = model.decode(source[source > 0][None], max_length=7, num_beams=2)
        np.testing.assert_array_equal(alone[0][0], together[0][row])
        np.testing.assert_allclose(alone[1][0], together[1][row], atol=1e-4)


def test_cross_attention_scores_are_distributions_over_the_real_source(model):
    scores = model.cross_attention_scores(SOURCES, np.array([[1, 4]] * 3))
    assert scores.shape == (2, 3, 2, 2, 5)
    np.testing.assert_allclose(scores.sum(-1), 1, atol=1e-5)
    assert np.all(scores[:, 1, ..., 3:] == 0)
