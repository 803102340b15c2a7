"""Saliency is what gradients by other means give, padding has none, and integrated gradients add up."""

import keras
import numpy as np
import pytest
from keras import ops

from keras_tfm import layers, models
from keras_tfm.visualization import (
    EmbeddedModel,
    gradient_saliency,
    gradient_times_input,
    integrated_gradients,
    smooth_grad,
)

IDS = np.array([[4, 5, 6, 7, 0], [8, 9, 0, 0, 0]])
ROWS = 4
SIZES = dict(num_layers=1, hidden_dim=6, intermediate_dim=7, num_heads=2, dropout=0.3)


@pytest.fixture(scope="module")
def classifier():
    keras.utils.set_random_seed(1)
    model = models.SequenceClassifier(3, **SIZES, vocabulary_size=11, activation="gelu", token_dropout=0.2)
    return spread(model)


@pytest.fixture(scope="module")
def parts(classifier):
    return EmbeddedModel(classifier)


def spread(model):
    """Weights that are far from zero, so that the model is not nearly linear."""
    rng = np.random.default_rng(0)
    model.set_weights([rng.normal(size=w.shape) * 0.7 for w in model.get_weights()])
    return model


def numeric(x):
    return np.float64(ops.convert_to_numpy(x))


def test_the_parts_together_are_the_model(classifier, parts):
    np.testing.assert_allclose(
        numeric(parts.call_rest(parts.embed(IDS), IDS)), numeric(classifier(IDS, training=False)), atol=1e-5
    )


def test_the_gradient_is_the_slope_and_padding_has_none(parts):
    saliency = gradient_saliency(parts, IDS, target=[2, 0])
    embeddings, step = parts.embed(IDS), 1e-2
    for row, token, unit in ((0, 0, 1), (0, 3, 5), (1, 1, 2)):
        change = np.zeros_like(embeddings)
        change[row, token, unit] = step
        up, down = (numeric(parts.call_rest(embeddings + sign * change, IDS)) for sign in (1, -1))
        label = [2, 0][row]
        slope = (up - down)[row, label] / (2 * step)
        np.testing.assert_allclose(saliency.vectors[row, token, unit], slope, rtol=5e-3, atol=2e-4)
    np.testing.assert_allclose(saliency.scores, np.linalg.norm(saliency.vectors, axis=-1), rtol=1e-5)
    np.testing.assert_array_equal(saliency.scores > 0, IDS != 0)
    assert not saliency.vectors[IDS == 0].any()


def test_gradient_times_input_takes_the_largest_class_where_none_is_named(parts, classifier):
    logits = numeric(classifier(IDS, training=False))
    saliency = gradient_times_input(parts, IDS)
    np.testing.assert_allclose(saliency.outputs, logits.max(-1), atol=1e-5)
    gradients = gradient_saliency(parts, IDS, target=lambda outputs: ops.max(outputs, axis=-1)).vectors
    np.testing.assert_allclose(saliency.scores, (gradients * parts.embed(IDS)).sum(-1), rtol=1e-4, atol=1e-6)


@pytest.mark.parametrize("baseline", [None, 3])
def test_integrated_gradients_sum_to_the_change_of_the_output(parts, classifier, baseline):
    saliency = integrated_gradients(parts, IDS, target=1, baseline=baseline, num_steps=48, batch_size=ROWS)
    start = np.zeros((2, 5, 6)) if baseline is None else parts.embed(np.where(IDS, baseline, 0))
    change = numeric(classifier(IDS, training=False))[:, 1] - numeric(parts.call_rest(np.float32(start), IDS))[:, 1]
    assert np.abs(change).max() > 0.1
    np.testing.assert_allclose(saliency.scores.sum(-1), change, atol=3e-3)
    np.testing.assert_allclose(saliency.residuals, saliency.scores.sum(-1) - change, atol=1e-5)
    assert not saliency.scores[IDS == 0].any()


