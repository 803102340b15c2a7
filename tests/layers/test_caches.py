"""Attention with every kind of cache equals attention to the whole sequence."""

import keras
import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from keras import ops

from keras_tfm.backend import compile_loop
from keras_tfm.layers import DecoderCache, MultiHeadAttention, TransformerDecoderStack
from keras_tfm.layers.cache_forms import KINDS
from keras_tfm.ops import KVCache, QuantizedKVCache, RollingKVCache
from tests.numerics import assert_close, randomize, to_numpy

B, T, N, K, H, V, D = 3, 13, 4, 2, 6, 5, 7
BOUND = {"full": 1.0, "rolling": 1.0, "int8": 2000.0}  # in units of rounding in float32
seeds = st.integers(0, 2**16)
CHUNKS = (5, 3, 5)  # of T, here and wherever it matters little: JAX compiles each size for each kind
chunkings = st.sampled_from([(1,) * T, CHUNKS])
sparingly = settings(max_examples=2) if keras.backend.backend() == "jax" else settings()


def attention(window=3, **arguments):
    layer = MultiHeadAttention(N, H, V, num_key_value_heads=K, sliding_window=window, **arguments)
    layer.build((B, T, D), (B, T, D))
    return randomize(layer, scale=D**-0.5)


LAYERS = {position: attention(position=position) for position in ("rope", "t5")}
LAYER = LAYERS["rope"]


def draw(seed, length=T):
    return np.random.default_rng(seed).normal(size=(B, length, D)).astype("float32")


def steps(layer, x, cache, chunks, index=0, **arguments):
    """Outputs of chunks from `index` on, and the cache after them."""
    outputs = []
    for size in chunks:
        part = x[:, index : index + size]
        output, cache = layer(part, part, use_causal_mask=True, cache=cache, cache_update_index=index, **arguments)
        outputs.append(to_numpy(output))
        index += size
    return np.concatenate(outputs, axis=1), cache


@pytest.mark.parametrize("kind", KINDS)
@sparingly
@given(seed=seeds, chunks=chunkings, position=st.sampled_from(list(LAYERS)))
def test_cached_chunks_equal_the_whole(kind, seed, chunks, position):
    layer, x = LAYERS[position], draw(seed)
    output, cache = steps(layer, x, layer.create_cache(B, T, kind), chunks)
    assert type(cache) is KINDS[kind]
    assert_close(output, layer(x, x, use_causal_mask=True), factor=BOUND[kind])


@pytest.mark.parametrize("kind", KINDS)
@sparingly
@given(seed=seeds, num_tokens=st.sampled_from([1, 5]))
def test_rows_may_stand_at_different_places(kind, seed, num_tokens):
    rng, x = np.random.default_rng(seed), draw(seed)
    places = rng.integers(0, T - num_tokens + 1, B)
    chosen = places[:, None] + np.arange(num_tokens)
    caches = [
        steps(LAYER, x, LAYER.create_cache(B, T, kind), [1] * int(place))[1] if place else None for place in places
    ]
    caches = [LAYER.create_cache(B, T, kind) if cache is None else cache for cache in caches]
    leaves = zip(
        *(KINDS[kind](*(leaf[row : row + 1] for leaf in cache)) for row, cache in enumerate(caches)), strict=True
    )
    cache = KINDS[kind](*(ops.concatenate(each, axis=0) for each in leaves))
    part = np.take_along_axis(x, chosen[..., None], axis=1)
    index = ops.convert_to_tensor(places, dtype="int32")
    output, _ = LAYER(part, part, use_causal_mask=True, cache=cache, cache_update_index=index)
    expected = to_numpy(LAYER(x, x, use_causal_mask=True))
    assert_close(output, np.take_along_axis(expected, chosen[..., None], axis=1), factor=BOUND[kind])


@pytest.mark.parametrize("kind", KINDS)
@sparingly
@given(seed=seeds, room=st.sampled_from([0, 1]))
def test_padding_on_the_left_and_its_positions_are_those_of_the_sequence(kind, seed, room):
    rng, x = np.random.default_rng(seed), draw(seed)
    starts = rng.integers(0, T, (B, 1))
    positions = np.maximum(np.arange(T + room) - starts, 0).astype("int32")
    real = np.arange(T + room) >= starts
    whole = dict(padding_mask=real[:, :T], query_positions=positions[:, :T], key_positions=positions[:, :T])
    expected = to_numpy(LAYER(x, x, use_causal_mask=True, **whole))
    cache, index = LAYER.create_cache(B, T + room, kind), 0
    for size in CHUNKS:
        part, end = x[:, index : index + size], index + size
        output, cache = LAYER(
            part,
            part,
            use_causal_mask=True,
            padding_mask=real,
            query_positions=positions[:, index:end],
            key_positions=positions,
            cache=cache,
            cache_update_index=index,
        )
        is_real = real[:, index:end, None]
        assert_close(
            np.where(is_real, to_numpy(output), 0), np.where(is_real, expected[:, index:end], 0), factor=BOUND[kind]
        )
        index = end


