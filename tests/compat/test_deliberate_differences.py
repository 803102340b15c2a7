"""Where our layers differ from Keras' and `keras_hub`'s on purpose: each test is named after one difference."""

import keras
import numpy as np
import pytest

from keras_tfm import layers
from keras_tfm.ops import observe_attention
from tests.compat.pairs import assert_same, normal, shapes, to_numpy

B, T, S, D, N, H = 2, 5, 7, 12, 3, 4
REAL = np.arange(T) < [[3], [4]]
REAL_KEYS = np.arange(S) < [[6], [4]]


def attention(query_shape=(B, T, D), value_shape=(B, T, D), **arguments):
    layer = layers.MultiHeadAttention(N, H, kernel_initializer="random_normal", **arguments)
    layer.build(query_shape, value_shape)
    return layer


def masked(x, mask):
    return layers.AttachMask()([x, mask])


def test_input_masks_are_not_erased():
    query, memory = masked(normal(B, T, D), REAL), masked(normal(B, S, D), REAL_KEYS)
    blocks = [layers.MultiHeadAttention(N, H) for _ in range(2)]
    first = blocks[0](query, memory)
    np.testing.assert_array_equal(to_numpy(memory._keras_mask)[0], REAL_KEYS)
    np.testing.assert_array_equal(to_numpy(query._keras_mask)[0], REAL)
    np.testing.assert_array_equal(to_numpy(first._keras_mask)[0], REAL)

    other = masked(np.where(REAL_KEYS[..., None], to_numpy(memory)[0], 100.0), REAL_KEYS)
    assert_same(blocks[1](first, memory), blocks[1](blocks[0](query, other), other), rows=REAL)


def test_an_explicit_query_mask_is_honoured():
    layer, x = attention(use_bias=False), normal(B, T, D)
    output = to_numpy(layer(x, x, query_mask=REAL))[0]
    assert (output[~REAL] == 0).all()
    assert_same(layer(x, x), output, rows=REAL)


def test_symbolic_scores_of_cross_attention_have_their_shape():
    x, memory = keras.Input((T, D)), keras.Input((S, D))
    symbolic = layers.MultiHeadAttention(N, H)(x, memory, return_attention_scores=True)
    assert shapes(symbolic) == [(None, T, D), (None, N, T, S)]


@pytest.mark.parametrize("dropout", [0.0, 0.4])
def test_a_row_with_nothing_to_attend_to_is_zero(dropout):
    layer, x = attention(use_bias=False, dropout=dropout), normal(B, T, D)
    mask = np.ones((B, T, T), bool)
    mask[0, 2] = mask[1] = False
    output, scores = to_numpy(layer(x, x, attention_mask=mask, return_attention_scores=True))
    for outputs in (output, *to_numpy(layer(x, x, attention_mask=mask))):
        assert (outputs[0, 2] == 0).all() and (outputs[1] == 0).all()
        assert (outputs[0, [0, 1, 3, 4]] != 0).all()
    assert (scores[0, :, 2] == 0).all() and (scores[1] == 0).all()


@pytest.mark.parametrize("dropout", [0.0, 0.4])
@pytest.mark.parametrize("dtype", ["float32", "float16"])
def test_the_output_is_the_same_with_and_without_scores(dropout, dtype):
    layer, x = attention(dropout=dropout, dtype=dtype), normal(B, T, D)
    mask = np.random.default_rng(0).random((B, T, T)) < 0.5
    mask[0, 2] = False
    options = {"attention_mask": mask, "value_mask": REAL}
    output, _ = layer(x, x, return_attention_scores=True, **options)
    assert_same(output, layer(x, x, **options), tolerance=1e-5 if dtype == "float32" else 1e-2)


@pytest.mark.skipif(keras.backend.backend() != "torch", reason="on a CPU only PyTorch has a fused kernel")
def test_the_fused_kernel_serves_inference_though_dropout_is_configured():
    layer, x = attention(dropout=0.4), normal(B, T, D)
    expected, _ = layer(x, x, return_attention_scores=True)
    used = []
    with observe_attention(lambda request, kernel: used.append(kernel.name)):
        assert_same(expected, layer(x, x, training=False))
        plain = attention()
        plain(x, x)
        layer(x, x, training=True)
    assert used == [used[1], used[1], "torch_dropout"]


def test_causal_queries_that_are_fewer_than_the_keys_are_the_last_of_them():
    """Keras aligns them with the first keys: one query against a cache would see one key."""
    layer, x = attention(), normal(B, T, D)
    full, scores = layer(x, x, use_causal_mask=True, return_attention_scores=True)
    for last in (1, 2):
        output, part = layer(x[:, T - last :], x, use_causal_mask=True, return_attention_scores=True)
        assert_same(full[:, T - last :], output)
        assert_same(scores[:, :, T - last :], part)
    first = np.arange(2)
    output = layer(x[:, :2], x, use_causal_mask=True, query_positions=first, key_positions=np.arange(T))
    assert_same(full[:, :2], output)


