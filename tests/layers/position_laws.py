"""What every relative position promises through `MultiHeadAttention`: the attention of its paper, and the laws."""

import itertools
import math

import numpy as np

from keras_tfm.layers import MultiHeadAttention
from keras_tfm.ops import KVCache, use_kernel
from tests.layers.check_layer import check_layer
from tests.layers.on_backend import weight_gradients
from tests.layers.position_hooks import (
    BATCH,
    HEADS,
    KEYS,
    QUERIES,
    SIZE,
    VALUE_SIZE,
    by_rows,
    forms_of_positions,
    tensors,
    weights_of,
)
from tests.numerics import assert_close, randomize, to_numpy

WIDTH = 11


def content_logits(query, key):
    """`q · k / √H`, `[B, N, T, S]`."""
    group = query.shape[2] // key.shape[2]
    return np.einsum("btnh,bsnh->bnts", query, np.repeat(key, group, axis=2)) / math.sqrt(query.shape[-1])


def attention_layer(position, shared=HEADS, size=SIZE, **arguments):
    """A `MultiHeadAttention` with the position and random weights."""
    layer = MultiHeadAttention(
        HEADS, size, value_dim=VALUE_SIZE, num_key_value_heads=shared, position=position, **arguments
    )
    layer.build((None, None, WIDTH), (None, None, WIDTH))
    return randomize(layer)


