"""A position method is one class: here is one more, and no other file knows of it.

Kerple (Chi et al. 2022, "KERPLE: Kernelized Relative Positional Embedding for Length Extrapolation", equation 7, the
logarithmic kernel): `-r₁ · log(1 + r₂ |i - j|)`, r₁ and r₂ positive and learned for each head.
"""

import keras
import numpy as np
import pytest
from hypothesis import given
from keras import ops

from keras_tfm import layers
from tests import attention_oracle
from tests.numerics import assert_close, randomize, to_numpy
from tests.properties.configurations import SOME_SIZES, normal, seeds


@keras.saving.register_keras_serializable(package="tests")
class Kerple(layers.AttentionPosition):
    def build(self, query_shape, key_shape, value_shape):
        self.rates = self.add_weight(name="rates", shape=(2, query_shape[2]), initializer="ones")

    def bias(self, query, key, query_positions, key_positions):
        distances = ops.abs(ops.expand_dims(query_positions, -1) - ops.expand_dims(key_positions, -2))
        distances = ops.reshape(distances, (-1, 1, *ops.shape(distances)[-2:]))
        first, second = ops.softplus(ops.cast(ops.reshape(self.rates, (2, 1, -1, 1, 1)), "float32"))
        return -first * ops.log1p(second * ops.cast(distances, "float32"))


def made(seed=0):
    sizes = SOME_SIZES[0]
    layer = layers.MultiHeadAttention(sizes.heads, sizes.key_dim, position=Kerple(), num_key_value_heads=1)
    layer.build((None, None, sizes.width), (None, None, sizes.width))
    return randomize(layer, seed, scale=sizes.width**-0.5), sizes


@given(seed=seeds)
def test_it_equals_its_equation(seed):
    rng = np.random.default_rng(seed)
    layer, sizes = made(seed)
    x = normal(rng, sizes.batch, 7, sizes.width)
    rates = np.log1p(np.exp(to_numpy(layer.position.rates)))
    distances = abs(np.arange(7)[:, None] - np.arange(7))
    bias = -rates[0][:, None, None] * np.log1p(rates[1][:, None, None] * distances)
    assert_close(layer(x, x), attention_oracle_of(layer, x, bias))


def attention_oracle_of(layer, x, bias):
    class Equation(attention_oracle.NoPosition):
        def bias(self, *args):
            return bias[None]

    class Options:
        position, score, soft_cap, mixing, sink, gate = "kerple", None, None, False, None, False

    weights = {name: to_numpy(variable) for name, variable in attention_oracle.named_weights(layer).items()}
    attention_oracle.POSITIONS["kerple"] = Equation()
    places = np.broadcast_to(np.arange(x.shape[1]), x.shape[:2])
    pairs = np.ones((x.shape[0], layer.num_heads, x.shape[1], x.shape[1]), bool)
    try:
        return attention_oracle.multi_head_attention(weights, Options, x, x, pairs, places, places)[0]
    finally:
        del attention_oracle.POSITIONS["kerple"]


@given(seed=seeds)
def test_it_composes_with_caches_and_windows(seed):
    rng = np.random.default_rng(seed)
    layer, sizes = made(seed)
    x = normal(rng, sizes.batch, 5, sizes.width)
    full = to_numpy(layer(x, x, use_causal_mask=True))
    cache = layer.create_cache(sizes.batch, 6)
    for start, end in ((0, 2), (2, 5)):
        output, cache = layer(
            x[:, start:end], x[:, start:end], use_causal_mask=True, cache=cache, cache_update_index=start
        )
        assert_close(output, full[:, start:end])


@pytest.mark.parametrize("make", [layers.TransformerEncoder, layers.TransformerDecoder])
def test_it_goes_into_blocks_and_files(make, tmp_path):
    inputs = keras.Input((None, 12))
    model = keras.Model(inputs, make(14, 3, position=Kerple())(inputs))
    randomize(model)
    x = normal(np.random.default_rng(0), 2, 5, 12)
    model.save(tmp_path / "model.keras")
    assert_close(keras.saving.load_model(tmp_path / "model.keras")(x), to_numpy(model(x)))