def test_flash_attention_is_in_the_config():
    for flash_attention in (None, True, False):
        config = layers.MultiHeadAttention(N, H, flash_attention=flash_attention).get_config()
        assert config["flash_attention"] is flash_attention


def test_flash_attention_asks_and_does_not_demand():
    """Keras raises where there is no such kernel; ours takes the first kernel that can."""
    layer, x = attention(flash_attention=True), normal(B, T, D)
    expected = layer(x, x)
    layer._flash_attention = False
    assert_same(layer(x, x, return_attention_scores=True)[0], expected)


@pytest.mark.parametrize("shape", [(T, T), (B, T)])
def test_an_attention_mask_of_rank_2_is_refused(shape):
    layer, x = attention(), normal(B, T, D)
    with pytest.raises(ValueError, match=r"a mask \[B, S\] of real tokens goes to `padding_mask`"):
        layer(x, x, attention_mask=np.ones(shape, bool))


def test_masks_of_floats_are_refused():
    layer, block, x = attention(), layers.TransformerEncoder(8, N), normal(B, T, D)
    with pytest.raises(ValueError, match="what is added to the logits goes to `attention_bias`"):
        layer(x, x, attention_mask=np.zeros((B, T, T), "float32"))
    with pytest.raises(ValueError, match="`padding_mask` must be boolean"):
        layer(x, x, padding_mask=np.ones((B, T), "float32"))
    with pytest.raises(ValueError, match="`padding_mask` must be boolean"):
        block(x, padding_mask=np.ones((B, T), "float32"))


def test_explicit_and_implicit_padding_both_apply():
    """`keras_hub` lets the explicit mask win, with a warning in the log."""
    block, x = layers.TransformerEncoder(8, N), normal(B, T, D)
    explicit = np.arange(T) >= [[1], [0]]
    expected = block(x, padding_mask=REAL & explicit)
    assert_same(expected, block(masked(x, REAL), padding_mask=explicit), rows=REAL & explicit)

    decoder, memory = layers.TransformerDecoder(8, N), normal(B, S, D)
    explicit = np.arange(S) >= [[1], [2]]
    expected = decoder(x, memory, encoder_padding_mask=REAL_KEYS & explicit)
    assert_same(expected, decoder(x, masked(memory, REAL_KEYS), encoder_padding_mask=explicit))


def test_implicit_masks_reach_cached_attention():
    """`keras_hub.layers.CachedMultiHeadAttention` ignores them."""
    layer, x = attention(), normal(B, T, D)
    cache = layer.create_cache(B, T)
    output, _ = layer(masked(x, REAL), masked(x, REAL), cache=cache, cache_update_index=0)
    assert_same(layer(x, x, value_mask=REAL), output, rows=REAL)


def test_positions_of_a_cache_that_are_not_filled_are_not_attended_to():
    """`keras_hub` attends to their zeros, unless a causal or explicit mask hides them."""
    layer, x = attention(), normal(B, T, D)
    output, _ = layer(x, x, cache=layer.create_cache(B, T + 3), cache_update_index=0)
    assert_same(layer(x, x), output)


def test_positional_arguments_of_a_call_come_in_the_order_of_keras():
    """`keras_hub.layers.CachedMultiHeadAttention` has `attention_mask` fourth, Keras has `query_mask` there."""
    layer, x = attention(use_bias=False), normal(B, T, D)
    assert (to_numpy(layer(x, x, x, REAL))[0][~REAL] == 0).all()


def test_heads_that_do_not_divide_the_width_are_refused():
    for block in (layers.TransformerEncoder(8, 5), layers.TransformerDecoder(8, 5)):
        with pytest.raises(ValueError, match="`num_heads` must divide the width"):
            block(normal(B, T, D))


def test_ids_and_positions_outside_their_tables_are_refused():
    layer = layers.TokenAndPositionEmbedding(10, 4, D)
    with pytest.raises(ValueError, match=r"Token ids must be in \[0, vocabulary_size\)"):
        layer(np.array([[1, 10]]))
    with pytest.raises(ValueError, match=r"Positions must be in \[0, sequence_length\)"):
        layer(np.array([[1, 2, 3]]), start_index=2)


def test_far_positions_are_distinct_in_bfloat16():
    encodings = layers.SinePositionEncoding(dtype="bfloat16")(np.zeros((1, 1024, 64), "float32"))
    assert len(np.unique(to_numpy(encodings)[0][0], axis=0)) == 1024


def test_heads_of_one_feature_have_their_bias_on_the_right_axis():
    """Keras on TensorFlow adds it along the tokens where these are as many as the heads."""
    layer, x = layers.MultiHeadAttention(N, 1, bias_initializer="random_normal"), normal(B, N, D)
    layer.build(x.shape, x.shape)
    kernel, bias = map(keras.ops.convert_to_numpy, (layer.query_dense.kernel, layer.query_dense.bias))
    expected = np.einsum("btd,dnh->btnh", x, kernel) + bias
    assert_same(expected, layer.query_dense(x))