@pytest.mark.parametrize("kind", KINDS)
def test_padding_of_the_new_tokens_is_enough_while_they_are_new(kind):
    x, real = draw(1), np.random.default_rng(1).random((B, T)) < 0.6
    expected = to_numpy(LAYER(x, x, use_causal_mask=True, padding_mask=real))
    for index in (0, ops.convert_to_tensor([0] * B, dtype="int32")):
        cache = LAYER.create_cache(B, T + 1, kind)
        output, _ = LAYER(x, x, use_causal_mask=True, padding_mask=real, cache=cache, cache_update_index=index)
        assert_close(output, expected, factor=BOUND[kind])


@pytest.mark.parametrize("kind", KINDS)
def test_segments_are_those_of_the_sequence(kind):
    x, ids = draw(2), np.cumsum(np.random.default_rng(2).random((B, T)) < 0.3, axis=1).astype("int32")
    expected, cache = to_numpy(LAYER(x, x, use_causal_mask=True, segment_ids=ids)), LAYER.create_cache(B, T, kind)
    for start, end in ((0, 5), (5, 8), (8, 13)):
        segments = dict(segment_ids=ids[:, start:end], key_segment_ids=ids)
        output, cache = steps(LAYER, x[:, :end], cache, [end - start], start, **segments)
        assert_close(output, expected[:, start:end], factor=BOUND[kind])


@pytest.mark.parametrize("kind", ["full", "int8"])
def test_without_causality_what_is_written_so_far_is_seen(kind):
    x, layer = draw(3), attention(window=None)
    _, cache = layer(x[:, :3], x[:, :3], cache=layer.create_cache(B, T, kind), cache_update_index=0)
    index = ops.convert_to_tensor([3] * B, dtype="int32")
    expected = to_numpy(layer(x[:, :8], x[:, :8]))[:, 3:]
    for place in (3, index):
        output, _ = layer(x[:, 3:8], x[:, 3:8], cache=cache, cache_update_index=place)
        assert_close(output, expected, factor=BOUND[kind])


@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize("is_trimmed", [False, True])
def test_it_goes_on_from_an_earlier_position(kind, is_trimmed):
    """After a trim, or simply written over; a rolling cache with as many slots to spare."""
    x, read, back = draw(9), 8, 5
    expected = to_numpy(LAYER(x, x, use_causal_mask=True))[:, read - back :]
    cache = LAYER.create_cache(B, T, kind)
    if kind == "rolling":
        cache = RollingKVCache.create(B, 3 + back, K, H, V)
    other = x.copy()
    other[:, read - back :] += 1
    _, cache = steps(LAYER, other[:, :read], cache, [3, 5])
    cache = cache.trim(read - back).grown(T) if is_trimmed else cache
    output, _ = steps(LAYER, x, cache, [5, 5], read - back)
    assert_close(output, expected, factor=BOUND[kind])


@pytest.mark.parametrize("kind", KINDS)
def test_reordered_rows_are_decoded_as_such(kind):
    x, rows = draw(4), [2, 2, 0]
    _, cache = steps(LAYER, x, LAYER.create_cache(B, T, kind), CHUNKS[:2])
    output, _ = steps(LAYER, x[rows], cache.reorder(ops.convert_to_tensor(rows)), CHUNKS[2:], 8)
    assert_close(output, to_numpy(LAYER(x, x, use_causal_mask=True))[rows, 8:], factor=BOUND[kind])


def test_int8_moves_the_output_by_what_eight_bits_round():
    """Values by 1/254 of their greatest at most; logits by 1/254 of the greatest key times the norm of the query."""
    layer, x = attention(window=None, use_bias=False), draw(5)
    exact, cached = layer.create_cache(B, T), layer.create_cache(B, T, "int8")
    (exact, _), (near, _) = steps(layer, x, exact, [T]), steps(layer, x, cached, [T])
    assert 0 < np.abs(near - exact).max() < 0.02 * np.abs(exact).max()


@pytest.mark.parametrize("kind", KINDS)
def test_leaves_alone_are_the_kind_they_were(kind):
    """As `load_model` gives them back."""
    x = draw(6, 2)
    cache = LAYER.create_cache(B, T, kind)
    for form in (tuple, list):
        _, after = LAYER(x, x, use_causal_mask=True, cache=form(cache), cache_update_index=0)
        assert type(after) is KINDS[kind]
    symbolic = [keras.KerasTensor(leaf.shape, leaf.dtype) for leaf in cache]
    for length in (1, 2):
        part = keras.KerasTensor((B, length, D))
        specs = LAYER.compute_output_spec(part, part, return_attention_scores=True, cache=tuple(symbolic))
        arguments = dict(use_causal_mask=True, cache=cache, cache_update_index=0, return_attention_scores=True)
        results = LAYER(x[:, :length], x[:, :length], **arguments)
        assert type(specs[-1]) is type(results[-1]) is KINDS[kind]
        for spec, result in zip(keras.tree.flatten(specs), keras.tree.flatten(results), strict=True):
            assert tuple(spec.shape) == tuple(result.shape)


