"""The promises of all kinds of caches, against plain numpy."""

import keras
import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from keras import ops

from keras_tfm.ops import KVCache, QuantizedKVCache, RollingKVCache
from tests.numerics import to_numpy

B, S, K, H, V = 3, 7, 2, 5, 11
KINDS = [KVCache, RollingKVCache, QuantizedKVCache]
seeds = st.integers(0, 2**16)


def heads(rng, num_tokens, key_dim=H, value_dim=V):
    return [rng.normal(size=(B, num_tokens, K, dim)).astype("float32") for dim in (key_dim, value_dim)]


def as_vector(index):
    return ops.convert_to_tensor(index, dtype="int32")


def arrays(cache):
    return [ops.convert_to_numpy(leaf) for leaf in cache]


@pytest.mark.parametrize("kind", KINDS)
@given(seed=seeds, num_tokens=st.sampled_from([1, 3]))
def test_rows_of_their_own_place_are_rows_written_alone(kind, seed, num_tokens):
    rng = np.random.default_rng(seed)
    cache = kind.create(B, S, K, H, V).write(*heads(rng, S), 0)
    new, index = heads(rng, num_tokens), rng.integers(0, S - num_tokens + 1, B)
    together = arrays(cache.write(*new, as_vector(index)))
    for row in range(B):
        alone = arrays(
            kind(*(leaf[row : row + 1] for leaf in cache)).write(*(x[row : row + 1] for x in new), index[row])
        )
        for leaf, one in zip(together, alone, strict=True):
            np.testing.assert_array_equal(leaf[row : row + 1], one)


@pytest.mark.parametrize("as_given", [int, as_vector])
def test_a_full_cache_holds_what_was_written(as_given):
    rng = np.random.default_rng(0)
    expected, new = heads(rng, S), heads(rng, 2)
    cache = KVCache.create(B, S, K, H, V).write(*expected, 0).write(*new, as_given(3))
    for leaf, old, x in zip(cache.read("float32"), expected, new, strict=True):
        old[:, 3:5] = x
        np.testing.assert_array_equal(ops.convert_to_numpy(leaf), old)


def test_reading_a_full_cache_adds_no_operation():
    cache = KVCache.create(B, S, K, H, V)
    assert all(read is leaf for read, leaf in zip(cache.read("float32"), cache, strict=True))
    assert all(read.dtype == leaf.dtype for read, leaf in zip(cache.read(), cache, strict=True))


@given(seed=seeds, sizes=st.lists(st.sampled_from([1, 2, 9]), min_size=1, max_size=4), is_vector=st.booleans())
def test_a_rolling_cache_holds_the_last_positions(seed, sizes, is_vector):
    rng = np.random.default_rng(seed)
    whole, cache, index = heads(rng, sum(sizes)), RollingKVCache.create(B, S, K, H, V), 0
    for size in sizes:
        place = as_vector([index] * B) if is_vector else index
        cache, index = cache.write(*(x[:, index : index + size] for x in whole), place), index + size
    key, value, positions = arrays(cache)
    expected = [max((p for p in range(index) if p % S == slot), default=-1) for slot in range(S)]
    np.testing.assert_array_equal(positions, [expected] * B)
    for slot, position in enumerate(expected):
        for leaf, x in zip((key, value), whole, strict=True):
            np.testing.assert_array_equal(leaf[:, slot], x[:, position] if position >= 0 else 0)


@given(seed=seeds, num_tokens=st.sampled_from([1, 2, 9]))
def test_the_keys_of_a_rolling_call_stand_where_it_says(seed, num_tokens):
    """Their heads hold their positions, after a part was taken back."""
    rng = np.random.default_rng(seed)
    index, further = int(rng.integers(0, 12)), int(rng.integers(0, 3))

    def numbered(start, length):
        return np.broadcast_to(np.arange(start, start + length, dtype="float32")[:, None, None], (B, length, K, H))

    cache = RollingKVCache.create(B, S, K, H)
    if index + further:
        cache = cache.write(numbered(0, index + further), numbered(0, index + further), 0)
    new = numbered(index, num_tokens)
    positions = ops.convert_to_numpy(cache.key_positions(index, num_tokens))
    key, value, after = cache.update(ops.convert_to_tensor(new), ops.convert_to_tensor(new), index)
    assert positions.shape[1] == key.shape[1] == value.shape[1] == cache.num_keys(num_tokens)
    for one in (key, value):
        held = ops.convert_to_numpy(one)[..., 0, 0]
        np.testing.assert_array_equal(np.where(positions < 0, -1, held), positions)
    seen = set(positions[0]) - {-1}
    assert seen >= set(range(max(0, index + further - S, index - S + 1), index + num_tokens)) - set(
        range(index + num_tokens - S) if num_tokens == 1 else ()
    )
    assert after.length == S


