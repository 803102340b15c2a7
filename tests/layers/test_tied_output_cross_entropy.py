"""Training on features with the loss that projects them is training on logits: same losses, same weights."""

import keras
import numpy as np
import pytest
from keras import ops

from keras_tfm.layers.positional_embedding import PositionalEmbedding
from keras_tfm.layers.reversible_projection import ReversibleProjection
from keras_tfm.layers.tied_output_cross_entropy import TiedOutputCrossEntropy
from keras_tfm.training.losses import TokenCrossEntropy
from tests.numerics import assert_close, to_numpy, with_mask

B, T, D, V = 6, 5, 7, 13
RNG = np.random.default_rng(0)
IDS = RNG.integers(1, V, (B, T)).astype("int32")
IDS[0, 3:] = IDS[4, 1:] = 0
TARGETS = np.roll(IDS, -1, 1) * (IDS != 0)


def embedding(kind):
    if kind == "positional":
        return PositionalEmbedding(V, T, D, mask_zero=True)
    if kind == "factorized":
        return PositionalEmbedding(V, T, D, embedding_rank=3)
    if kind == "untied":
        return keras.layers.ReversibleEmbedding(V, D, tie_weights=False)
    return keras.layers.ReversibleEmbedding(V, D, mask_zero=True, logit_soft_cap=1.5)


def models(kind, policy=None):
    """A model that gives logits, the one of its features, and what projects them."""
    keras.utils.set_random_seed(0)
    keras.config.set_dtype_policy(policy or "float32")
    try:
        ids = keras.Input((T,), dtype="int32")
        first = embedding("positional") if kind == "dense" else embedding(kind)
        hidden = keras.layers.Dense(D, activation="tanh")(first(ids))
        if kind == "dense":
            last = keras.layers.Dense(V)
            return keras.Model(ids, last(hidden)), keras.Model(ids, hidden), last
        return keras.Model(ids, first(hidden, reverse=True)), keras.Model(ids, hidden), first
    finally:
        keras.config.set_dtype_policy("float32")


def trained(model, loss, weights, **options):
    """The losses of three epochs and the weights after them, from the weights given."""
    model.set_weights(weights)
    model.compile(keras.optimizers.SGD(0.3), loss, **options)
    order = np.linspace(0.5, 2, B * T).reshape(B, T).astype("float32")
    history = model.fit(IDS, TARGETS, sample_weight=order, batch_size=4, epochs=3, shuffle=False, verbose=0)
    return history.history["loss"], [to_numpy(weight) for weight in model.get_weights()]


def check_same_training(kind, policy=None, dtype="float32", **options):
    with_logits, with_features, projection = models(kind, policy)
    if kind == "dense":  # the model of features does not hold the projection by itself
        with_features = keras.Model(with_features.input, _Holder(projection)(with_features.output))
    start = with_logits.get_weights()
    assert len(start) == len(with_features.get_weights())
    dense = trained(with_logits, TokenCrossEntropy(0.1), start, **options)
    received = trained(with_features, TiedOutputCrossEntropy(projection, 0.1, chunk_size=8), start, **options)
    assert_close(received, dense, dtype)
    moved = [np.abs(after - before).max() for after, before in zip(received[1], start, strict=True)]
    assert min(moved) > 0


class _Holder(keras.layers.Layer):
    """Passes features on and holds the layer that the loss projects them by."""

    def __init__(self, held):
        super().__init__()
        self.supports_masking, self.held = True, held

    def call(self, inputs):
        return inputs


@pytest.mark.parametrize("kind", ["positional", "keras", "untied", "factorized", "dense"])
def test_it_trains_as_the_dense_loss_does(kind):
    check_same_training(kind)


@pytest.mark.skipif(keras.backend.backend() == "torch", reason="needs a C++ compiler on PyTorch")
@pytest.mark.parametrize("jit_compile", [True, False])
def test_it_trains_so_compiled_or_not(jit_compile):
    check_same_training("positional", jit_compile=jit_compile)


def test_it_trains_so_step_by_step_in_python():
    check_same_training("keras", run_eagerly=True)


@pytest.mark.parametrize("policy", ["mixed_bfloat16", "mixed_float16"])
def test_it_trains_so_in_mixed_precision(policy):
    check_same_training("positional", policy, policy.removeprefix("mixed_"))


