"""The metrics equal a float64 oracle over all tokens of several unequal batches."""

import keras
import numpy as np
import pytest
from keras import ops

from keras_tfm.training.losses import TokenCrossEntropy
from keras_tfm.training.metrics import Perplexity, TokenAccuracy
from tests.training.test_losses import masked_model, softmax

V = 7
SHAPES = [(3, 5), (2, 11), (5, 1)]


def batches(seed=0, ignore_id=0):
    generator = np.random.default_rng(seed)
    for index, shape in enumerate(SHAPES):
        targets = generator.integers(1, V, size=shape).astype("int32")
        if ignore_id is not None:
            targets[0, index:] = ignore_id
        logits = 2 * generator.normal(size=(*shape, V)) + 3 * np.eye(V)[np.maximum(targets, 0)]
        yield targets, logits.astype("float32"), generator.uniform(0, 2, shape)


def oracle(data, ignore_id):
    """Returns accuracy and perplexity of (targets, logits, weights) batches."""
    right, losses, weights = [], [], []
    for targets, logits, batch_weights in data:
        counts = np.ones(targets.shape, bool) if ignore_id is None else targets != ignore_id
        weights.append((np.broadcast_to(batch_weights, targets.shape) * counts).ravel())
        right.append((logits.argmax(-1) == targets).ravel())
        safe = np.where(counts, targets, 0)
        picked = np.take_along_axis(softmax(logits.astype("float64")), safe[..., None], -1)
        losses.append(-np.log(picked).ravel())
    right, losses, weights = (np.concatenate(values) for values in (right, losses, weights))
    return (right * weights).sum() / weights.sum(), np.exp((losses * weights).sum() / weights.sum())


@pytest.mark.parametrize("ignore_id", [0, -100, None])
@pytest.mark.parametrize("weighted", ["no", "sequences", "tokens"])
def test_metrics_are_exact_over_unequal_batches(ignore_id, weighted):
    data = [
        (targets, logits, {"no": 1.0, "sequences": weights[:, :1], "tokens": weights}[weighted])
        for targets, logits, weights in batches(ignore_id=ignore_id)
    ]
    accuracy, perplexity = TokenAccuracy(ignore_id), Perplexity(ignore_id)
    for targets, logits, weights in data:
        sample_weight = {"no": None, "sequences": np.ravel(weights), "tokens": weights}[weighted]
        accuracy.update_state(targets, logits, sample_weight)
        perplexity.update_state(targets, logits, sample_weight)
    expected_accuracy, expected_perplexity = oracle(data, ignore_id)
    np.testing.assert_allclose(float(accuracy.result()), expected_accuracy, rtol=1e-6)
    np.testing.assert_allclose(float(perplexity.result()), expected_perplexity, rtol=3e-6)


def test_perplexity_of_probabilities_is_that_of_their_logits():
    data = [(targets, logits, 1.0) for targets, logits, _ in batches(1)]
    perplexity = Perplexity(from_logits=False)
    for targets, logits, _ in data:
        perplexity.update_state(targets, softmax(logits))
    np.testing.assert_allclose(float(perplexity.result()), oracle(data, 0)[1], rtol=3e-6)


@pytest.mark.parametrize("metric", [TokenAccuracy, Perplexity])
def test_no_token_gives_zero_and_reset_forgets(metric):
    metric = metric()
    assert float(metric.result()) == 0
    targets, logits, _ = next(batches())
    metric.update_state(targets, logits)
    assert float(metric.result()) > 0
    metric.reset_state()
    metric.update_state(np.zeros((2, 3), "int32"), np.zeros((2, 3, V), "float32"))
    assert float(metric.result()) == 0


@pytest.mark.parametrize("dtype", ["float16", "bfloat16"])
def test_half_precision_counts_every_token(dtype):
    accuracy, perplexity = TokenAccuracy(dtype=dtype), Perplexity(dtype=dtype)
    ids = ops.ones((1, 4999), "int32")
    for metric in (accuracy, perplexity):
        metric.update_state(ids, ops.zeros((1, 4999, 2), dtype))
        metric.update_state(ids[:, :1], ops.cast([[[0.0, 1.0]]], dtype))
    np.testing.assert_allclose(float(accuracy.result()), 1 / 5000, rtol=1e-6)
    expected = np.exp((4999 * np.log(2) + np.log1p(np.exp(-1))) / 5000)
    np.testing.assert_allclose(float(perplexity.result()), expected, rtol=1e-5)


