"""Decoder blocks of every kind: against float64, no look into the future, caches, and the promises of all layers."""

import keras
import numpy as np
import pytest

from keras_tfm.layers.multi_head_attention import MultiHeadAttention
from keras_tfm.layers.transformer_decoder import TransformerDecoder
from keras_tfm.ops import KVCache
from tests import oracles
from tests.layers import block_oracle
from tests.layers.block_configurations import (
    ALL,
    MEMORY,
    REAL,
    REAL_MEMORY,
    SEQUENTIAL,
    B,
    D,
    N,
    S,
    T,
    X,
    exceptions,
    made,
    make,
)
from tests.layers.check_layer import check_layer
from tests.numerics import assert_close, to_numpy

SHAPE = (None, None, D)
WITH_ENCODER = [pytest.param(name, [SHAPE, SHAPE], id=f"{name}, with encoder") for name in SEQUENTIAL]
EVERY = [*WITH_ENCODER, *(pytest.param(name, [SHAPE], id=f"{name}, alone") for name in ALL)]


def inputs_for(shapes):
    return [X, MEMORY][: len(shapes)]


@pytest.mark.parametrize("configuration, shapes", EVERY)
def test_a_block_is_what_its_papers_say(configuration, shapes):
    layer = made(TransformerDecoder, configuration, *shapes)
    own = oracles.allowed_pairs(B, N, T, T, causal=True, key_padding=REAL)
    options = {"decoder_padding_mask": REAL}
    arguments = {}
    if len(shapes) == 2:
        options["encoder_padding_mask"] = REAL_MEMORY
        arguments = {"memory": MEMORY.astype("float64")}
        arguments["memory_allowed"] = oracles.allowed_pairs(B, N, T, S, key_padding=REAL_MEMORY)
    expected = block_oracle.block(layer, X.astype("float64"), own, depth=7, **arguments)
    assert_close(to_numpy(layer(*inputs_for(shapes), **options))[REAL], expected[REAL])


@pytest.mark.parametrize("configuration, shapes", EVERY)
def test_the_past_does_not_see_the_future(configuration, shapes):
    layer = made(TransformerDecoder, configuration, *shapes)
    expected = to_numpy(layer(*inputs_for(shapes)))
    for t in range(1, T):
        changed = np.concatenate([X[:, :t], 3 - X[:, t:]], axis=1)
        output = to_numpy(layer(changed, *inputs_for(shapes)[1:]))
        assert_close(output[:, :t], expected[:, :t])
        assert np.abs(output[:, t:] - expected[:, t:]).max() > 1e-3


@pytest.mark.parametrize("configuration, shapes", EVERY)
def test_cached_steps_equal_the_full_pass(configuration, shapes):
    layer = made(TransformerDecoder, configuration, *shapes)
    left = np.arange(T) >= [[2], [0]]
    memory = inputs_for(shapes)[1:]
    full = to_numpy(layer(X, *memory, decoder_padding_mask=left))
    caches = {"self_attention_cache": layer.self_attention.create_cache(B, T)}
    if memory:
        caches["cross_attention_cache"] = layer.cross_attention.project_memory(*memory)
    for start, end in ((0, 3), (3, 4), (4, 5)):
        output, *new = layer(
            X[:, start:end], *memory, decoder_padding_mask=left, self_attention_cache_update_index=start, **caches
        )
        caches = dict(zip(caches, (KVCache(*cache) for cache in new), strict=True))
        real = left[:, start:end]
        assert_close(to_numpy(output)[real], full[:, start:end][real])


@pytest.mark.parametrize(
    "configuration, num_inputs",
    [
        ("sandwich, RMS, SwiGLU, no bias", 2),
        ("LayerScale, sandwich", 2),
        ("post", 1),
        ("parallel, two norms, LayerScale", 1),
    ],
)
def test_it_keeps_the_promises_of_all_layers(configuration, num_inputs):
    """Few of the configurations: the encoder's test has all, and they differ in nothing that is checked here."""
    check_layer(
        lambda **options: make(TransformerDecoder, configuration, **options),
        (X, MEMORY)[:num_inputs],
        **exceptions(configuration),
    )


