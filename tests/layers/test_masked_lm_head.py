"""MaskedLMHead against `keras_hub`'s, its files, ties and masks."""

import keras
import numpy as np
import pytest
from keras import ops

from keras_tfm.layers.masked_lm_head import MaskedLMHead
from keras_tfm.layers.positional_embedding import PositionalEmbedding
from tests import oracles
from tests.layers.check_layer import check_layer
from tests.numerics import assert_close, mask_of, randomize, to_numpy, with_mask

B, T, P, D, V = 2, 7, 3, 5, 11
RNG = np.random.default_rng(0)
X = RNG.normal(size=(B, T, D)).astype("float32")
POSITIONS = np.array([[1, 3, 0], [6, 2, 2]], "int32")
IDS = RNG.integers(1, V, (B, T)).astype("int32")


def picked(x, positions):
    return np.stack([row[places] for row, places in zip(x, positions, strict=True)])


def oracle(layer, x, matrix):
    x = np.maximum(x @ to_numpy(layer.intermediate_dense.kernel) + to_numpy(layer.intermediate_dense.bias), 0)
    norm = layer.intermediate_layer_norm
    x = oracles.layer_norm(x, to_numpy(norm.gamma), to_numpy(norm.beta), layer.layer_norm_epsilon)
    return x @ matrix + to_numpy(layer.output_bias)


def built(**options):
    layer = MaskedLMHead(V, **options)
    layer(X, POSITIONS)
    return randomize(layer)


def test_it_predicts_what_is_at_the_positions():
    layer = built()
    expected = oracle(layer, np.float64(X), to_numpy(layer.output_kernel))
    assert_close(layer(X, POSITIONS), picked(expected, POSITIONS))
    assert_close(layer(X), expected)


def test_softmax_is_a_softmax():
    layer = built(activation="softmax")
    logits = oracle(layer, np.float64(X), to_numpy(layer.output_kernel))
    exponentials = np.exp(logits)
    assert_close(layer(X), exponentials / exponentials.sum(-1, keepdims=True))


@pytest.mark.parametrize("kind", ["reversible", "positional"])
def test_the_embeddings_own_matrix_projects(kind):
    if kind == "reversible":
        embedding = keras.layers.ReversibleEmbedding(V, D)
        embedding.build((B, T))
        matrix = embedding.embeddings
    else:
        embedding = PositionalEmbedding(V, T, D)
        embedding.build((B, T))
        matrix = embedding.token_embedding.embeddings
    layer = MaskedLMHead(token_embedding=embedding)
    layer(X, POSITIONS)
    randomize(layer)
    assert not hasattr(layer.output_kernel, "shape")
    assert_close(layer(X), oracle(layer, np.float64(X), to_numpy(matrix).T), factor=2)


def tied_model(head, embedding):
    ids, positions = keras.Input((T,), dtype="int32"), keras.Input((None,), dtype="int32")
    embedding = embedding(V, D, name="embedding")
    return keras.Model([ids, positions], head(token_embedding=embedding, name="head")(embedding(ids), positions))


def test_a_tie_survives_a_file(tmp_path):
    model = randomize(tied_model(MaskedLMHead, keras.layers.ReversibleEmbedding))
    model.save(tmp_path / "model.keras")
    loaded = keras.models.load_model(tmp_path / "model.keras")
    assert_close(loaded([IDS, POSITIONS]), model([IDS, POSITIONS]))
    assert loaded.get_layer("head").token_embedding is loaded.get_layer("embedding")


@pytest.mark.parametrize("is_tied", [False, True])
@pytest.mark.parametrize("suffix", [".weights.h5", ".keras"])
@pytest.mark.parametrize("ours_saves", [False, True])
def test_files_of_keras_hub_load_and_ours_load_there(tmp_path, is_tied, suffix, ours_saves):
    hub = pytest.importorskip("keras_hub").layers
    if is_tied:
        models = [tied_model(head, hub.ReversibleEmbedding) for head in (hub.MaskedLMHead, MaskedLMHead)]
        arrays = [IDS, POSITIONS]
    else:
        inputs = [keras.Input((T, D)), keras.Input((None,), dtype="int32")]
        models = [keras.Model(inputs, head(V, name="head")(*inputs)) for head in (hub.MaskedLMHead, MaskedLMHead)]
        arrays = [X, POSITIONS]
    saved, loaded = reversed(models) if ours_saves else models
    randomize(saved)
    path = tmp_path / f"model{suffix}"
    saved.save(path) if suffix == ".keras" else saved.save_weights(path)
    loaded.load_weights(path)
    assert_close(loaded(arrays), saved(arrays))


