"""Embeddings against float64: scaled, factorized, normalized, there and back."""

import numpy as np
import pytest

from keras_tfm.layers.positional_embedding import PositionalEmbedding
from tests import oracles
from tests.layers.check_layer import check_layer
from tests.numerics import assert_close, randomize, to_numpy

V, L, D, E = 13, 11, 6, 4
IDS = np.array([[3, 12, 7, 0, 0], [1, 2, 5, 12, 0]], "int32")


def made(**arguments):
    layer = PositionalEmbedding(V, L, D, **arguments)
    layer.build((None, None))
    return randomize(layer)


@pytest.mark.parametrize("position", ["learned", "sinusoidal", None])
@pytest.mark.parametrize("embedding_scale", [None, "sqrt", 0.5])
@pytest.mark.parametrize("embedding_rank", [None, E])
@pytest.mark.parametrize("normalization", [None, "layer", "rms"])
def test_it_is_table_scale_position_norm_and_projection(position, embedding_scale, embedding_rank, normalization):
    layer = made(
        position=position,
        embedding_scale=embedding_scale,
        embedding_rank=embedding_rank,
        normalization=normalization,
    )
    width = embedding_rank or D
    expected = to_numpy(layer.token_embedding.embeddings)[IDS] * {None: 1, "sqrt": np.sqrt(width)}.get(
        embedding_scale, embedding_scale
    )
    if position == "learned":
        expected = expected + to_numpy(layer.position_embedding.position_embeddings)[: IDS.shape[1]]
    if position == "sinusoidal":
        expected = expected + oracles.sinusoid(range(IDS.shape[1]), width)
    if normalization == "layer":
        gain, bias = (to_numpy(weight) for weight in layer.normalization.weights)
        expected = oracles.layer_norm(expected, gain, bias, 1e-5)
    if normalization == "rms":
        expected = oracles.rms_norm(expected, to_numpy(layer.normalization.scale), 1e-5)
    if embedding_rank:
        expected = expected @ to_numpy(layer.projection.kernel) + to_numpy(layer.projection.bias)
    assert_close(layer(IDS), expected, factor=3)


@pytest.mark.parametrize("tie_weights", [True, False])
def test_a_factorized_table_goes_back_by_the_transpose(tie_weights):
    layer = made(embedding_rank=E, tie_weights=tie_weights)
    x = np.random.default_rng(0).normal(size=(2, 5, D)).astype("float32")
    table = to_numpy(layer.token_embedding.embeddings).T
    if not tie_weights:
        table = to_numpy(layer.token_embedding.reverse_embeddings)
    assert_close(layer(x, reverse=True), x @ to_numpy(layer.projection.kernel).T @ table)
    assert_close(layer(x[:, 0], reverse=True), x[:, 0] @ to_numpy(layer.projection.kernel).T @ table)


def test_a_factorized_table_is_small():
    assert made(position=None).token_embedding.embeddings.shape == (V, D)
    layer = made(position=None, embedding_rank=E)
    assert sum(int(np.prod(weight.shape)) for weight in layer.weights) == V * E + E * D + D


def test_dropout_drops_in_training_alone():
    layer = made(dropout=0.5)
    np.testing.assert_array_equal(to_numpy(layer(IDS)), to_numpy(layer(IDS, training=False)))
    assert (to_numpy(layer(IDS, training=True)) == 0).mean() > 0.2


@pytest.mark.parametrize(
    "arguments",
    [
        {},
        {"embedding_rank": E, "normalization": "layer", "dropout": 0.5, "mask_zero": True},
        {"position": "sinusoidal", "embedding_scale": "sqrt", "normalization": "rms"},
    ],
)
def test_it_keeps_the_promises_of_all_layers(arguments):
    own_mask = IDS > 0 if arguments.get("mask_zero") else None
    check_layer(
        lambda **options: PositionalEmbedding(V, L, D, **arguments, **options),
        IDS,
        own_mask=own_mask,
        unused=("start_index", "positions"),
    )


def test_logits_keep_the_promises_of_all_layers():
    x = np.random.default_rng(0).normal(size=(2, 5, D)).astype("float32")

    def make(**options):
        layer = PositionalEmbedding(V, L, D, embedding_rank=E, **options)
        layer.build((None, None))
        return layer

    skip = ("config", "arguments", "int8")  # Keras 3.15's int8 logits of [B, T, D] raise a warning on PyTorch
    check_layer(make, x, options={"reverse": True}, zero_gradients=("position", "bias"), skip=skip)


@pytest.mark.parametrize(
    "arguments, message",
    [
        ({"embedding_rank": 0}, "`embedding_rank` must be a positive.*embedding_rank=0"),
        ({"normalization": "batch"}, "`normalization` must be.*normalization='batch'"),
        ({"dropout": 1.0}, r"`dropout` must be in \[0, 1\).*dropout=1.0"),
        ({"embedding_scale": "cube"}, "`embedding_scale` must be.*embedding_scale='cube'"),
    ],
)
def test_bad_arguments(arguments, message):
    with pytest.raises(ValueError, match=message):
        PositionalEmbedding(V, L, D, **arguments)
