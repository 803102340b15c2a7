"""One Functional model, written once: with the originals' classes and with ours, which is the one import to change."""

import types

import keras
import numpy as np
import pytest

from keras_tfm import layers
from tests.compat.pairs import assert_same, quick_collection, shapes

hub = pytest.importorskip("keras_hub").layers

# `keras_hub`'s own layers get warned of the masks that they lose.
pytestmark = pytest.mark.filterwarnings(
    "ignore:Layer '(position_embedding|query|key|value)' .* was passed an input with a mask:UserWarning"
)

B, T, S, V, D, N, F = 2, 5, 7, 23, 12, 3, 17

NAMES = ("TransformerEncoder", "TransformerDecoder", "TokenAndPositionEmbedding")
ORIGINALS = types.SimpleNamespace(
    MultiHeadAttention=keras.layers.MultiHeadAttention, **{name: getattr(hub, name) for name in NAMES}
)
OURS = types.SimpleNamespace(
    MultiHeadAttention=layers.MultiHeadAttention, **{name: getattr(layers, name) for name in NAMES}
)
BOTH_WAYS = pytest.mark.parametrize(
    ("saver", "loader"), [(ORIGINALS, OURS), (OURS, ORIGINALS)], ids=["ours loads", "ours saves"]
)


def translator(classes, dropout=0.0, mask_zero=True, num_layers=2):
    """A translation model as users write it, out of `classes`."""
    source, target = keras.Input((None,), dtype="int32"), keras.Input((None,), dtype="int32")
    memory = classes.TokenAndPositionEmbedding(V, 16, D, mask_zero=mask_zero)(source)
    for _ in range(num_layers):
        memory = classes.TransformerEncoder(F, N, dropout=dropout)(memory)
    x = classes.TokenAndPositionEmbedding(V, 16, D, mask_zero=mask_zero)(target)
    for _ in range(num_layers):
        x = classes.TransformerDecoder(F, N, dropout=dropout, normalize_first=True)(x, memory)
    attended = classes.MultiHeadAttention(2, 5, value_dim=5, dropout=dropout)(x, memory)
    x = keras.layers.LayerNormalization()(keras.layers.Add()([x, attended]))
    return keras.Model([source, target], keras.layers.Dense(V)(x))


def token_ids():
    random = np.random.default_rng(0)
    return [random.integers(1, V, (B, S)).astype("int32"), random.integers(1, V, (B, T)).astype("int32")]


def test_it_has_the_same_layers_shapes_and_weights():
    original, ours = translator(ORIGINALS, dropout=0.2), translator(OURS, dropout=0.2)
    assert ours.output.shape == original.output.shape == (None, None, V)
    assert [type(layer).__name__ for layer in ours.layers if layer.weights] == [
        type(layer).__name__ for layer in original.layers if layer.weights
    ]
    assert shapes(ours.trainable_weights) == shapes(original.trainable_weights)
    assert len(ours.variables) == len(original.variables)


@pytest.mark.parametrize("mask_zero", [False, True], ids=["no masks", "masks"])
def test_it_gives_the_same_outputs(mask_zero):
    original, ours = translator(ORIGINALS, mask_zero=mask_zero), translator(OURS, mask_zero=mask_zero)
    ours.set_weights(original.get_weights())
    assert_same(original(token_ids()), ours(token_ids()))


def test_padding_gives_the_same_outputs_where_the_originals_keep_their_masks():
    original, ours = translator(ORIGINALS, num_layers=0), translator(OURS, num_layers=0)
    ours.set_weights(original.get_weights())
    source, target = token_ids()
    source[0, 4:] = 0
    target[1, 3:] = 0
    assert_same(original([source, target]), ours([source, target]), rows=target > 0)


def test_it_trains_alike():
    models = translator(ORIGINALS), translator(OURS)
    models[1].set_weights(models[0].get_weights())
    before = models[0].get_weights()
    losses = []
    for model in models:
        model.compile(keras.optimizers.SGD(0.1), keras.losses.SparseCategoricalCrossentropy(from_logits=True))
        losses.append(model.fit(token_ids(), token_ids()[1], epochs=2, verbose=0).history["loss"])
    np.testing.assert_allclose(losses[0], losses[1], rtol=1e-4)
    assert_same(models[0].get_weights(), models[1].get_weights(), tolerance=1e-4)
    assert any(np.abs(x - y).max() > 1e-3 for x, y in zip(before, models[1].get_weights(), strict=True))


