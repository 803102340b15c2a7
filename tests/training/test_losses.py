"""The loss equals a float64 oracle: over the tokens that count, with any weights, mask, dtype and reduction."""

import keras
import numpy as np
import pytest
from keras import ops

from keras_tfm.training.losses import TokenCrossEntropy
from tests.training.gradients import gradient

B, T, V = 3, 5, 7


def example(seed=0, ignore_id=0):
    generator = np.random.default_rng(seed)
    logits = (3 * generator.normal(size=(B, T, V))).astype("float32")
    targets = generator.integers(1, V, size=(B, T)).astype("int32")
    if ignore_id is not None:
        targets[0, 3:] = targets[2, 1:] = ignore_id
    return targets, logits


def softmax(logits):
    exponentials = np.exp(logits - logits.max(-1, keepdims=True))
    return exponentials / exponentials.sum(-1, keepdims=True)


def token_oracle(targets, probabilities, smoothing):
    """The cross-entropy against the smoothed one-hot target, spelled out."""
    num_classes = probabilities.shape[-1]
    wanted = np.eye(num_classes)[targets] * (1 - smoothing) + smoothing / num_classes
    return -(wanted * np.log(probabilities)).sum(-1)


def oracle(targets, logits, smoothing=0.0, ignore_id=0, weights=None, reduction="mean", counts=None):
    counts = np.ones(targets.shape, bool) if counts is None else counts
    counts = counts & (targets != ignore_id) if ignore_id is not None else counts
    losses = token_oracle(np.where(counts, targets, 0), softmax(logits.astype("float64")), smoothing)
    weights = counts * (np.ones(targets.shape) if weights is None else np.broadcast_to(weights, targets.shape))
    losses = losses * weights
    if reduction == "none":
        return losses
    divisors = {"sum": 1, "mean": counts.sum(), "sum_over_batch_size": counts.sum()}
    return losses.sum() / divisors.get(reduction, weights.sum())


@pytest.mark.parametrize("smoothing", [0.0, 0.1, 0.6])
@pytest.mark.parametrize("ignore_id", [0, 3, -100, None])
def test_loss_is_the_cross_entropy_with_smoothed_targets(smoothing, ignore_id):
    targets, logits = example(ignore_id=ignore_id)
    loss = TokenCrossEntropy(smoothing, ignore_id)(targets, logits)
    np.testing.assert_allclose(float(loss), oracle(targets, logits, smoothing, ignore_id), rtol=2e-6)


@pytest.mark.parametrize("reduction", ["sum_over_batch_size", "mean", "mean_with_sample_weight", "sum", "none", None])
@pytest.mark.parametrize("weights_shape", [None, (B,), (B, 1), (B, T)])
def test_reductions_and_weights_are_over_the_tokens_that_count(reduction, weights_shape):
    targets, logits = example(1)
    weights = None if weights_shape is None else np.random.default_rng(2).uniform(0, 2, weights_shape)
    expected = oracle(
        targets, logits, 0.1, 0, weights[:, None] if weights_shape == (B,) else weights, reduction or "none"
    )
    loss = TokenCrossEntropy(0.1, reduction=reduction)(targets, logits, weights)
    np.testing.assert_allclose(ops.convert_to_numpy(loss), expected, rtol=3e-6, atol=1e-7)


@pytest.mark.parametrize("smoothing", [0.0, 0.1])
def test_loss_equals_keras_on_one_hot_targets(smoothing):
    targets, logits = example(3, ignore_id=None)
    peer = keras.losses.CategoricalCrossentropy(from_logits=True, label_smoothing=smoothing)
    expected = float(peer(np.eye(V, dtype="float32")[targets], logits))
    np.testing.assert_allclose(float(TokenCrossEntropy(smoothing, None)(targets, logits)), expected, rtol=2e-6)


@pytest.mark.parametrize("smoothing", [0.0, 0.1])
def test_probabilities_give_the_loss_of_their_logits(smoothing):
    targets, logits = example(4)
    loss = TokenCrossEntropy(smoothing, from_logits=False)(targets, softmax(logits))
    np.testing.assert_allclose(float(loss), oracle(targets, logits, smoothing), rtol=2e-6)


