"""Law 2 at its hardest: NaN and infinities where nobody may look reach no output and no gradient of what is real."""

import dataclasses
import functools

import keras
import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from keras import ops as keras_ops

from keras_tfm import layers, ops
from tests.numerics import assert_close, layer_gradients, randomize, to_numpy, value_and_gradients, with_mask
from tests.properties.configurations import (
    KERNELS,
    allowed,
    attention_layers,
    attention_mask,
    few_sizes,
    masks,
    normal,
    padding_mask,
    seeds,
    sparingly,
)

POISONS = [np.nan, np.inf, -np.inf]


def poisoned(rng, array, is_real):
    """The array with NaN and infinities where `is_real` is False."""
    array = array.copy()
    array[~is_real] = rng.choice(POISONS, array[~is_real].shape)
    return array


@pytest.mark.parametrize("kernel", KERNELS)
@sparingly
@given(sizes=few_sizes, masks=masks, seed=seeds)
def test_keys_and_values_that_no_query_sees(kernel, sizes, masks, seed):
    """Under any mask: padding, segments, explicit, patterns. Causality alone hides no key from all."""
    rng = np.random.default_rng(seed)
    parts = masks.draw(rng, sizes)
    alone = dict(causal=False, window=None, query_padding=None)
    if parts["key_padding"] is None and parts["explicit"] is None and parts["segments"] is None:
        parts["key_padding"] = padding_mask(rng, "holes", sizes.batch, sizes.keys)
    query = normal(rng, sizes.batch, sizes.queries, sizes.heads, sizes.key_dim)
    keys = [normal(rng, sizes.batch, sizes.keys, sizes.shared, dim) for dim in (sizes.key_dim, sizes.value_dim)]
    upstream = normal(rng, sizes.batch, sizes.queries, sizes.heads, sizes.value_dim)
    # What padding hides is hidden whatever else applies; what only causality or a window hides is not looked for.
    seen = allowed({**parts, **alone} if _by_index_alone(parts) else parts, sizes).any((1, 2))
    mask = attention_mask(parts)

    def attend(query, key, value):
        return ops.attention(query, key, value, mask)[0]

    compute = functools.partial(value_and_gradients, is_compiled=kernel == "block")
    with ops.use_kernel(kernel):
        clean = compute(attend, [query, *keys], upstream)
        dirty = compute(attend, [query, *(poisoned(rng, x, seen) for x in keys)], upstream)
    assert_close(dirty[0], clean[0])
    for received, expected in zip(dirty[1], clean[1], strict=True):
        assert_close(received, expected)


def _by_index_alone(parts):
    """Whether nothing but padding, causality and a window is there, for which the keys in use are not computed."""
    return parts["segments"] is None and parts["explicit"] is None and parts["pattern"] is None


@pytest.mark.parametrize("kernel", KERNELS)
@sparingly
@given(sizes=few_sizes, masks=masks, seed=seeds)
def test_queries_that_are_padding(kernel, sizes, masks, seed):
    rng = np.random.default_rng(seed)
    parts = masks.draw(rng, sizes)
    parts["query_padding"] = padding_mask(rng, "holes", sizes.batch, sizes.queries)
    query = normal(rng, sizes.batch, sizes.queries, sizes.heads, sizes.key_dim)
    keys = [normal(rng, sizes.batch, sizes.keys, sizes.shared, dim) for dim in (sizes.key_dim, sizes.value_dim)]
    upstream = normal(rng, sizes.batch, sizes.queries, sizes.heads, sizes.value_dim)
    mask = attention_mask(parts)

    def attend(*heads):
        return ops.attention(*heads, mask)[0]

    compute = functools.partial(value_and_gradients, is_compiled=kernel == "block")
    with ops.use_kernel(kernel):
        clean = compute(attend, [query, *keys], upstream)
        dirty = compute(attend, [poisoned(rng, query, parts["query_padding"]), *keys], upstream)
    assert_close(dirty[0], clean[0])
    for received, expected in zip(dirty[1], clean[1], strict=True):
        assert_close(received, expected)


@sparingly
@given(config=attention_layers, seed=seeds, padding=st.sampled_from(["right", "left", "holes"]), scores=st.booleans())
def test_a_layer_and_its_weights(config, seed, padding, scores):
    """Padded tokens of self-attention are NaN: real outputs, and the gradients of inputs and weights, are as ever."""
    rng = np.random.default_rng(seed)
    sizes, layer = config.sizes, dataclasses.replace(config, dropout=0.0).make()
    real = padding_mask(rng, padding, sizes.batch, sizes.queries)
    x, upstream = (normal(rng, sizes.batch, sizes.queries, sizes.width) for _ in range(2))
    upstream *= real[..., None]

    def attend(x):
        outputs = layer(x, x, query_mask=real, value_mask=real, return_attention_scores=scores)
        return outputs[0] if scores else outputs

    clean = layer_gradients(layer, attend, [x], upstream)
    dirty = layer_gradients(layer, attend, [poisoned(rng, x, real)], upstream)
    assert_close(dirty[0][real], clean[0][real])
    assert_close(dirty[1][0][real], clean[1][0][real])
    for received, expected in zip(dirty[2], clean[2], strict=True):
        assert_close(received, expected)


def test_a_decoder_reads_a_poisoned_memory():
    """Cross attention to an encoder's output whose padding is NaN, by an implicit mask."""
    rng = np.random.default_rng(0)
    layer = layers.TransformerDecoder(14, 3)
    layer.build((None, None, 12), (None, None, 12))
    randomize(layer)
    x, memory = normal(rng, 2, 5, 12), normal(rng, 2, 7, 12)
    real = np.arange(7) < [[7], [4]]
    clean = layer(x, with_mask(memory, real))
    dirty = layer(x, with_mask(poisoned(rng, memory, real), real))
    assert_close(dirty, clean)


def test_keras_own_layer_breaks_this_law():
    """As a check of the check: zero times NaN."""
    layer = keras.layers.MultiHeadAttention(2, 3)
    x = np.random.default_rng(0).normal(size=(1, 4, 6)).astype("float32")
    mask = np.array([[[True, True, True, False]]])
    x[:, 3] = np.nan
    assert np.isnan(to_numpy(layer(np.nan_to_num(x), keras_ops.convert_to_tensor(x), attention_mask=mask))).any()