@given(seed=seeds, magnitude=st.sampled_from([1e-8, 1.0, 1e8]))
def test_int8_is_within_its_bound(seed, magnitude):
    rng = np.random.default_rng(seed)
    new = [x * np.float32(magnitude) for x in heads(rng, S)]
    cache = QuantizedKVCache.create(B, S, K, H, V).write(*new, 0)
    assert [keras.backend.standardize_dtype(leaf.dtype) for leaf in cache] == ["int8", "int8", "float32", "float32"]
    for read, x in zip(cache.read(), new, strict=True):
        bound = np.abs(x).max(-1, keepdims=True) / 254
        assert (np.abs(ops.convert_to_numpy(read) - x) <= bound * 1.0001).all()


@pytest.mark.parametrize("dtype", ["float16", "bfloat16"])
def test_int8_reads_in_any_dtype(dtype):
    new = heads(np.random.default_rng(0), S)
    exact, rounded = (QuantizedKVCache.create(B, S, K, H, V).write(*new, 0).read(each) for each in ("float32", dtype))
    for x, y in zip(exact, rounded, strict=True):
        assert keras.backend.standardize_dtype(y.dtype) == dtype
        np.testing.assert_allclose(to_numpy(y), to_numpy(x), rtol=2**-8)


def test_int8_of_zeros_is_zero():
    zeros = np.zeros((B, S, K, H), "float32")
    for read in QuantizedKVCache.create(B, S, K, H).write(zeros, zeros, 0).read():
        np.testing.assert_array_equal(ops.convert_to_numpy(read), 0)


@pytest.mark.parametrize("kind", KINDS)
def test_reorder_takes_rows_of_all_leaves(kind):
    cache = kind.create(B, S, K, H, V).write(*heads(np.random.default_rng(0), 4), 0)
    rows = [2, 0, 0, 1]
    taken = cache.reorder(as_vector(rows))
    assert type(taken) is kind
    for leaf, old in zip(arrays(taken), arrays(cache), strict=True):
        np.testing.assert_array_equal(leaf, old[rows])


@pytest.mark.parametrize("kind", [KVCache, QuantizedKVCache])
def test_trimmed_and_grown_caches_keep_what_fits(kind):
    cache = kind.create(B, S, K, H, V).write(*heads(np.random.default_rng(0), S), 0)
    changed = cache.trim(4).grown(9)
    assert type(changed) is kind and changed.length == 9 and cache.trim(4).length == 4
    for leaf, old in zip(arrays(changed), arrays(cache), strict=True):
        np.testing.assert_array_equal(leaf[:, :4], old[:, :4])
        assert (leaf[:, 4:] == 0).all()
    assert cache.grown(3).length == S


def test_a_trimmed_rolling_cache_forgets_what_came_later():
    cache = RollingKVCache.create(B, S, K, H, V).write(*heads(np.random.default_rng(0), 9), 0)
    np.testing.assert_array_equal(arrays(cache.trim(6))[2][0], [-1, -1, 2, 3, 4, 5, -1])
    np.testing.assert_array_equal(arrays(cache.trim(as_vector([6, 9, 3])))[2][2], [-1, -1, 2, -1, -1, -1, -1])
    assert cache.grown(100) is cache


def test_bytes_are_counted():
    sizes = {kind: kind.create(B, 64, K, 32).num_bytes for kind in KINDS}
    assert sizes[KVCache] == 2 * B * 64 * K * 32 * 4
    assert sizes[KVCache] / sizes[QuantizedKVCache] > 3.5
    assert KVCache.create(B, S, K, H, dtype="bfloat16").num_bytes == 2 * B * S * K * H * 2
    assert RollingKVCache.create(B, S, K, H).num_bytes == 2 * B * S * K * H * 4 + B * S * 4


@pytest.mark.parametrize("kind", [KVCache, QuantizedKVCache])
@pytest.mark.parametrize("index", [5, -1, "vector"])
def test_what_does_not_fit_is_refused(kind, index):
    index, wrong = (as_vector([0, 5, 2]), 5) if index == "vector" else (index, index)
    with pytest.raises(ValueError, match=f"`cache` is too short.*Received: .*length 7, 3 .*cache_update_index={wrong}"):
        kind.create(B, S, K, H, V).write(*heads(np.random.default_rng(0), 3), index)


@pytest.mark.parametrize("kind", KINDS)
def test_heads_of_other_sizes_are_refused(kind):
    with pytest.raises(ValueError, match=r"heads of sizes \(\(2, 5\), \(2, 5\)\).*Received: .*\(3, 7, 2, 11\)"):
        kind.create(B, S, K, H, V).check_heads(K, H, H, window=3, index=0)