def test_rolling_memory_is_the_window_s():
    assert LAYER.create_cache(B, 1000, "rolling").length == 3
    assert type(LAYER.create_cache(B, 3, "rolling")) is KVCache
    assert LAYER.create_cache(B, 1000, "rolling").num_bytes == LAYER.create_cache(B, 10000, "rolling").num_bytes
    assert type(LAYER.create_cache(B, 1000)) is KVCache


def stack(**arguments):
    decoder = TransformerDecoderStack(2, intermediate_dim=11, num_heads=3, position="rope", **arguments)
    decoder.build((B, T, 12), (B, 5, 12))
    decoder.built = True
    return randomize(decoder, scale=0.3)


@pytest.mark.parametrize("kind", ["full", "int8"])
def test_a_compiled_loop_of_a_decoder_equals_the_whole(kind):
    decoder = stack()
    rng = np.random.default_rng(7)
    x, memory = (ops.convert_to_tensor(rng.normal(size=(B, n, 12)).astype("float32")) for n in (T, 5))
    starts = ops.convert_to_tensor([0, 2, 1], dtype="int32")  # rows begin at places of their own: later ones read 0s

    def decode(x, memory, starts):
        def step(count, cache, outputs):
            index = starts + count
            token = ops.take_along_axis(x, index[:, None, None], axis=1)
            output, cache = decoder(token, cache=cache, cache_update_index=index)
            is_here = ops.arange(T)[None, :, None] == index[:, None, None]
            return count + 1, cache, ops.where(is_here, output, outputs)

        cache = decoder.create_cache(B, T, memory, kind=kind)
        _, cache = decoder(x[:, :2], cache=cache, cache_update_index=0)
        state = (ops.convert_to_tensor(0, dtype="int32"), cache, ops.zeros_like(x))
        return ops.while_loop(lambda count, *_: count < T - 2, step, state)[2]

    output, expected = (
        to_numpy(compile_loop(decode, decoder.variables)(x, memory, starts)),
        to_numpy(decoder(x, memory)),
    )
    for row, start in enumerate([0, 2, 1]):
        assert_close(output[row, start : start + T - 2], expected[row, start : start + T - 2], factor=BOUND[kind])


def test_a_decoder_s_caches_are_one_value():
    decoder, memory = stack(), np.random.default_rng(8).normal(size=(B, 5, 12)).astype("float32")
    cache = decoder.create_cache(B, T, memory)
    assert decoder.create_cache(B, T, memory, kind="int8").num_bytes < cache.num_bytes
    shorter = cache.trim(4)
    assert [each.length for each in (*shorter.self_attention, *shorter.cross_attention)] == [4, 4, 5, 5]
    assert shorter.grown(6).self_attention[1].length == 6
    rows = cache.reorder(ops.convert_to_tensor([1, 1]))
    for leaf, old in zip(keras.tree.flatten(rows), keras.tree.flatten(cache), strict=True):
        np.testing.assert_array_equal(ops.convert_to_numpy(leaf), ops.convert_to_numpy(old)[[1, 1]])


def test_a_decoder_s_caches_come_from_one_tensor_and_go_into_it():
    rng = np.random.default_rng(9)
    own, cross = (rng.normal(size=(B, 2, 2, length, 3, 4)).astype("float32") for length in (T, 5))
    cache = DecoderCache.from_keras_hub(own, cross)
    assert_close(cache.self_attention[1].value, own[:, 1, 1])
    assert_close(cache.to_keras_hub(), (own, cross))
    assert_close(DecoderCache.from_keras_hub(own).to_keras_hub(), own)


@pytest.mark.parametrize(
    ("call", "message"),
    [
        (lambda: LAYER.create_cache(B, T, "paged"), "`kind` must be one of .*Received: kind='paged'"),
        (lambda: attention(window=None).create_cache(B, T, "rolling"), "Received: sliding_window=None"),
        (
            lambda: steps(attention(window=4), draw(0), LAYER.create_cache(B, T, "rolling"), [1]),
            "of at most its length. Received: sliding_window=4, cache of length 3",
        ),
        (
            lambda: LAYER(draw(0), None, cache=LAYER.create_cache(B, T, "rolling")),
            "needs `cache_update_index`. Received: cache_update_index=None",
        ),
        (
            lambda: LAYER(draw(0), draw(0), cache=(draw(0),), cache_update_index=0),
            "`cache` must be a `KVCache`.*Received: a cache of 1 leaves",
        ),
        (
            lambda: DecoderCache((QuantizedKVCache.create(B, T, K, H),)).to_keras_hub(),
            r"can hold full caches only.*Received: \['QuantizedKVCache'\]",
        ),
        (
            lambda: DecoderCache((KVCache.create(B, T, K, H, V),)).to_keras_hub(),
            r"of one size. Received: \['KVCache'\], sizes \[\(6, 5\)\]",
        ),
    ],
)
def test_a_wrong_cache_is_named(call, message):
    with pytest.raises(ValueError, match=message):
        call()