def assert_attention_is(make, logits, value_terms=None, size=SIZE):
    """Output and scores of `MultiHeadAttention` are those of whole logits `[B, N, T, S]` written from the paper.

    Args:
        make: returns a fresh position.
        logits: function of query and key heads as projected, positions by rows, and the position's weights.
        value_terms: function of the scores, positions by rows and weights that returns `[B, T, N, Hv]`.
    """
    for shared, places in itertools.product((HEADS, HEADS // 2), forms_of_positions(BATCH, QUERIES, KEYS)[:3]):
        layer = attention_layer(make(), shared, size)
        rng = np.random.default_rng(0)
        x, memory = (rng.normal(size=(BATCH, length, WIDTH)) for length in (QUERIES, KEYS))
        output, scores = layer(
            *tensors(x, memory),
            query_positions=tensors(places[0])[0],
            key_positions=tensors(places[1])[0],
            return_attention_scores=True,
        )
        query, key, value = (
            _project(dense, each)
            for dense, each in ((layer._query_dense, x), (layer._key_dense, memory), (layer._value_dense, memory))
        )
        places = [by_rows(each, BATCH) for each in places]
        weights = weights_of(layer.position)
        exponentials = np.exp(logits(query, key, *places, weights))
        expected = exponentials / exponentials.sum(-1, keepdims=True)
        assert_close(scores, expected, factor=4)
        heads = np.einsum("bnts,bsnh->btnh", expected, np.repeat(value, HEADS // shared, axis=2))
        if value_terms is not None:
            heads = heads + value_terms(expected, *places, weights)
        kernel, bias = (to_numpy(weight) for weight in layer._output_dense.weights)
        assert_close(output, np.einsum("btnh,nhd->btd", heads, kernel) + bias, factor=4)
        assert_close(
            layer(*tensors(x, memory), query_positions=places[0], key_positions=places[1]), output, message="no scores"
        )


def assert_laws(make, shift=1000, size=SIZE):
    """Shifts change nothing, cached steps equal the full pass, left padding and packing equal each sequence alone."""
    layer = attention_layer(make(), HEADS // 2, size)
    x = np.random.default_rng(1).normal(size=(BATCH, 7, WIDTH)).astype("float32")
    expected = to_numpy(layer(x, x, use_causal_mask=True))
    for places in (np.arange(7) + shift, np.arange(7) + np.array([[shift], [3 * shift]])):
        received = layer(x, x, query_positions=tensors(places)[0], use_causal_mask=True)
        assert_close(received, expected, factor=4, message="shifted")
    assert_cached_steps_are(layer, x, expected)
    assert_left_padding_changes_nothing(layer, x)
    assert_packed_is_separate(layer, x)


def assert_windows_are_the_whole(make, size=SIZE):
    """Blocks of a sliding window, that come in the batch axis with their positions, give what the whole gives."""
    layer = attention_layer(make(), HEADS // 2, size, sliding_window=3)
    x = np.random.default_rng(1).normal(size=(BATCH, 131, WIDTH)).astype("float32")
    outputs = []
    for kernel in ("sliding_window", "reference"):
        with use_kernel(kernel):
            outputs.append(layer(x, x, use_causal_mask=True))
    assert_close(*outputs, factor=4)


def assert_cached_steps_are(layer, x, expected):
    """A prefill of three tokens, then a step for each."""
    cache, outputs, index = layer.create_cache(x.shape[0], 9), [], 0
    for size in (3, 1, 1, 1, 1):
        token = x[:, index : index + size]
        output, cache = layer(token, token, cache=cache, cache_update_index=index, use_causal_mask=True)
        outputs.append(to_numpy(output))
        cache, index = KVCache(*cache), index + size
    assert_close(np.concatenate(outputs, axis=1), expected, factor=4, message="cached steps")


def assert_left_padding_changes_nothing(layer, x, pads=(3, 0)):
    """Rows with padding on the left and positions that begin after it."""
    is_real = np.arange(x.shape[1]) >= np.array(pads)[:, None]
    places = np.maximum(np.arange(x.shape[1]) - np.array(pads)[:, None], 0)
    padded = np.where(is_real[..., None], x, 9.0).astype("float32")
    received = layer(padded, padded, query_positions=tensors(places)[0], padding_mask=is_real)
    for row, pad in enumerate(pads):
        alone = x[row : row + 1, pad:]
        assert_close(received[row : row + 1, pad:], layer(alone, alone), factor=4, message="left padding")


def assert_packed_is_separate(layer, x, first=3):
    """Two sequences in one row, each with positions from 0."""
    rest = x.shape[1] - first
    segments = np.repeat([[0] * first + [1] * rest], x.shape[0], axis=0).astype("int32")
    places = np.concatenate([np.arange(first), np.arange(rest)]).astype("int32")
    received = layer(x, x, query_positions=tensors(places)[0], segment_ids=segments)
    for part in (slice(None, first), slice(first, None)):
        assert_close(received[:, part], layer(x[:, part], x[:, part]), factor=4, message="packed")


def assert_finite_in_any_policy(make, size=SIZE):
    """Far from the start outputs are near those in float32, and gradients of the weights are finite."""
    x = np.random.default_rng(2).normal(size=(BATCH, 7, WIDTH)).astype("float32")
    options = {"query_positions": tensors(np.arange(7) + np.array([[0], [99_990]]))[0]}
    exact = attention_layer(make(), 2, size)
    expected = exact(x, x, **options)
    for policy in ("mixed_bfloat16", "mixed_float16"):
        layer = attention_layer(make(), 2, size, dtype=policy)
        layer.set_weights(exact.get_weights())
        assert_close(layer(x, x, **options), expected, layer.compute_dtype, factor=3, message=policy)
    gradients = weight_gradients(layer, tensors(x, x), options, {})
    assert all(np.isfinite(gradient).all() for gradient in gradients if gradient is not None), policy


def assert_is_a_layer(make, size=SIZE, zero_gradients=(), **others):
    """The harness of all layers, for `MultiHeadAttention` with the position that `make(dtype=...)` returns.

    Each row has positions of its own: in graphs the batch is unknown, and so is that of the positions.
    """
    x = np.random.default_rng(0).normal(size=(BATCH, 5, WIDTH)).astype("float32")
    rows = np.array([[0, 1, 2, 3, 4], [0, 0, 1, 2, 9]], "int32")

    def make_attention(dtype=None, **arguments):
        position = make(dtype=dtype)
        return MultiHeadAttention(
            HEADS, size, value_dim=VALUE_SIZE, num_key_value_heads=2, position=position, dtype=dtype, **arguments
        )

    # The bias of the keys adds the same to all logits of a query.
    zero_gradients = ("key/bias", *zero_gradients)
    check_layer(
        make_attention,
        (x, x),
        keywords={"query_positions": rows},
        skip=("lora", "int8"),
        zero_gradients=zero_gradients,
        **others,
    )


def _project(dense, x):
    kernel, bias = (to_numpy(weight) for weight in dense.weights)
    return np.einsum("btd,dnh->btnh", x, kernel) + bias


def rotated_logits(rotate):
    """The logits of a method that only turns heads: `rotate(heads [B, T, N, H], positions [B, T])` in numpy."""

    def logits(query, key, query_positions, key_positions, weights):
        return content_logits(rotate(query, query_positions), rotate(key, key_positions))

    return logits