def test_on_a_linear_model_all_methods_agree_with_its_weights():
    ids = keras.Input((4,), dtype="int32")
    x = keras.layers.Embedding(9, 3, name="table")(ids)
    model = keras.Model(ids, keras.layers.Dense(2, name="classes")(keras.layers.Flatten()(x)))
    kernel = numeric(model.get_layer("classes").kernel).reshape(4, 3, 2)
    table = numeric(model.get_layer("table").embeddings)
    tokens, parts = np.array([[1, 5, 8, 2]]), EmbeddedModel(model)
    expected = (table[tokens[0]] * kernel[..., 1]).sum(-1)
    for method in (gradient_times_input, integrated_gradients):
        np.testing.assert_allclose(method(parts, tokens, 1).scores[0], expected, rtol=1e-4, atol=1e-6)
    for method in (gradient_saliency, smooth_grad):
        norms = np.linalg.norm(kernel[..., 1], axis=-1)
        np.testing.assert_allclose(method(parts, tokens, 1).scores[0], norms, rtol=1e-4)


def test_smooth_grad_is_seeded_and_without_noise_the_gradient(parts):
    first, again = (smooth_grad(parts, IDS, 0, num_samples=2, batch_size=ROWS, seed=5) for _ in range(2))
    np.testing.assert_array_equal(first.scores, again.scores)
    assert np.abs(first.scores - smooth_grad(parts, IDS, 0, num_samples=2, batch_size=ROWS).scores).max() > 1e-4
    quiet = smooth_grad(parts, IDS, 0, num_samples=2, noise=0.0, batch_size=ROWS)
    np.testing.assert_allclose(quiet.vectors, gradient_saliency(parts, IDS, 0).vectors, rtol=1e-4, atol=1e-6)


def test_a_language_models_saliency_is_of_the_past_alone():
    model = spread(models.CausalLM(11, **SIZES, sequence_length=16))
    saliency = gradient_saliency(model, np.array([[4, 5, 6, 7, 8]]), target=(2, 10))
    np.testing.assert_array_equal(saliency.scores[0] > 0, [True, True, True, False, False])
    np.testing.assert_allclose(saliency.outputs, numeric(model(np.array([[4, 5, 6]])))[0, 2, 10], rtol=1e-4)


def test_either_side_of_a_translation_model_is_looked_at():
    model = models.Seq2SeqTransformer(11, **SIZES)
    inputs = {"source_ids": IDS[:1], "target_ids": np.array([[2, 4, 5]])}
    source = gradient_saliency(model, inputs, (1, None))
    target = gradient_saliency(EmbeddedModel(model, "target_ids"), inputs, (1, None))
    np.testing.assert_array_equal(source.scores[0] > 0, IDS[0] != 0)
    np.testing.assert_array_equal(target.scores[0] > 0, [True, True, False])


@pytest.mark.parametrize(
    "target, message",
    [((1, 2), "must be a class for logits"), (3, r"The class of `target` must be in \[0, 3\). Received: 3")],
)
def test_a_target_that_does_not_fit_is_refused(parts, target, message):
    with pytest.raises(ValueError, match=message):
        gradient_saliency(parts, IDS, target)


def test_numbers_that_make_no_sense_are_refused(parts):
    for call in (
        lambda: integrated_gradients(parts, IDS, num_steps=0),
        lambda: smooth_grad(parts, IDS, num_samples=1.5),
    ):
        with pytest.raises(ValueError, match="must be a positive integer. Received: num_s"):
            call()
    with pytest.raises(ValueError, match="`noise` must not be negative"):
        smooth_grad(parts, IDS, noise=-1.0)


def test_a_model_that_embeds_no_ids_is_refused():
    features = keras.Input((5, 6))
    with pytest.raises(ValueError, match="must embed its token ids"):
        EmbeddedModel(keras.Model(features, layers.TransformerEncoder(7, 2)(features)))
    with pytest.raises(ValueError, match="`input_name` must be one of"):
        EmbeddedModel(models.SequenceTagger(3, **SIZES, vocabulary_size=11), "words")