@pytest.mark.filterwarnings("ignore:Layer .* does not have a `quantize` method:UserWarning")
def test_int8_gives_the_same_outputs():
    models = translator(ORIGINALS, num_layers=1), translator(OURS, num_layers=1)
    models[1].set_weights(models[0].get_weights())
    exact = models[0](token_ids())
    with quick_collection():
        for model in models:
            model.quantize("int8")
    assert_same(models[0](token_ids()), models[1](token_ids()), tolerance=1e-4)
    assert_same(exact, models[1](token_ids()), tolerance=0.3)


@BOTH_WAYS
@pytest.mark.parametrize("dropout", [0.0, 0.3])
@pytest.mark.parametrize("suffix", [".weights.h5", ".keras"])
def test_weight_files_load_both_ways(tmp_path, saver, loader, dropout, suffix):
    saved, loaded = translator(saver, dropout), translator(loader, dropout)
    path = str(tmp_path / f"model{suffix}")
    if suffix == ".keras":
        saved.save(path)
    else:
        saved.save_weights(path)
    loaded.load_weights(path)
    assert_same(saved(token_ids()), loaded(token_ids()))


def test_model_files_of_the_original_become_models_of_ours(tmp_path, monkeypatch):
    """Keras looks up registered classes, as `keras_hub`'s are, among its custom objects, but not its own."""
    ids = keras.Input((None,), dtype="int32")
    x = hub.TokenAndPositionEmbedding(V, 16, D, mask_zero=True)(ids)
    original = keras.Model(ids, hub.TransformerDecoder(F, N)(hub.TransformerEncoder(F, N, dropout=0.3)(x)))
    original.save(tmp_path / "model.keras")
    swapped = {f"keras_hub>{name}": getattr(OURS, name) for name in NAMES}
    for name, ours in swapped.items():
        monkeypatch.setitem(keras.saving.get_custom_objects(), name, ours)
    ours = keras.saving.load_model(tmp_path / "model.keras")
    assert {type(layer) for layer in ours.layers} >= set(swapped.values())
    assert_same(original(token_ids()[0]), ours(token_ids()[0]))


def test_a_saved_model_of_ours_is_itself_again(tmp_path):
    model = translator(OURS, dropout=0.3)
    model.save(tmp_path / "model.keras")
    loaded = keras.saving.load_model(tmp_path / "model.keras")
    assert_same(model(token_ids()), loaded(token_ids()))


@pytest.mark.parametrize("name", ["CachedMultiHeadAttention", "GroupedQueryAttention"])
def test_a_class_of_the_same_name_loads_weight_files_of_single_layers(tmp_path, name):
    """Files name the layers of a Functional model after their classes, as `snake_case`."""

    def model(layer):
        x = keras.Input((T, D))
        return keras.Model(x, layer(x, x))

    if name == "CachedMultiHeadAttention":
        original, arguments = hub.CachedMultiHeadAttention(N, 4), {"num_heads": N, "key_dim": 4}
    else:
        original = keras.layers.GroupQueryAttention(4, 2 * N, N)
        arguments = {"num_heads": 2 * N, "key_dim": 4, "num_key_value_heads": N}
    saved, loaded = model(original), model(type(name, (layers.MultiHeadAttention,), {})(**arguments))
    saved.save_weights(tmp_path / "model.weights.h5")
    loaded.load_weights(tmp_path / "model.weights.h5")
    x = np.random.default_rng(0).normal(size=(B, T, D)).astype("float32")
    assert_same(saved(x), loaded(x))


@pytest.mark.parametrize(
    "arguments",
    [{"activation_dropout": 0.2}, {"feed_forward": layers.FeedForward(F, output_dim=D)}],
    ids=["dropout", "own network"],
)
def test_what_only_ours_have_is_in_the_file_too(tmp_path, arguments):
    def model():
        x = keras.Input((T, D))
        return keras.Model(x, layers.TransformerEncoder(F, N, **arguments)(x))

    saved, loaded = model(), model()
    saved.save_weights(tmp_path / "model.weights.h5")
    loaded.load_weights(tmp_path / "model.weights.h5")
    assert_same(saved.get_weights(), loaded.get_weights())