@pytest.mark.parametrize("reduction", ["sum_over_batch_size", "mean", "mean_with_sample_weight", "sum"])
@pytest.mark.parametrize("weights_shape", [None, (B,), (B, 1), (B, T)])
@pytest.mark.parametrize("ignore_id", [0, None])
def test_reductions_weights_and_masks_are_those_of_the_dense_loss(reduction, weights_shape, ignore_id):
    kernel = keras.Variable(RNG.normal(size=(V, D)))
    x, mask = RNG.normal(size=(B, T, D)).astype("float32"), RNG.random((B, T)) < 0.7
    weights = None if weights_shape is None else RNG.uniform(0.1, 2, weights_shape)
    logits = with_mask(ops.matmul(x, ops.transpose(kernel)), mask)
    expected = TokenCrossEntropy(0.2, ignore_id, reduction=reduction)(TARGETS, logits, weights)
    loss = TiedOutputCrossEntropy(kernel, 0.2, ignore_id, reduction=reduction, chunk_size=4)
    assert_close(loss(TARGETS, with_mask(x, mask), weights), expected)


def test_nothing_to_count_gives_zero():
    loss = TiedOutputCrossEntropy(keras.Variable(np.ones((V, D))))
    assert to_numpy(loss(0 * TARGETS, np.ones((B, T, D), "float32"), np.ones((B, T)))) == 0


def test_evaluation_gives_the_loss_of_the_dense_model():
    with_logits, with_features, projection = models("positional")
    with_logits.compile(loss=TokenCrossEntropy())
    with_features.compile(loss=TiedOutputCrossEntropy(projection))
    assert_close(with_features.evaluate(IDS, TARGETS, verbose=0), with_logits.evaluate(IDS, TARGETS, verbose=0))


def test_a_saved_model_loads_and_predicts_and_trains_with_a_new_loss(tmp_path):
    _, model, projection = models("positional")
    model.compile(keras.optimizers.SGD(0.3), TiedOutputCrossEntropy(projection))
    model.fit(IDS, TARGETS, verbose=0)
    model.save(tmp_path / "model.keras")
    loaded = keras.models.load_model(tmp_path / "model.keras")
    assert_close(loaded.predict(IDS, verbose=0), model.predict(IDS, verbose=0))
    with pytest.raises(ValueError, match="has to be compiled with a new loss"):
        loaded.fit(IDS, TARGETS, verbose=0)
    loaded.compile(keras.optimizers.SGD(0.3), TiedOutputCrossEntropy(loaded.layers[1]))
    received = [each.fit(IDS, TARGETS, verbose=0, shuffle=False).history["loss"] for each in (loaded, model)]
    assert_close(received[0], received[1])


def test_a_loss_of_a_variable_loads_and_asks_for_a_new_one():
    loss = TiedOutputCrossEntropy(keras.Variable(np.ones((V, D))))
    loaded = TiedOutputCrossEntropy.from_config(loss.get_config())
    with pytest.raises(ValueError, match="has to be compiled with a new loss. Received: projection=None"):
        loaded(TARGETS, np.ones((B, T, D), "float32"))


@pytest.mark.parametrize(
    "make, message",
    [
        (lambda: TiedOutputCrossEntropy(keras.layers.Dense(V, "relu")), "must have no activation.*activation='relu'"),
        (lambda: TiedOutputCrossEntropy("embedding"), "`projection` must be an embedding.*projection='embedding'"),
        (lambda: TiedOutputCrossEntropy(embedding("keras"), 1.0), "`label_smoothing` must be.*label_smoothing=1.0"),
        (lambda: TiedOutputCrossEntropy(embedding("keras"), 0.0, 1.5), "`ignore_id` must be.*ignore_id=1.5"),
        (lambda: TiedOutputCrossEntropy(embedding("keras"), reduction="none"), "must give one.*reduction='none'"),
    ],
)
def test_what_cannot_be_is_refused(make, message):
    with pytest.raises(ValueError, match=message):
        make()


def test_layers_without_weights_and_targets_of_another_shape_are_refused():
    features = np.ones((B, T, D), "float32")
    with pytest.raises(ValueError, match="`projection` must be a layer of the model that is trained"):
        TiedOutputCrossEntropy(keras.layers.Dense(V))(TARGETS, features)
    layer = ReversibleProjection(D)
    layer.build((None, V))
    loss = TiedOutputCrossEntropy(layer)
    assert np.isfinite(to_numpy(loss(TARGETS, features)))
    with pytest.raises(ValueError, match=r"`sample_weight` must have one value.*sample_weight.shape=\(6, 5, 2\)"):
        loss(TARGETS, features, np.ones((B, T, 2)))
    with pytest.raises(ValueError, match=r"`targets` must be below V=13"):
        loss(TARGETS + V, features)