def test_arguments_and_config_are_keras_hubs():
    import inspect

    hub = pytest.importorskip("keras_hub").layers
    theirs, ours = hub.MaskedLMHead(V, name="head"), MaskedLMHead(V, name="head")
    assert list(inspect.signature(hub.MaskedLMHead).parameters) == list(inspect.signature(MaskedLMHead).parameters)
    assert ours.get_config() == theirs.get_config()
    assert MaskedLMHead.from_config(theirs.get_config()).get_config() == theirs.get_config()


def test_the_output_carries_the_mask_of_what_was_picked():
    layer = built()
    mask = np.array([[True, True, True, False, False, False, False], [True] * T])
    output = layer(with_mask(X, mask), POSITIONS)
    np.testing.assert_array_equal(mask_of(output), picked(mask, POSITIONS))
    both = layer(with_mask(X, mask), with_mask(POSITIONS, POSITIONS > 0))
    np.testing.assert_array_equal(mask_of(both), picked(mask, POSITIONS) & (POSITIONS > 0))
    assert mask_of(layer(X, POSITIONS)) is None
    np.testing.assert_array_equal(mask_of(layer(with_mask(X, mask))), mask)


def test_masked_tokens_count_in_no_loss():
    ids, positions = keras.Input((T,), dtype="int32"), keras.Input((P,), dtype="int32")
    x = keras.layers.Embedding(V, D, mask_zero=True)(ids)
    model = randomize(keras.Model([ids, positions], MaskedLMHead(V)(x, positions)))
    padded = IDS.copy()
    padded[0, 3:] = 0
    logits = to_numpy(model([padded, POSITIONS]))
    targets = RNG.integers(0, V, (B, P))
    model.compile("sgd", keras.losses.SparseCategoricalCrossentropy(from_logits=True))
    loss = model.evaluate([padded, POSITIONS], targets, verbose=0)
    assert abs(loss - oracles.cross_entropy(logits, targets, picked(padded, POSITIONS) != 0)) < 1e-5


@pytest.mark.parametrize(
    ("call", "message"),
    [
        (lambda: MaskedLMHead(), "One of `vocabulary_size` and `token_embedding`"),
        (lambda: MaskedLMHead(V, keras.layers.ReversibleEmbedding(V + 1, D)), "`vocabulary_size` must be that of"),
        (lambda: MaskedLMHead(V)(X, POSITIONS + 1), r"`mask_positions` must be in \[0, T\).*positions from 1 to 7"),
    ],
)
def test_what_does_not_fit_is_refused(call, message):
    with pytest.raises(ValueError, match=message):
        call()


@pytest.mark.parametrize("options", [{"positions": True}, {"positions": False}, {"positions": True, "is_tied": True}])
def test_the_promises_of_every_layer(options):
    def make(**arguments):
        if not options.get("is_tied"):
            return MaskedLMHead(V, intermediate_activation="gelu", **arguments)
        embedding = keras.layers.ReversibleEmbedding(V, D, dtype=arguments.get("dtype"), name="embedding")
        return MaskedLMHead(token_embedding=embedding, **arguments)

    inputs = (X, POSITIONS) if options["positions"] else (X,)
    check_layer(
        make,
        inputs,
        passes_mask=None if options["positions"] else True,
        unused=("inputs", "previous_mask"),
        tolerance=4,
        int8_error=0.4,
    )


def test_positions_may_come_as_floats_in_reduced_precision():
    layer = MaskedLMHead(V, dtype="mixed_bfloat16")
    long = ops.convert_to_tensor(RNG.normal(size=(1, 600, D)), dtype="float32")
    assert_close(layer(long, np.array([[513.0]])), layer(long)[:, 513:514], "bfloat16")
