"""The hooks of a relative position against the numbers of its paper: values, and gradients by finite differences."""

import keras
import numpy as np
from keras import ops

from tests.layers.on_backend import weight_gradients
from tests.numerics import assert_close, randomize, to_numpy, value_and_gradients

BATCH, QUERIES, KEYS, HEADS, SIZE, VALUE_SIZE = 2, 3, 5, 4, 6, 7


class BiasOf(keras.layers.Layer):
    """The hook `bias` as a layer."""

    def __init__(self, position):
        super().__init__()
        self.position = position
        self.built = True

    def call(self, query, key, query_positions, key_positions):
        return self.position.bias(query, key, query_positions, key_positions)


class ValueBiasOf(keras.layers.Layer):
    """The hook `value_bias` as a layer."""

    def __init__(self, position):
        super().__init__()
        self.position = position
        self.built = True

    def call(self, scores, query_positions, key_positions):
        return self.position.value_bias(scores, query_positions, key_positions)


def weights_of(layer):
    """The weights of a layer by their own names, as numpy."""
    return {variable.name: to_numpy(variable) for variable in layer.weights}


def built(make, heads=HEADS, shared=HEADS, size=SIZE, value_size=VALUE_SIZE):
    """A fresh position with random weights."""
    position = make()
    position.build((None, None, heads, size), (None, None, shared, size), (None, None, shared, value_size))
    return randomize(position)


def tensors(*arrays):
    """Floats as float32 and ints as int32."""
    return [ops.convert_to_tensor(x, dtype="float32" if x.dtype.kind == "f" else "int32") for x in arrays]


def forms_of_positions(batch, queries, keys):
    """Positions in each form: of one row, of each row, mixed; with keys after queries, gaps and repetitions."""
    rng = np.random.default_rng(3)
    rows = rng.integers(0, 40, (batch, queries)), rng.integers(0, 40, (batch, keys))
    rows[1][:, -1] = rows[1][:, 0]
    return [
        (np.arange(queries) + 1, np.arange(keys)),
        rows,
        (np.arange(queries) * 3, rows[1]),
        (rows[0], np.arange(keys) + 100_000),
    ]


def by_rows(positions, batch):
    """`[T]` or `[B, T]` as `[B, T]`."""
    return np.broadcast_to(positions, (batch, np.shape(positions)[-1]))


def assert_bias_is(make, oracle):
    """`bias` is `oracle(query, key, query_positions [B, T], key_positions [B, S], weights) -> [B, N, T, S]`.

    In each form of positions and with shared key heads; the gradients are the oracle's finite differences.
    """
    for shared in (HEADS, HEADS // 2):
        position = built(make, shared=shared)
        for places in forms_of_positions(BATCH, QUERIES, KEYS):
            query, key = _heads(QUERIES, HEADS), _heads(KEYS, shared)
            received = position.bias(*tensors(query, key, *places))
            assert keras.backend.standardize_dtype(received.dtype) == "float32"
            expected = oracle(query, key, *(by_rows(each, BATCH) for each in places), weights_of(position))
            assert received.shape[0] in (1, BATCH) and received.shape[1] in (1, HEADS)
            assert_close(np.broadcast_to(to_numpy(received), expected.shape), expected, factor=2)
    assert_gradients_are(make, oracle)


def assert_gradients_are(make, oracle):
    """Gradients of `bias` with respect to query, key and weights."""
    for shared in (2, 1):
        position = built(make, heads=2, shared=shared, size=2)
        rng = np.random.default_rng(5)
        query, key = rng.normal(size=(2, 2, 2, 2)), rng.normal(size=(2, 3, shared, 2))
        places = forms_of_positions(2, 2, 3)[1]
        weights = weights_of(position)
        expected = oracle(query, key, *places, weights)
        upstream = np.random.default_rng(7).normal(size=expected.shape)

        def loss(query, key, *values, upstream=upstream, weights=weights, places=places):
            return (upstream * oracle(query, key, *places, dict(zip(weights, values, strict=True)))).sum()

        wanted = numeric_gradients(loss, [query, key, *weights.values()])
        inputs, places = tensors(query, key), tensors(*places)
        for which in (0, 1):
            if np.abs(wanted[which]).max() == 0:
                continue  # backends say `None` where nothing depends on an input

            def hook(heads, which=which, position=position, inputs=inputs, places=places):
                return position.bias(*inputs[:which], heads, *inputs[which + 1 :], *places)

            _, gradients = value_and_gradients(hook, [(query, key)[which]], upstream)
            assert_close(gradients, wanted[which : which + 1], factor=4)
        if weights:
            gradients = weight_gradients(BiasOf(position), (*inputs, *places), {}, {})
            assert_close(gradients, wanted[2:], factor=4)


def numeric_gradients(function, arrays, step=1e-4):
    """Central differences of a scalar function of float64 arrays."""
    gradients = [np.zeros(x.shape) for x in arrays]
    for which, place in ((i, place) for i, x in enumerate(arrays) for place in np.ndindex(x.shape)):
        values = []
        for sign in (1, -1):
            moved = [x.copy() for x in arrays]
            moved[which][place] += sign * step
            values.append(function(*moved))
        gradients[which][place] = (values[0] - values[1]) / (2 * step)
    return gradients


def _heads(length, number, size=SIZE):
    return np.random.default_rng(length).normal(size=(BATCH, length, number, size))