def test_mask_of_the_predictions_leaves_its_tokens_out():
    ids = np.array([[4, 8, 1, 0, 0], [2, 0, 0, 0, 0], [3, 9, 5, 2, 7]])
    targets = ops.convert_to_tensor(np.where(ids, ids % V, 6))
    predictions = masked_model()(ids)
    logits = ops.convert_to_numpy(predictions)
    expected = oracle([(np.where(ids, ids % V, 0), logits, 1.0)], 0)
    accuracy, perplexity = TokenAccuracy(ignore_id=0), Perplexity(ignore_id=0)
    for metric, value in zip((accuracy, perplexity), expected, strict=True):
        metric.update_state(targets, predictions)
        np.testing.assert_allclose(ops.convert_to_numpy(metric.result()), value, rtol=3e-6)


def test_compiled_metrics_are_those_of_all_tokens_of_the_epoch():
    ids = np.array([[4, 8, 1, 0, 0], [2, 0, 0, 0, 0], [3, 9, 5, 2, 6], [1, 6, 0, 0, 0], [5, 5, 5, 0, 0]])
    targets = np.where(ids, ids % 6 + 1, 0)
    weights = np.array([1.0, 0.25, 2.0, 1.0, 0.5])
    model = masked_model()
    model.compile(
        keras.optimizers.SGD(0.0),
        TokenCrossEntropy(),
        metrics=[TokenAccuracy(), Perplexity()],
        weighted_metrics=[TokenAccuracy(name="weighted_accuracy"), Perplexity(name="weighted_perplexity")],
    )
    logits = ops.convert_to_numpy(model(ids))
    plain = oracle([(targets, logits, 1.0)], 0)
    weighted = oracle([(targets, logits, weights[:, None])], 0)
    fitted = model.fit(ids, targets, sample_weight=weights, batch_size=2, verbose=0).history
    evaluated = model.evaluate(ids, targets, sample_weight=weights, batch_size=2, verbose=0, return_dict=True)
    names = ["token_accuracy", "perplexity", "weighted_accuracy", "weighted_perplexity"]
    for name, expected in zip(names, plain + weighted, strict=True):
        np.testing.assert_allclose(fitted[name][0], expected, rtol=1e-5)
        np.testing.assert_allclose(evaluated[name], expected, rtol=1e-5)


@pytest.mark.parametrize("metric", [TokenAccuracy(-100, name="words"), Perplexity(None, False, name="letters")])
def test_configuration_makes_the_same_metric(metric):
    again = keras.saving.deserialize_keras_object(keras.saving.serialize_keras_object(metric), safe_mode=True)
    assert type(again) is type(metric)
    assert again.get_config() == metric.get_config()


def test_metrics_survive_a_keras_file(tmp_path):
    model = masked_model()
    loss = keras.losses.SparseCategoricalCrossentropy(from_logits=True)
    model.compile("sgd", loss, metrics=[TokenAccuracy(), Perplexity(-1)])
    ids = np.array([[4, 2, 0]])
    before = model.evaluate(ids, ids, verbose=0, return_dict=True)
    model.save(tmp_path / "model.keras")
    after = keras.saving.load_model(tmp_path / "model.keras").evaluate(ids, ids, verbose=0, return_dict=True)
    assert after == pytest.approx(before)


def test_wrong_arguments_are_named():
    with pytest.raises(ValueError, match="`ignore_id` must be an integer or None. Received: ignore_id='pad'"):
        TokenAccuracy("pad")
    with pytest.raises(ValueError, match=r"`y_true` must have the shape of `y_pred` without its last axis"):
        Perplexity().update_state(np.zeros((2, 3, 4), "int32"), np.zeros((2, 3, 4), "float32"))
    with pytest.raises(ValueError, match=r"`y_true` must be in \[0, 4\)"):
        TokenAccuracy().update_state(np.full((2, 3), 9), np.zeros((2, 3, 4), "float32"))