@pytest.mark.parametrize("configuration", ["parallel", "parallel, two norms, LayerScale"])
def test_parallel_placements_have_no_place_for_cross_attention(configuration):
    with pytest.raises(ValueError, match="`placement` has no place for cross attention.*placement='parallel"):
        make(TransformerDecoder, configuration)(X, MEMORY)


def test_packed_sequences_attend_to_their_own_source():
    layer = made(TransformerDecoder, "post", SHAPE, SHAPE)
    targets, sources = np.array([[0, 0, 1, 1, 1]] * B), np.array([[0, 0, 0, 0, 1, 1, 1]] * B)
    together = to_numpy(layer(X, MEMORY, segment_ids=targets, encoder_segment_ids=sources))
    alone = [layer(X[:, :2], MEMORY[:, :4]), layer(X[:, 2:], MEMORY[:, 4:])]
    assert_close(together, np.concatenate([to_numpy(part) for part in alone], axis=1))
    assert np.abs(to_numpy(layer(X, MEMORY, segment_ids=targets)) - together).max() > 1e-2


def test_packed_sequences_decode_from_one_cache():
    layer = made(TransformerDecoder, "post", SHAPE)
    ids = np.array([[0, 0, 1, 1, 1], [0, 0, 0, 1, 1]])
    full, cache = to_numpy(layer(X, segment_ids=ids)), layer.self_attention.create_cache(B, T)
    for t in range(T):
        output, cache = layer(
            X[:, t : t + 1],
            self_attention_cache=cache,
            self_attention_cache_update_index=t,
            segment_ids=ids[:, t : t + 1],
            key_segment_ids=ids,
        )
        assert_close(output, full[:, t : t + 1])


def test_positions_of_packed_sequences_start_anew():
    layer = made(TransformerDecoder, "pre, rotary", SHAPE)
    ids, positions = np.array([[0, 0, 1, 1, 1]] * B), np.array([[0, 1, 0, 1, 2]] * B)
    together = to_numpy(layer(X, segment_ids=ids, positions=positions))
    alone = [to_numpy(layer(part)) for part in (X[:, :2], X[:, 2:])]
    assert_close(together, np.concatenate(alone, axis=1))
    cache = layer.self_attention.create_cache(B, T)
    for t in range(T):
        output, cache = layer(
            X[:, t : t + 1],
            self_attention_cache=cache,
            self_attention_cache_update_index=t,
            segment_ids=ids[:, t : t + 1],
            key_segment_ids=ids,
            positions=positions[:, t : t + 1],
            key_positions=np.where(np.arange(T) <= t, positions, 99),
        )
        assert_close(output, together[:, t : t + 1])


def test_a_prefix_is_seen_by_all():
    layer, prefix = made(TransformerDecoder, "post", SHAPE), np.array([3, 1])
    allowed = oracles.allowed_pairs(B, N, T, T, causal=True, prefix=prefix)
    assert_close(layer(X, prefix_length=prefix), block_oracle.block(layer, X.astype("float64"), allowed))


def test_cross_attention_is_given_apart():
    cross = MultiHeadAttention(2, 5, value_dim=7)
    layer = TransformerDecoder(11, N, cross_attention=cross, layer_norm_epsilon=block_oracle.EPSILON)
    output, scores, cross_scores = layer(X, MEMORY, return_attention_scores=True)
    assert (layer.self_attention.num_heads, layer.cross_attention.num_heads) == (N, 2)
    assert [tuple(scores.shape), tuple(cross_scores.shape)] == [(B, N, T, T), (B, 2, T, S)]
    symbols = layer(keras.Input((None, D)), keras.Input((None, D)), return_attention_scores=True)
    assert [tuple(x.shape) for x in symbols] == [(None, None, D), (None, N, None, None), (None, 2, None, None)]
    allowed = [oracles.allowed_pairs(B, N, T, T, causal=True), oracles.allowed_pairs(B, 2, T, S)]
    expected = block_oracle.block(layer, X.astype("float64"), allowed[0], MEMORY.astype("float64"), allowed[1])
    assert_close(output, expected)
    copy = TransformerDecoder.from_config(layer.get_config())
    assert copy.get_config() == layer.get_config()
    copy.set_weights(layer.get_weights())
    assert_close(copy(X, MEMORY), expected)
