"""Law 6, of the whole layer: any parts under any mask equal a plain float64 computation, value and gradient."""

import dataclasses

import numpy as np
import pytest
from hypothesis import given

from tests import attention_oracle
from tests.numerics import TOLERANCE, assert_close, layer_gradients, to_numpy
from tests.properties.configurations import (
    DTYPES,
    attention_layers,
    generously,
    layer_allowed,
    layer_arguments,
    layer_offset,
    masks,
    normal,
    seeds,
)


def positions(parts, sizes):
    """int `[B, T]` and `[B, S]`: those drawn, or the indices as the layer aligns them."""
    if "query_positions" in parts:
        return parts["query_positions"], parts["key_positions"]
    queries, keys = np.arange(sizes.queries) + layer_offset(parts, sizes), np.arange(sizes.keys)
    return [np.broadcast_to(each, (sizes.batch, len(each))) for each in (queries, keys)]


def oracle(layer, config, parts):
    """The layer as a float64 function of its inputs and weights, and the names of the weights in order."""
    named = attention_oracle.named_weights(layer)
    order = {id(variable): index for index, variable in enumerate(layer.trainable_variables)}
    names = sorted(named, key=lambda name: order[id(named[name])])
    assert len(names) == len(order), "the oracle must know every weight"
    pairs, places = layer_allowed(parts, config.sizes), positions(parts, config.sizes)

    def compute(inputs, weights):
        weights = dict(zip(names, weights, strict=True))
        return attention_oracle.multi_head_attention(weights, config, *inputs, pairs, *places)

    return compute


def rounded(arrays, dtype):
    import keras

    return [to_numpy(keras.ops.convert_to_tensor(array, dtype=dtype)) for array in arrays]


@pytest.mark.parametrize("dtype", DTYPES)
@generously
@given(
    config=attention_layers.filter(lambda config: config.position in attention_oracle.POSITIONS),
    masks=masks,
    seed=seeds,
)
def test_multi_head_attention(dtype, config, masks, seed):
    """The gradient is compared along a random direction of all inputs and weights, by central differences."""
    rng = np.random.default_rng(seed)
    config = dataclasses.replace(config, dtype=dtype)
    masks = dataclasses.replace(masks, pattern=config.pattern, window=config.window)
    sizes, layer = config.sizes, config.make(seed)
    for variable in layer.trainable_variables:
        variable.assign(rounded([to_numpy(variable)], dtype)[0])
    parts = masks.draw(rng, sizes)
    inputs = rounded([normal(rng, sizes.batch, length, sizes.width) for length in (sizes.queries, sizes.keys)], dtype)
    upstream = rounded([normal(rng, *inputs[0].shape)], dtype)[0]
    arguments = layer_arguments(parts)
    call = lambda query, value: layer(query, value, **arguments)  # noqa: E731
    output, of_inputs, of_weights = layer_gradients(layer, call, inputs, upstream)
    compute, weights = oracle(layer, config, parts), [to_numpy(variable) for variable in layer.trainable_variables]
    expected, expected_scores = compute(inputs, weights)
    assert_close(output, expected, dtype, factor=3)
    _, scores = layer(*(inputs), return_attention_scores=True, **arguments)
    assert_close(scores, expected_scores, dtype, factor=3)

    directions = [[rng.normal(size=x.shape) for x in each] for each in (inputs, weights)]
    step = 1e-5

    def moved(by):
        return compute(
            *(
                [x + by * d for x, d in zip(*pair, strict=True)]
                for pair in zip((inputs, weights), directions, strict=True)
            )
        )

    difference = (moved(step)[0] - moved(-step)[0]) / (2 * step)
    slope = (difference * upstream).sum()
    terms = [(g * d).sum() for g, d in zip([*of_inputs, *of_weights], [*directions[0], *directions[1]], strict=True)]
    size = np.sqrt((difference**2).sum() * (upstream**2).sum()) + sum(abs(term) for term in terms) + 1
    assert abs(slope - sum(terms)) < 10 * TOLERANCE[dtype] * size
