"""Law 4: a row with nothing to attend to is zero, on all kernels, forward and backward; never NaN."""

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from keras import ops as keras_ops

from keras_tfm import layers, ops
from tests.numerics import assert_close, to_numpy, value_and_gradients
from tests.properties.configurations import (
    DTYPES,
    KERNELS,
    SOME_SIZES,
    AttentionLayer,
    allowed,
    attention_mask,
    few_sizes,
    masks,
    normal,
    seeds,
    sparingly,
)


@pytest.mark.parametrize("kernel", KERNELS)
@sparingly
@given(sizes=few_sizes, masks=masks, seed=seeds, has_bias=st.booleans())
def test_attention_forward_and_backward(kernel, sizes, masks, seed, has_bias):
    rng = np.random.default_rng(seed)
    parts = masks.draw(rng, sizes)
    if parts["explicit"] is None:
        parts["explicit"] = rng.random((sizes.batch, sizes.queries, sizes.keys)) < 0.7
    parts["explicit"][0, ..., -1, :] = False
    query = normal(rng, sizes.batch, sizes.queries, sizes.heads, sizes.key_dim)
    key, value = (normal(rng, sizes.batch, sizes.keys, sizes.shared, dim) for dim in (sizes.key_dim, sizes.value_dim))
    bias = normal(rng, 1, 1, 1, sizes.keys) if has_bias else None
    mask = attention_mask(parts)

    def attend(query, key, value):
        return ops.attention(query, key, value, mask, bias=bias if bias is None else keras_ops.convert_to_tensor(bias))[
            0
        ]

    upstream = normal(rng, sizes.batch, sizes.queries, sizes.heads, sizes.value_dim)
    with ops.use_kernel(kernel):
        output, gradients = value_and_gradients(attend, [query, key, value], upstream, is_compiled=kernel == "block")
    rows = allowed(parts, sizes).any(-1).transpose(0, 2, 1)
    assert not rows.all()
    assert (output[~rows] == 0).all()
    assert (gradients[0][~rows] == 0).all()
    assert all(np.isfinite(each).all() for each in (output, *gradients))
    assert np.abs(output[rows]).min(initial=1) > 0


@pytest.mark.parametrize("kernel", KERNELS)
@pytest.mark.parametrize("dtype", DTYPES)
def test_a_sequence_that_is_all_padding(kernel, dtype):
    """Nothing is NaN or infinite in half precision either, where the smallest logits overflow."""
    rng = np.random.default_rng(0)
    arrays = [100 * normal(rng, 2, length, 3, 5) for length in (7, 2, 2)]
    mask = ops.AttentionMask(key_padding=keras_ops.convert_to_tensor(np.array([[False, False], [True, False]])))

    def attend(*heads):
        bias = keras_ops.full((1, 1, 7, 2), -1e4, dtype=dtype)
        return ops.attention(*heads, mask, bias=bias)[0]

    upstream = np.ones((2, 7, 3, 5))
    with ops.use_kernel(kernel):
        output, gradients = value_and_gradients(attend, arrays, upstream, dtype, is_compiled=kernel == "block")
    assert (output[0] == 0).all()
    assert all((gradient[0] == 0).all() and np.isfinite(gradient).all() for gradient in gradients)
    expected = to_numpy(keras_ops.convert_to_tensor(arrays[2], dtype=dtype))[1, :1]
    assert_close(output[1] / 100, np.broadcast_to(expected / 100, (7, 3, 5)), dtype)


@pytest.mark.parametrize("scores", [False, True])
def test_multi_head_attention_gives_zero_heads_and_zero_scores(scores):
    rng = np.random.default_rng(0)
    sizes = SOME_SIZES[0]
    layer = AttentionLayer(sizes).make()
    x = normal(rng, sizes.batch, sizes.queries, sizes.width)
    mask = np.ones((sizes.batch, sizes.queries), bool)
    mask[0] = False
    outputs = layer(x, x, padding_mask=mask, return_attention_scores=scores)
    output = to_numpy(outputs[0] if scores else outputs)
    assert_close(output[0], np.broadcast_to(to_numpy(layer._output_dense.bias), output[0].shape))
    if scores:
        assert (to_numpy(outputs[1])[0] == 0).all()


@pytest.mark.parametrize("normalize_first", [False, True])
def test_blocks_of_empty_sequences_are_finite(normalize_first):
    rng = np.random.default_rng(0)
    encoder = layers.TransformerEncoder(14, 3, normalize_first=normalize_first)
    decoder = layers.TransformerDecoder(14, 3, normalize_first=normalize_first)
    x, empty = normal(rng, 2, 5, 12), np.zeros((2, 5), bool)
    encoder(x), decoder(x, x)

    def run(x):
        memory = encoder(x, padding_mask=empty)
        return decoder(x, memory, decoder_padding_mask=empty, encoder_padding_mask=empty)

    output, (gradient,) = value_and_gradients(run, [x], np.ones(x.shape))
    assert np.isfinite(output).all()
    assert np.isfinite(gradient).all()
