"""Encoder blocks of every kind: against float64, whatever the padding, and with the promises of all layers."""

import keras
import numpy as np
import pytest

from keras_tfm.layers.transformer_encoder import TransformerEncoder
from tests import oracles
from tests.layers import block_oracle
from tests.layers.block_configurations import ALL, REAL, B, D, N, T, X, exceptions, made, make
from tests.layers.check_layer import check_layer
from tests.numerics import assert_close, layer_gradients, to_numpy

SHAPE = (None, None, D)
PAIRS = oracles.allowed_pairs(B, N, T, T, key_padding=REAL)


@pytest.mark.parametrize("configuration", ALL)
def test_a_block_is_what_its_papers_say(configuration):
    layer = made(TransformerEncoder, configuration, SHAPE)
    expected = block_oracle.block(layer, X.astype("float64"), PAIRS, depth=7)
    assert_close(to_numpy(layer(X, padding_mask=REAL))[REAL], expected[REAL])


@pytest.mark.parametrize("configuration", ["batch norm, post", "batch norm, pre"])
@pytest.mark.parametrize("policy", ["float32", "mixed_bfloat16", "mixed_float16"])
def test_batch_statistics_are_those_of_real_tokens(configuration, policy):
    layer = made(TransformerEncoder, configuration, SHAPE, dtype=policy)
    x = to_numpy(keras.ops.cast(X, layer.compute_dtype))
    expected = block_oracle.block(layer, x, PAIRS, real=REAL)
    outputs, statistics = [], []
    before = [to_numpy(variable) for variable in layer.non_trainable_variables]
    for garbage in (0.0, 9.0):
        for variable, value in zip(layer.non_trainable_variables, before, strict=True):
            variable.assign(value)
        dirty = np.where(REAL[..., None], x, garbage)
        outputs.append(to_numpy(layer(keras.ops.cast(dirty, layer.compute_dtype), padding_mask=REAL, training=True)))
        statistics.append([to_numpy(variable) for variable in layer.non_trainable_variables])
    assert_close(outputs[0][REAL], expected[REAL], layer.compute_dtype)
    np.testing.assert_array_equal(outputs[0][REAL], outputs[1][REAL])
    for with_zeros, with_garbage in zip(*statistics, strict=True):
        np.testing.assert_array_equal(with_zeros, with_garbage)
    moved = [np.abs(x - y).max() for x, y in zip(before, statistics[0], strict=True)]
    assert min(moved) > 1e-3, "the moving statistics did not move"


@pytest.mark.parametrize("configuration", ALL)
@pytest.mark.parametrize("training", [False, True])
def test_what_padding_holds_does_not_matter(configuration, training):
    layer = made(TransformerEncoder, configuration, SHAPE)
    upstream = np.where(REAL[..., None], 1.0, 0.0) * X

    def run(garbage):
        x = np.where(REAL[..., None], X, garbage).astype("float32")
        output, of_inputs, of_weights = layer_gradients(
            layer, lambda x: layer(x, padding_mask=REAL, training=training), [x], upstream
        )
        return output[REAL], of_inputs[0][REAL], of_weights

    for received, expected in zip(run(5.0), run(0.0), strict=True):
        assert_close(received, expected, factor=5)


@pytest.mark.parametrize("configuration", ALL)
def test_it_keeps_the_promises_of_all_layers(configuration):
    check_layer(lambda **options: make(TransformerEncoder, configuration, **options), X, **exceptions(configuration))


@pytest.mark.parametrize("configuration", [name for name in ALL if "experts" in name])
@pytest.mark.parametrize("policy", ["mixed_bfloat16", "mixed_float16", "bfloat16"])
def test_experts_are_finite_in_reduced_precision(configuration, policy):
    """Where rounding makes other experts the likeliest, outputs differ."""
    output = made(TransformerEncoder, configuration, SHAPE, dtype=policy)(X, padding_mask=REAL, training=True)
    assert keras.backend.standardize_dtype(output.dtype) == keras.dtype_policies.get(policy).compute_dtype
    assert np.isfinite(to_numpy(output)).all()


def test_its_arguments_are_in_its_config():
    check_layer(
        lambda **options: TransformerEncoder(11, 3, **options),
        X,
        skip=[name for name in ("symbolic", "file", "policies", "compiled", "gradients", "lora", "int8")],
    )


def test_positions_are_those_of_the_self_attention():
    """Shifted rotary positions change nothing, other distances do."""
    layer = made(TransformerEncoder, "pre, rotary", SHAPE)
    expected = to_numpy(layer(X))
    assert_close(layer(X, positions=np.arange(T) + 100), expected, factor=10)
    assert np.abs(to_numpy(layer(X, positions=np.arange(T) * 3)) - expected).max() > 1e-2
