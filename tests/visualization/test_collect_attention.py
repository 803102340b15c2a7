"""Every attention of a call gives its scores, whatever kernel ran, and the call gives what it always gives."""

import keras
import numpy as np
import pytest
from keras import ops

from keras_tfm import layers, models
from keras_tfm.ops import observe_attention, use_kernel
from keras_tfm.visualization import collect_attention

SOURCES = np.array([[4, 5, 6, 7, 0], [8, 9, 0, 0, 0]])
TARGETS = np.array([[2, 4, 5, 6, 7], [2, 4, 5, 0, 0]])


def vectors(*shape, seed=0):
    return np.random.default_rng(seed).normal(size=shape).astype("float32")


@pytest.fixture(scope="module")
def seq2seq():
    keras.utils.set_random_seed(1)
    settings = dict(num_layers=1, hidden_dim=12, intermediate_dim=7, num_heads=3, dropout=0.3)
    return models.Seq2SeqTransformer(11, **settings, num_key_value_heads=1, position="rope")


def test_each_attention_of_a_translation_model_has_its_kind_even_where_both_sides_are_of_one_length(seq2seq):
    inputs = {"source_ids": SOURCES, "target_ids": TARGETS}
    expected = ops.convert_to_numpy(seq2seq(inputs, training=False))
    kernels = []
    with observe_attention(lambda request, kernel: kernels.append(kernel.name) if not request.return_scores else None):
        records = collect_attention(seq2seq, inputs, with_vectors=True)
    before = list(kernels)
    kernels.clear()
    with observe_attention(lambda request, kernel: kernels.append(kernel.name)):
        again = ops.convert_to_numpy(seq2seq(inputs, training=False))
    assert before == kernels
    np.testing.assert_array_equal(again, expected)
    assert [record.kind for record in records] == ["encoder", "decoder", "cross"]
    assert [record.layer for record in records] == [
        "encoder/block_0/self_attention_layer",
        "decoder/block_0/self_attention",
        "decoder/block_0/cross_attention",
    ]
    for record in records:
        assert record.scores.shape == (2, 3, 5, 5) and record.scores.dtype == "float32"
        assert record.query.shape == (2, 5, 3, 4) and record.key.shape == (2, 5, 1, 4)
    real = {"source": SOURCES != 0, "target": TARGETS != 0}
    encoder, decoder, cross = (record.scores for record in records)
    np.testing.assert_allclose(encoder.sum(-1), np.repeat(real["source"][:, None], 3, 1), atol=1e-6)
    np.testing.assert_allclose(decoder.sum(-1), np.repeat(real["target"][:, None], 3, 1), atol=1e-6)
    np.testing.assert_allclose(cross.sum(-1), 1, atol=1e-6)
    assert not np.triu(decoder, 1).any() and not cross[1, :, :, 2:].any()


def test_scores_are_the_softmax_of_the_vectors(seq2seq):
    records = collect_attention(seq2seq, {"source_ids": SOURCES, "target_ids": TARGETS}, with_vectors=True)
    query, key = (np.float64(x) for x in (records[0].query, records[0].key))
    logits = np.einsum("btnh,bsh->bnts", query, key[:, :, 0]) / 2
    weights = np.exp(logits) * (SOURCES != 0)[:, None, None] * (SOURCES != 0)[:, None, :, None]
    weights = weights / np.maximum(weights.sum(-1, keepdims=True), 1e-30)
    np.testing.assert_allclose(records[0].scores, weights, atol=1e-6)


@pytest.mark.parametrize(
    "options, mask",
    [
        ({"head_mixing": "talking_heads"}, {"use_causal_mask": True}),
        ({"score": "additive", "attention_sink": "learned"}, {}),
        ({"position": "alibi", "logit_soft_cap": 3.0}, {"attention_mask": np.tri(5, dtype=bool)[None]}),
        ({"dtype": "mixed_bfloat16", "position": "t5"}, {"padding_mask": np.array([[1, 1, 1, 0, 0]], bool)}),
    ],
)
def test_scores_are_those_the_layer_would_return(options, mask):
    layer = layers.MultiHeadAttention(2, 3, **options)
    x = vectors(1, 5, 7)
    _, expected = layer(x, x, return_attention_scores=True, **mask)
    (record,) = collect_attention(lambda x: layer(x, x, **mask), x)
    np.testing.assert_array_equal(record.scores, ops.convert_to_numpy(ops.cast(expected, "float32")))
    is_causal = "use_causal_mask" in mask or "attention_mask" in mask
    assert record.kind == ("decoder" if is_causal else "encoder")


def test_two_sequences_of_one_length_are_no_self_attention():
    layer = layers.MultiHeadAttention(2, 3, dtype="mixed_bfloat16")
    one, other = vectors(1, 5, 7), vectors(1, 5, 7, seed=1)
    assert [record.kind for record in collect_attention(layer, (one, other))] == ["cross"]
    assert [record.kind for record in collect_attention(layer, (one, one.copy()))] == ["encoder"]
    (additive,) = collect_attention(layers.AdditiveAttention(), [one, other])
    assert additive.kind == "cross" and additive.scores.shape == (1, 1, 5, 5)


@pytest.mark.parametrize("causal", [False, True])
def test_a_window_is_one_attention_though_its_kernel_folds_it_into_rows(causal):
    inputs, layer = keras.Input((200, 7)), layers.MultiHeadAttention(2, 3, sliding_window=2)
    model = keras.Model(inputs, layer(inputs, inputs, use_causal_mask=causal))
    x, kernels = vectors(1, 200, 7), []
    with observe_attention(lambda request, kernel: kernels.append(kernel.name)), use_kernel("sliding_window"):
        (record,) = collect_attention(model, x)
    assert "sliding_window" in kernels
    distance = np.arange(200)[:, None] - np.arange(200)
    seen = (distance < 2) & (distance >= 0) if causal else abs(distance) < 2
    np.testing.assert_array_equal(record.scores[0, 0] > 0, seen)


def test_a_scanned_stack_that_is_not_built_yet_gives_all_its_layers():
    stack = layers.TransformerEncoderStack(3, 7, 2, num_distinct_layers=1, layer_loop="scan", name="stack")
    records = collect_attention(stack, vectors(1, 5, 6))
    assert [record.layer for record in records] == ["stack/block_0/self_attention_layer"] * 3


def test_attention_without_scores_is_left_out_and_named():
    inputs = keras.Input((None, 6))
    x = layers.LinearAttention(2, 3, name="linear")(inputs, inputs)
    x = keras.layers.MultiHeadAttention(2, 3, name="other")(x, x)
    model = keras.Model(inputs, layers.TransformerEncoder(7, 2)(x))
    with pytest.warns(UserWarning, match="left out: linear, other") as caught:
        assert len(collect_attention(model, vectors(1, 5, 6))) == 1
    assert __file__ in [warning.filename for warning in caught]
    assert "call" not in vars(model.get_layer("linear"))


def test_traced_attention_is_refused():
    layer = layers.MultiHeadAttention(2, 3, name="traced")
    x = ops.convert_to_tensor(vectors(1, 5, 6))
    layer(x, x)
    backend = keras.backend.backend()
    if backend == "torch":
        pytest.skip("PyTorch runs what it is told")
    compiled = pytest.importorskip("jax").jit if backend == "jax" else pytest.importorskip("tensorflow").function
    with pytest.raises(ValueError, match="Received: the attention traced"):
        collect_attention(compiled(lambda x: layer(x, x)), x)
