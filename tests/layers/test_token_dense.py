"""Dense layers over tokens are Keras' layers: numbers, gradients, weights."""

import keras
import numpy as np
import pytest

from keras_tfm.layers.token_dense import TokenDense, TokenEinsumDense
from tests.numerics import to_numpy

PAIRS = {
    "dense": (TokenDense, keras.layers.Dense, {"units": 7, "activation": "relu"}, (2, 5, 11)),
    "two axes": (TokenDense, keras.layers.Dense, {"units": 7, "use_bias": False}, (3, 11)),
    "to heads": (
        TokenEinsumDense,
        keras.layers.EinsumDense,
        {"equation": "abx,xyz->abyz", "output_shape": (None, 3, 7), "bias_axes": "yz"},
        (2, 5, 11),
    ),
    "from heads": (
        TokenEinsumDense,
        keras.layers.EinsumDense,
        {"equation": "abyz,yzx->abx", "output_shape": (None, 7), "bias_axes": "x", "activation": "tanh"},
        (2, 5, 3, 11),
    ),
    "large enough for another library": (
        TokenDense,
        keras.layers.Dense,
        {"units": 211, "bias_initializer": "normal"},
        (2, 101, 199),
    ),
}


def _trained(cls, options, x, y):
    keras.utils.set_random_seed(3)
    model = keras.Sequential([keras.Input(x.shape[1:]), cls(**options)])
    model.compile(keras.optimizers.SGD(0.1), "mse")
    for _ in range(3):
        model.train_on_batch(x, y)
    return [to_numpy(weight) for weight in model.weights], model.predict(x, verbose=0)


@pytest.mark.parametrize("pair", PAIRS, ids=PAIRS)
def test_it_trains_and_computes_as_keras_does(pair):
    ours, keras_class, options, shape = PAIRS[pair]
    generator = np.random.default_rng(0)
    x = generator.normal(size=shape).astype("float32")
    y = generator.normal(size=keras_class(**options)(x).shape).astype("float32")
    weights, predicted = _trained(ours, options, x, y)
    expected_weights, expected = _trained(keras_class, options, x, y)
    np.testing.assert_allclose(predicted, expected, rtol=1e-4, atol=1e-4)
    for weight, expected_weight in zip(weights, expected_weights, strict=True):
        np.testing.assert_allclose(weight, expected_weight, rtol=1e-4, atol=1e-4)


@pytest.mark.parametrize("name", ["dense", "to heads", "from heads"])
def test_low_rank_updates_and_int8_are_those_of_keras(name):
    ours, keras_class, options, shape = PAIRS[name]
    x = np.random.default_rng(0).normal(size=shape).astype("float32")
    results = []
    for cls in (ours, keras_class):
        keras.utils.set_random_seed(3)
        layer = cls(**options)
        layer.build(shape)
        layer.enable_lora(2)
        layer.lora_kernel_b.assign(np.full(layer.lora_kernel_b.shape, 0.1))
        adapted = to_numpy(layer(x))
        layer.quantize("int8")
        results.append((adapted, to_numpy(layer(x))))
    for mine, theirs in zip(*results, strict=True):
        np.testing.assert_allclose(mine, theirs, rtol=1e-4, atol=1e-4)
