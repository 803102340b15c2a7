"""A LoopCache is the cache that it was made of in another layout, and reordering its rows moves none of them."""

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from keras import ops

from keras_tfm.layers import MultiHeadAttention
from keras_tfm.ops import KVCache, QuantizedKVCache, RollingKVCache
from keras_tfm.ops.loop_cache import LoopCache, in_loop_form

R, S, K, H, V = 3, 7, 2, 5, 11
KINDS = [KVCache, QuantizedKVCache]


def heads(rng, num_tokens=1):
    return [ops.convert_to_tensor(rng.normal(size=(R, num_tokens, K, dim)).astype("float32")) for dim in (H, V)]


def tensor(rows):
    return ops.convert_to_tensor(rows, dtype="int32")


def check_equal(received, expected):
    for one, other in zip(received, expected, strict=True):
        np.testing.assert_array_equal(ops.convert_to_numpy(one), ops.convert_to_numpy(other))


@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize(
    "prepare", [lambda cache: cache, lambda cache: cache.reorderable(R)], ids=["in place", "by origins"]
)
@given(seed=st.integers(0, 2**16))
def test_steps_and_reorderings_are_those_of_the_kind(kind, prepare, seed):
    rng = np.random.default_rng(seed)
    expected = kind.create(R, S, K, H, V).write(*heads(rng, 3), 0)
    cache = prepare(LoopCache.of(expected))
    for index in range(3, S):
        new, rows = heads(rng), tensor(rng.integers(0, R, R))
        cache = cache.write(*new, index)
        *wanted, expected = expected.update(*new, index, "float32")
        check_equal(cache.settled().read("float32"), wanted)
        check_equal((cache.key, cache.value), expected[:2])
        cache, expected = cache.reorder(rows), expected.reorder(rows)
    assert type(cache.settled()) is kind
    check_equal(cache.settled(), expected)


def test_rows_may_be_written_at_places_of_their_own():
    new, index = heads(np.random.default_rng(0), 2), tensor([4, 0, 5])
    expected = KVCache.create(R, S, K, H, V)
    cache = LoopCache.of(expected).reorderable(R).write(*new, index)
    check_equal(cache.settled(), expected.write(*new, index))


def test_a_table_of_origins_is_all_that_reordering_adds():
    cache = LoopCache.of(KVCache.create(R, S, K, H, V))
    assert (cache.length, cache.num_keys(1), cache.num_bytes) == (S, S, R * S * K * (H + V) * 4)
    assert cache.reorderable(R).num_bytes == cache.num_bytes + R * S * 4


def test_what_does_not_fit_is_refused():
    cache = LoopCache.of(KVCache.create(R, S, K, H, V))
    with pytest.raises(ValueError, match="`cache` is too short.*Received: .*length 7, 3 .*cache_update_index=5"):
        cache.write(*heads(np.random.default_rng(0), 3), 5)
    with pytest.raises(ValueError, match=r"heads of sizes \(\(2, 5\), \(2, 5\)\).*Received: .*\(3, 7, 2, 11\)"):
        cache.check_heads(K, H, H)


def test_a_layer_reads_through_it():
    rng = np.random.default_rng(0)
    layer, rows = MultiHeadAttention(4, 6, num_key_value_heads=2, position="rope"), tensor([2, 0, 0])
    x = ops.convert_to_tensor(rng.normal(size=(R, 4, 12)).astype("float32"))
    layer.build(x.shape, x.shape)
    outputs = []
    for form in (lambda cache: cache, lambda cache: LoopCache.of(cache).reorderable(R)):
        _, cache = layer(x[:, :3], x[:, :3], cache=form(layer.create_cache(R, S)), cache_update_index=0)
        output, cache = layer(x[:, 3:], x[:, 3:], use_causal_mask=True, cache=cache.reorder(rows), cache_update_index=3)
        assert cache.length == S
        outputs.append(ops.convert_to_numpy(output))
    np.testing.assert_allclose(*outputs, rtol=1e-5, atol=1e-6)


def test_the_other_parts_of_a_state_stay():
    rolling, place = RollingKVCache.create(R, S, K, H), ops.zeros((R,))
    state = in_loop_form((rolling, [KVCache.create(R, S, K, H)], place))
    assert (
        type(state[0]) is RollingKVCache
        and state[0].key is rolling.key
        and state[2] is place
        and type(state[1][0]) is LoopCache
    )
