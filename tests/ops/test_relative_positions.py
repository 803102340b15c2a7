"""Distances, buckets, and lookups by distance."""

import math

import numpy as np
import pytest
from keras import ops

from keras_tfm.ops.relative_positions import (
    clipped,
    disentangled_index,
    distances,
    gather_by_distance,
    grid_distances,
    log_buckets,
    sinusoid_logits,
    sum_by_distance,
    t5_buckets,
)
from tests.numerics import assert_close, to_numpy, value_and_gradients


def published_t5_bucket(relative_position, bidirectional, num_buckets, max_distance):
    """The authors' function in float32, as it is in mesh_tensorflow; key minus query."""
    result, n = 0, -relative_position
    if bidirectional:
        num_buckets //= 2
        result += (n < 0) * num_buckets
        n = np.abs(n)
    else:
        n = np.maximum(n, 0)
    max_exact = num_buckets // 2
    with np.errstate(divide="ignore"):
        large = np.log(n.astype("float32") / np.float32(max_exact)) / np.float32(math.log(max_distance / max_exact))
        large = max_exact + np.where(n > 0, large * np.float32(num_buckets - max_exact), 0).astype("int32")
    return result + np.where(n < max_exact, n, np.minimum(large, num_buckets - 1))


@pytest.mark.parametrize("bidirectional", [True, False])
@pytest.mark.parametrize("num_buckets, max_distance", [(32, 128), (16, 64), (64, 256), (128, 1024)])
def test_t5_buckets_are_the_published_ones(num_buckets, max_distance, bidirectional):
    """Of T5's own sizes, and of others whose bounds fall on powers of two: there float32 is exact too."""
    places = np.arange(-2 * max_distance, 2 * max_distance + 1)
    table = t5_buckets(num_buckets, max_distance, bidirectional)
    received = table[np.clip(places, -max_distance, max_distance) + max_distance]
    np.testing.assert_array_equal(received, published_t5_bucket(places, bidirectional, num_buckets, max_distance))
    assert set(received) <= set(range(num_buckets))


def test_t5_buckets_at_bounds_that_floats_may_miss():
    """Three exact buckets, then bounds at 3 · 81 ** (k / 3): compared here in integers."""
    side = t5_buckets(6, 243, bidirectional=False)[:244][::-1]
    expected = [d if d < 3 else 3 + sum(d**3 >= 27 * 81**k for k in (1, 2)) for d in range(244)]
    np.testing.assert_array_equal(side, expected)


def published_log_bucket(relative_pos, bucket_size, max_position):
    """The authors' function; query minus key."""
    sign, mid = np.sign(relative_pos), bucket_size // 2
    abs_pos = np.where((relative_pos < mid) & (relative_pos > -mid), mid - 1, np.abs(relative_pos))
    log_pos = np.ceil(np.log(abs_pos / mid) / np.log((max_position - 1) / mid) * (mid - 1)) + mid
    return np.where(abs_pos <= mid, relative_pos, log_pos * sign).astype(int)


@pytest.mark.parametrize("num_buckets, max_distance", [(256, 512), (8, 30), (4, 8), (32, 128)])
def test_log_buckets_are_the_published_ones(num_buckets, max_distance):
    places = np.arange(-3 * max_distance, 3 * max_distance + 1)
    published = np.clip(published_log_bucket(places, num_buckets, max_distance) + num_buckets, 0, 2 * num_buckets - 1)
    received = disentangled_index(
        ops.convert_to_tensor(places, dtype="int32"), ops.convert_to_tensor([0]), max_distance, num_buckets
    )
    np.testing.assert_array_equal(to_numpy(received)[0, :, 0], published)
    table = log_buckets(num_buckets, max_distance)
    np.testing.assert_array_equal(table, -table[::-1])


@pytest.mark.parametrize("query_rank, key_rank", [(1, 1), (1, 2), (2, 1), (2, 2)])
def test_distances_of_each_form_of_positions(query_rank, key_rank):
    queries, keys = np.array([[5, 0], [2, 9]]), np.array([[1, 4, 4], [7, 0, 3]])
    queries, keys = (x if rank == 2 else x[0] for x, rank in ((queries, query_rank), (keys, key_rank)))
    expected = np.atleast_2d(keys)[:, None, :] - np.atleast_2d(queries)[:, :, None]
    received = distances(ops.convert_to_tensor(queries), ops.convert_to_tensor(keys))
    np.testing.assert_array_equal(to_numpy(received), expected)
    np.testing.assert_array_equal(to_numpy(clipped(received, 3)), np.clip(expected, -3, 3) + 3)


def test_distances_on_a_grid():
    shape = (3, 4, 5)
    queries, keys = np.array([0, 59, 23]), np.array([7, 42])
    received = grid_distances(*(ops.convert_to_tensor(x, dtype="int32") for x in (queries, keys)), shape)
    places = [np.stack(np.unravel_index(x, shape)) for x in (queries, keys)]
    for axis, each in enumerate(received):
        np.testing.assert_array_equal(to_numpy(each)[0, 0], places[1][axis][None, :] - places[0][axis][:, None])


@pytest.mark.parametrize("rows", [1, 2])
def test_sums_and_lookups_are_transposes(rows):
    """`<gather(x), y> = <x, sum(y)>`, so that one is the other's gradient."""
    rng = np.random.default_rng(0)
    index = ops.convert_to_tensor(rng.integers(0, 4, (rows, 3, 5)), dtype="int32")
    x, y = rng.normal(size=(2, 3, 7, 4)), rng.normal(size=(2, 7, 3, 5))
    gathered, (gradient,) = value_and_gradients(lambda x: gather_by_distance(x, index), [x], y)
    expected = np.take_along_axis(x.transpose(0, 2, 1, 3), to_numpy(index)[:, None], axis=-1)
    assert_close(gathered, expected)
    summed, (back,) = value_and_gradients(lambda y: sum_by_distance(y, index, 4), [y], x)
    assert_close(summed, gradient)
    assert_close(back, gathered)
    wanted = np.zeros((2, 3, 7, 4))
    for b, n, t, s in np.ndindex(y.shape):
        wanted[b, t, n, to_numpy(index)[b % rows, t, s]] += y[b, n, t, s]
    assert_close(summed, wanted)


def test_sinusoids_of_distances_without_a_tensor_for_each_pair():
    rng = np.random.default_rng(0)
    speeds = np.array([1.0, 0.37, 0.011])
    content = rng.normal(size=(2, 3, 4, 6))
    for queries, keys in (
        (np.arange(3) + 9, np.arange(5)),
        (rng.integers(0, 10**6, (2, 3)), rng.integers(0, 10**6, (2, 5))),
        (rng.integers(0, 10**6, (2, 3)), np.arange(5)),
    ):
        received = sinusoid_logits(ops.convert_to_tensor(content, dtype="float32"), queries, keys, speeds)
        angles = speeds * (queries[..., :, None, None] - keys[..., None, :, None])
        table = np.concatenate([np.sin(angles), np.cos(angles)], axis=-1)
        table = table if table.ndim == 4 else table[None]
        assert_close(received, np.einsum("btnf,btsf->bnts", content, np.broadcast_to(table, (2, 3, 5, 6))))