@pytest.mark.parametrize("smoothing", [0.0, 0.1])
@pytest.mark.parametrize("weighted", [False, True])
def test_gradient_is_that_of_the_equation(smoothing, weighted):
    targets, logits = example(5)
    weights = np.random.default_rng(6).uniform(0, 2, (B, T)) if weighted else np.ones((B, T))
    sample_weight = ops.convert_to_tensor(weights, "float32") if weighted else None
    ids = ops.convert_to_tensor(targets)
    value, slope = gradient(lambda x: TokenCrossEntropy(smoothing)(ids, x, sample_weight), logits)
    wanted = np.eye(V)[targets] * (1 - smoothing) + smoothing / V
    counts = targets != 0
    expected = (softmax(logits.astype("float64")) - wanted) * (weights * counts / counts.sum())[..., None]
    np.testing.assert_allclose(value, oracle(targets, logits, smoothing, weights=weights), rtol=3e-6)
    np.testing.assert_allclose(slope, expected, atol=2e-7)


@pytest.mark.parametrize("dtype", ["float16", "bfloat16"])
def test_half_precision_logits_are_computed_in_float32(dtype):
    targets, logits = example(7)
    rounded = ops.cast(logits, dtype)
    exact = ops.convert_to_numpy(ops.cast(rounded, "float32"))
    ids = ops.convert_to_tensor(targets)
    loss = TokenCrossEntropy(0.1)(ids, rounded)
    assert keras.backend.standardize_dtype(loss.dtype) == "float32"
    np.testing.assert_allclose(float(loss), oracle(targets, exact, 0.1), rtol=2e-6)


@pytest.mark.parametrize("reduction", ["mean", "mean_with_sample_weight", "sum"])
def test_nothing_to_count_gives_zero_and_no_gradient(reduction):
    _, logits = example(8)
    loss, padding = TokenCrossEntropy(0.1, reduction=reduction), ops.zeros((B, T), "int32")
    value, slope = gradient(lambda x: loss(padding, x), logits)
    assert value == 0
    assert np.all(slope == 0)


def test_large_logits_do_not_overflow():
    targets, logits = example(9)
    loss = float(TokenCrossEntropy(0.1)(targets, 1e4 * logits))
    expected = token_mean_of_large(targets, 1e4 * logits.astype("float64"))
    np.testing.assert_allclose(loss, expected, rtol=1e-5)


def token_mean_of_large(targets, logits):
    largest = logits.max(-1)
    normaliser = np.log(np.exp(logits - largest[..., None]).sum(-1)) + largest
    picked = np.take_along_axis(logits, targets[..., None], -1)[..., 0]
    return (normaliser - 0.9 * picked - 0.1 * logits.mean(-1))[targets != 0].mean()


def masked_model(policy=None):
    ids = keras.Input((None,), dtype="int32")
    x = keras.layers.Embedding(11, 4, mask_zero=True, dtype=policy)(ids)
    return keras.Model(ids, keras.layers.Dense(V, dtype=policy)(x))


def test_mask_of_the_predictions_leaves_its_tokens_out():
    ids = np.array([[4, 8, 1, 0, 0], [2, 0, 0, 0, 0], [3, 9, 5, 2, 7]])
    targets, _ = example(10)
    model = masked_model()
    predictions = model(ids)
    logits = ops.convert_to_numpy(predictions)
    for ignore_id in (None, 0, 5):
        for weights in (None, np.array([[0.5], [2.0], [0.0]])):
            loss = TokenCrossEntropy(0.1, ignore_id)(ops.convert_to_tensor(targets), predictions, weights)
            expected = oracle(targets, logits, 0.1, ignore_id, weights, counts=ids != 0)
            np.testing.assert_allclose(ops.convert_to_numpy(loss), expected, rtol=3e-6)


def test_targets_under_the_mask_do_not_matter():
    ids = np.array([[4, 8, 1, 0, 0]])
    predictions = masked_model()(ids)
    loss = TokenCrossEntropy(0.1, ignore_id=None)
    targets = [ops.convert_to_tensor([[1, 2, 3, pad, pad]]) for pad in (0, 6, -1, V)]
    values = [float(ops.convert_to_numpy(loss(ids, predictions))) for ids in targets]
    assert len(set(values)) == 1 and np.isfinite(values[0])


