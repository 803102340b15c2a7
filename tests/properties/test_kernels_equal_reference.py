"""Law 6: every kernel equals a plain float64 computation, value and gradient."""

import functools

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from keras import ops as keras_ops

from keras_tfm import ops
from tests import oracles
from tests.numerics import assert_close, compiled_on_jax, to_numpy, value_and_gradients
from tests.properties.configurations import (
    DTYPES,
    KERNELS,
    allowed,
    attention_mask,
    few_sizes,
    masks,
    normal,
    seeds,
    sizes,
    sparingly,
)


def heads(rng, sizes, dtype):
    """Random query, key, value and gradient from above, rounded to `dtype`."""
    key = (sizes.batch, sizes.keys, sizes.shared)
    query = (sizes.batch, sizes.queries, sizes.heads)
    shapes = [(*query, sizes.key_dim), (*key, sizes.key_dim), (*key, sizes.value_dim), (*query, sizes.value_dim)]
    return [to_numpy(keras_ops.convert_to_tensor(normal(rng, *shape), dtype=dtype)) for shape in shapes]


@pytest.mark.parametrize("kernel", KERNELS)
@pytest.mark.parametrize("dtype", DTYPES)
@sparingly
@given(sizes=few_sizes, masks=masks, has_bias=st.booleans(), seed=seeds)
def test_every_kernel_equals_float64_in_value_and_gradient(kernel, dtype, sizes, masks, has_bias, seed):
    rng = np.random.default_rng(seed)
    *inputs, upstream = heads(rng, sizes, dtype)
    parts = masks.draw(rng, sizes)
    mask = attention_mask(parts)
    bias = normal(rng, sizes.heads, sizes.queries, sizes.keys) if has_bias else None

    def attend(query, key, value):
        return ops.attention(
            query, key, value, mask, bias=None if bias is None else keras_ops.convert_to_tensor(bias, dtype=dtype)
        )[0]

    with ops.use_kernel(kernel):
        output, gradients = value_and_gradients(attend, inputs, upstream, dtype, is_compiled=kernel == "block")
    known = dict(allowed=allowed(parts, sizes), bias=0.0 if bias is None else bias)
    assert_close(output, oracles.attention(*inputs, **known)[0], dtype, message=mask)
    assert_close(gradients, oracles.attention_gradients(*inputs, upstream, **known), dtype, message=mask)


@pytest.mark.parametrize("soft_cap", [None, 0.7, 30.0])
@sparingly
@given(sizes=few_sizes, masks=masks, scale=st.sampled_from([None, 0.3, 1.0]), seed=seeds)
def test_the_reference_has_scores_scale_and_soft_cap(soft_cap, sizes, masks, scale, seed):
    rng = np.random.default_rng(seed)
    *inputs, upstream = heads(rng, sizes, "float32")
    parts = masks.draw(rng, sizes)
    options = dict(scale=scale, soft_cap=soft_cap)
    arguments = dict(mask=attention_mask(parts), scale=scale, logit_soft_cap=soft_cap)
    expected, expected_scores = oracles.attention(*inputs, allowed(parts, sizes), **options)
    tensors = [keras_ops.convert_to_tensor(x, dtype="float32") for x in inputs]
    output, scores = ops.attention(*tensors, return_scores=True, **arguments)
    assert_close([output, scores], [expected, expected_scores])
    expected = oracles.attention_gradients(*inputs, upstream, allowed(parts, sizes), **options)
    for kernel in ("dense", "reference"):
        with ops.use_kernel(kernel):
            _, gradients = value_and_gradients(lambda *x: ops.attention(*x, **arguments)[0], inputs, upstream)
        assert_close(gradients, expected, message=kernel)


@pytest.mark.parametrize("kernel", KERNELS)
@given(sizes=sizes, seed=seeds, offset=st.integers(0, 3))
def test_every_kernel_counts_positions_from_the_offset(kernel, sizes, seed, offset):
    """Causal attention of a few queries to a longer cache: aligned by position, not to a corner of the mask."""
    rng = np.random.default_rng(seed)
    *inputs, _ = heads(rng, sizes, "float32")
    expected = oracles.attention(
        *inputs,
        oracles.allowed_pairs(sizes.batch, sizes.heads, sizes.queries, sizes.keys, causal=True, offset=offset),
    )[0]
    tensors = [keras_ops.convert_to_tensor(x, dtype="float32") for x in inputs]
    for start in (offset, keras_ops.convert_to_tensor(offset, dtype="int32")):
        mask = ops.AttentionMask(is_causal=True, query_offset=start)
        attend = functools.partial(_output, mask=mask)
        with ops.use_kernel(kernel):
            assert_close((compiled_on_jax(attend) if kernel == "block" else attend)(*tensors), expected)


def _output(*heads, mask):
    return ops.attention(*heads, mask)[0]


@pytest.mark.parametrize("kernel", KERNELS)
@pytest.mark.parametrize("shape", [(1, 1, 5, 7), (5, 7), (2, 1, 1, 7), (1, 6, 5, 1)])
def test_a_bias_broadcasts(kernel, shape):
    rng = np.random.default_rng(0)
    query, key, value = (normal(rng, 2, length, n, 4) for length, n in ((5, 6), (7, 3), (7, 3)))
    bias = normal(rng, *shape)
    mask = ops.AttentionMask(key_padding=keras_ops.convert_to_tensor(np.arange(7)[None] < [[7], [4]]))
    with ops.use_kernel(kernel):
        tensors = map(keras_ops.convert_to_tensor, (query, key, value))
        output, _ = ops.attention(*tensors, mask, bias=keras_ops.convert_to_tensor(bias))
    real = np.broadcast_to((np.arange(7)[None] < [[7], [4]])[:, None, None], (2, 6, 5, 7))
    assert_close(output, oracles.attention(query, key, value, real, bias=bias)[0])


@pytest.mark.parametrize("kernel", KERNELS)
@pytest.mark.parametrize("dtype", DTYPES)
def test_a_large_bias_that_a_row_has_in_common_is_not_rounded(kernel, dtype):
    """As relative positions give for keys that are all far away."""
    rng = np.random.default_rng(0)
    query, key, value = (to_numpy(keras_ops.convert_to_tensor(normal(rng, 2, 7, 2, 4), dtype=dtype)) for _ in range(3))
    bias = normal(rng, 1, 2, 7, 7) - 300
    real = np.arange(7) < [[7], [4]]
    mask = ops.AttentionMask(key_padding=keras_ops.convert_to_tensor(real))
    with ops.use_kernel(kernel):
        tensors = [keras_ops.convert_to_tensor(x, dtype=dtype) for x in (query, key, value)]
        output, _ = ops.attention(*tensors, mask, bias=keras_ops.convert_to_tensor(bias))
    expected, _ = oracles.attention(query, key, value, real[:, None, None], bias=bias)
    assert_close(output, expected, dtype, factor=3)