@pytest.mark.parametrize("policy", ["float32", "mixed_float16", "mixed_bfloat16"])
def test_compiled_training_reports_the_loss_of_the_tokens_that_count(policy):
    ids = np.array([[4, 8, 1, 0, 0], [2, 0, 0, 0, 0], [3, 9, 5, 2, 7]])
    targets, _ = example(11)
    weights = np.array([1.0, 0.25, 2.0])
    model = masked_model(policy)
    model.compile(keras.optimizers.SGD(0.0), TokenCrossEntropy(0.1))
    logits = ops.convert_to_numpy(ops.cast(model(ids), "float32"))
    expected = oracle(targets, logits, 0.1, 0, weights[:, None], counts=ids != 0)
    history = model.fit(ids, targets, sample_weight=weights, batch_size=B, verbose=0).history
    tolerance = {"float32": 1e-5, "mixed_float16": 1e-3, "mixed_bfloat16": 1e-2}[policy]
    np.testing.assert_allclose(history["loss"][0], expected, rtol=tolerance)


def test_training_lowers_the_loss():
    ids = np.array([[4, 8, 1, 0, 0], [2, 0, 0, 0, 0], [3, 9, 5, 2, 7]])
    model = masked_model()
    model.compile(keras.optimizers.Adam(0.1), TokenCrossEntropy(0.1))
    losses = model.fit(ids, ids % V, epochs=15, verbose=0).history["loss"]
    assert losses[-1] < losses[0] / 2


def test_one_label_for_each_sequence_works():
    logits = np.random.default_rng(12).normal(size=(B, V)).astype("float32")
    for targets in (np.array([2, 5, 0]), np.array([[2], [5], [0]])):
        loss = TokenCrossEntropy(0.1, ignore_id=None)(targets, logits)
        np.testing.assert_allclose(float(loss), oracle(targets.reshape(B), logits, 0.1, None), rtol=2e-6)


def test_ids_outside_the_classes_are_refused_or_give_nan():
    targets, logits = example(13)
    targets[1, 2] = V
    with pytest.raises(ValueError, match=r"`y_true` must be in \[0, 7\).* Received: y_true=7 at \(1, 2\)"):
        TokenCrossEntropy()(targets, logits)
    assert np.isnan(float(TokenCrossEntropy()(ops.convert_to_tensor(targets), logits)))
    targets[1, 2] = -1
    with pytest.raises(ValueError, match=r"Received: y_true=-1 at \(1, 2\)"):
        TokenCrossEntropy(ignore_id=-100)(targets, logits)
    assert np.isnan(float(TokenCrossEntropy(ignore_id=-100)(ops.convert_to_tensor(targets), logits)))


@pytest.mark.parametrize(
    "arguments, message",
    [
        ({"label_smoothing": 1.0}, r"`label_smoothing` must be in \[0, 1\). Received: label_smoothing=1.0"),
        ({"label_smoothing": -0.1}, r"`label_smoothing` must be in \[0, 1\)"),
        ({"ignore_id": 0.5}, "`ignore_id` must be an integer or None. Received: ignore_id=0.5"),
        ({"reduction": "median"}, "reduction=median"),
    ],
)
def test_wrong_arguments_are_named(arguments, message):
    with pytest.raises(ValueError, match=message):
        TokenCrossEntropy(**arguments)


def test_wrong_shapes_are_named():
    targets, logits = example(14)
    with pytest.raises(ValueError, match=r"Received: y_true.shape=\(3,\), y_pred.shape=\(3, 5, 7\)"):
        TokenCrossEntropy()(targets[:, 0], logits)
    with pytest.raises(ValueError, match=r"`sample_weight` .* Received: sample_weight.shape=\(3, 5, 7\)"):
        TokenCrossEntropy()(targets, logits, logits)


def test_configuration_makes_the_same_loss(tmp_path):
    loss = TokenCrossEntropy(0.2, -100, False, reduction="sum", name="words")
    again = keras.saving.deserialize_keras_object(keras.saving.serialize_keras_object(loss), safe_mode=True)
    assert type(again) is TokenCrossEntropy
    assert again.get_config() == loss.get_config()
    model = masked_model()
    model.compile("sgd", loss)
    model.save(tmp_path / "model.keras")
    assert keras.saving.load_model(tmp_path / "model.keras").loss.get_config() == loss.get_config()
