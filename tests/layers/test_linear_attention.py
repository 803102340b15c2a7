"""LinearAttention against sums written from the paper in numpy float64, and its masks, states and refusals."""

import functools

import keras
import numpy as np
import pytest
from keras import ops

from keras_tfm.layers.linear_attention import LinearAttention
from keras_tfm.layers.transformer_decoder_stack import TransformerDecoderStack
from keras_tfm.layers.transformer_encoder import TransformerEncoder
from keras_tfm.ops.linear_attention import LinearAttentionState, count_runs, linear_attention
from tests.layers.check_layer import check_layer
from tests.numerics import assert_close, randomize, to_numpy, value_and_gradients, with_mask

B, T, S, D, E, N, K, H, HV = 2, 11, 7, 6, 5, 4, 2, 3, 5
RNG = np.random.default_rng(0)
X = RNG.normal(size=(B, T, D)).astype("float32")
MEMORY = RNG.normal(size=(B, S, E)).astype("float32")
PADDING = np.array([[True] * 6 + [False] * 5, [False, True, True] + [True] * 8])
SEGMENTS = np.array([[3, 3, 3, 1, 1, 1, 1, 1, 1, 7, 7], [0, 1, 1, 1, 2, 2, 2, 2, 2, 2, 0]])


def elu_plus_one(x):
    return np.where(x > 0, x + 1, np.exp(np.minimum(x, 0)))


def oracle(query, key, value, allowed, feature_map=elu_plus_one):
    """Equation 3, one query at a time: heads `[B, T, N, Hv]` and the weights `[B, N, T, S]`."""
    batch, queries, heads, _ = query.shape
    outputs, scores = (
        np.zeros((batch, queries, heads, value.shape[-1])),
        np.zeros((batch, heads, queries, key.shape[1])),
    )
    for b, n, t in np.ndindex(batch, heads, queries):
        k = n // (heads // key.shape[2])
        for s in range(key.shape[1]):
            scores[b, n, t, s] = allowed[b, t, s] * feature_map(query[b, t, n]) @ feature_map(key[b, s, k])
        if scores[b, n, t].sum() > 0:
            scores[b, n, t] /= scores[b, n, t].sum()
        outputs[b, t, n] = scores[b, n, t] @ value[b, :, k]
    return outputs, scores


def layer_oracle(layer, query, value, allowed, feature_map=elu_plus_one):
    def dense(part, x, equation):
        return np.einsum(equation, np.float64(x), to_numpy(part.kernel)) + to_numpy(part.bias)

    heads = [dense(layer.query_dense, query, "btd,dnh->btnh")]
    heads += [dense(part, value, "btd,dnh->btnh") for part in (layer.key_dense, layer.value_dense)]
    outputs, scores = oracle(*heads, allowed, feature_map)
    return dense(layer.output_dense, outputs, "btnh,nhd->btd"), scores


def make(**options):
    options = {"num_heads": N, "key_dim": H, "value_dim": HV, "num_key_value_heads": K, "chunk_size": 4, **options}
    return LinearAttention(**options)


def built(value_shape=(B, T, D), **options):
    layer = make(**options)
    layer.build((B, T, D), value_shape)
    layer.built = True
    return randomize(layer)


def allowed_pairs(queries, keys, causal=False, padding=None, segments=None):
    allowed = np.ones((B, queries, keys), bool)
    if causal:
        allowed &= np.arange(queries)[:, None] + keys - queries >= np.arange(keys)
    if padding is not None:
        allowed &= padding[:, None]
    if segments is not None:
        runs = np.cumsum(np.diff(segments, axis=1, prepend=segments[:, :1]) != 0, axis=1)
        allowed &= runs[:, :, None] == runs[:, None]
    return allowed


@pytest.mark.parametrize("causal", [False, True])
@pytest.mark.parametrize("masks", ["none", "padding", "segments", "both"])
def test_it_is_the_papers_sum(causal, masks):
    layer = built()
    padding = PADDING if masks in ("padding", "both") else None
    segments = SEGMENTS if masks in ("segments", "both") else None
    output, scores = layer(
        X, X, use_causal_mask=causal, padding_mask=padding, segment_ids=segments, return_attention_scores=True
    )
    expected = layer_oracle(layer, X, X, allowed_pairs(T, T, causal, padding, segments))
    assert_close([output, scores], expected, factor=3)


@pytest.mark.parametrize("chunk_size", [1, 3, 64])
@pytest.mark.parametrize(("causal", "segments"), [(True, None), (True, SEGMENTS), (False, SEGMENTS)])
def test_chunks_change_nothing(chunk_size, causal, segments):
    features = RNG.uniform(size=(B, T, 1, 2)).astype("float32")
    runs = None if segments is None else count_runs(ops.convert_to_tensor(segments))
    expected, _ = linear_attention(features, features, features, is_causal=causal, runs=runs, chunk_size=4)
    other, _ = linear_attention(features, features, features, is_causal=causal, runs=runs, chunk_size=chunk_size)
    assert_close(other, expected)


@pytest.mark.parametrize("causal", [False, True])
def test_cross_attention_is_the_papers_sum(causal):
    query = X[:, :5]
    layer = built((B, S, E))
    output, scores = layer(query, MEMORY, use_causal_mask=causal, return_attention_scores=True)
    assert_close([output, scores], layer_oracle(layer, query, MEMORY, allowed_pairs(5, S, causal)), factor=3)


@pytest.mark.parametrize(
    ("feature_map", "expected"),
    [
        ("relu", lambda x: np.maximum(x, 0)),
        (ops.exp, np.exp),
        (keras.layers.Activation("sigmoid"), lambda x: 1 / (1 + np.exp(-x))),
    ],
)
def test_feature_maps_are_parts(feature_map, expected):
    layer = built(feature_map=feature_map)
    output, scores = layer(X, X, use_causal_mask=True, return_attention_scores=True)
    assert_close([output, scores], layer_oracle(layer, X, X, allowed_pairs(T, T, True), expected), factor=3)


def test_asking_for_scores_changes_nothing_and_rows_sum_to_one():
    layer = built()
    output, scores = layer(X, X, use_causal_mask=True, return_attention_scores=True)
    np.testing.assert_array_equal(to_numpy(layer(X, X, use_causal_mask=True)), to_numpy(output))
    np.testing.assert_allclose(to_numpy(scores).sum(-1), 1, atol=1e-5)


@pytest.mark.parametrize("steps", [(1,) * T, (3, 5, 3), (T,)])
def test_cached_steps_equal_the_full_pass(steps):
    layer = built()
    state, outputs, start = layer.create_cache(B, T), [], 0
    for step in steps:
        part = slice(start, start + step)
        output, state = layer(
            X[:, part], X[:, part], use_causal_mask=True, padding_mask=PADDING[:, part], cache=state,
            cache_update_index=start,
        )  # fmt: skip
        outputs.append(output)
        start += step
    full = layer(X, X, use_causal_mask=True, padding_mask=PADDING)
    assert_close(ops.concatenate(outputs, axis=1), full, factor=3)
    assert isinstance(state, LinearAttentionState)
    assert {keras.backend.standardize_dtype(x.dtype) for x in state} == {"float32"}


def test_a_static_state_is_the_memory():
    layer = built((B, S, E))
    padding = PADDING[:, :S]
    state = layer.project_memory(MEMORY, padding_mask=padding)
    output, after = layer(X, None, cache=state)
    assert_close(output, layer(X, MEMORY, padding_mask=padding), factor=3)
    assert_close(after, state)


def test_the_state_stays_float32_in_reduced_precision():
    layer = make(dtype="mixed_bfloat16")
    layer(X, X)
    _, state = layer(X, X, cache=layer.create_cache(B))
    assert {keras.backend.standardize_dtype(x.dtype) for x in state} == {"float32"}


@pytest.mark.parametrize("chunk_size", [4, 64])
def test_the_past_does_not_see_the_future(chunk_size):
    layer = built(chunk_size=chunk_size)
    before = to_numpy(layer(X, X, use_causal_mask=True))
    for t in range(1, T):
        changed = X.copy()
        changed[:, t] += 1e3
        after = to_numpy(layer(changed, changed, use_causal_mask=True))
        np.testing.assert_array_equal(after[:, :t], before[:, :t])
        assert np.abs(after[:, t:] - before[:, t:]).max() > 1e-3


@pytest.mark.parametrize("causal", [False, True])
def test_packed_equals_separate(causal):
    layer = built()
    packed = to_numpy(layer(X, X, use_causal_mask=causal, segment_ids=SEGMENTS))
    for b in range(B):
        edges = np.flatnonzero(np.diff(SEGMENTS[b], prepend=-1, append=-1))
        for first, last in zip(edges[:-1], edges[1:], strict=True):
            alone = layer(X[b : b + 1, first:last], X[b : b + 1, first:last], use_causal_mask=causal)
            assert_close(packed[b : b + 1, first:last], alone, factor=3)


@pytest.mark.parametrize("causal", [False, True])
def test_padding_does_not_matter_not_even_nan(causal):
    layer = built()
    real = PADDING.copy()
    expected = to_numpy(layer(X, X, use_causal_mask=causal, padding_mask=real))
    for filler in (1e30, np.inf, np.nan):
        other = np.where(real[..., None], X, filler).astype("float32")
        x = with_mask(other, real)
        received = to_numpy(layer(x, x, use_causal_mask=causal))
        assert_close(received[real], expected[real])
        assert np.isfinite(received).all()


def test_padding_gets_no_gradient_and_gives_none():
    layer = built()
    upstream = RNG.normal(size=(B, T, D))

    def function(x, y):
        return layer(x, y, use_causal_mask=True, query_mask=PADDING, padding_mask=PADDING)

    poisoned = np.where(PADDING[..., None], X, np.nan)
    _, gradients = value_and_gradients(function, [poisoned, poisoned], upstream)
    for gradient in gradients:
        assert np.isfinite(gradient).all()
        assert np.abs(gradient[~PADDING]).max() == 0
        assert np.abs(gradient[PADDING]).min() > 0


@pytest.mark.parametrize("causal", [False, True])
def test_a_row_with_nothing_to_attend_to_is_zero(causal):
    layer = built()
    padding = np.array([[False] * T, [False] * 3 + [True] * (T - 3)])
    output, scores = layer(X, X, use_causal_mask=causal, padding_mask=padding, return_attention_scores=True)
    empty = ~allowed_pairs(T, T, causal, padding).any(-1)
    bias = np.broadcast_to(to_numpy(layer.output_dense.bias), (empty.sum(), D))
    assert_close(to_numpy(output)[empty], bias)
    assert not to_numpy(scores).transpose(0, 2, 1, 3)[empty].any()
    _, gradients = value_and_gradients(
        lambda x: layer(x, x, use_causal_mask=causal, padding_mask=padding), [X], np.ones((B, T, D))
    )
    assert np.isfinite(gradients[0]).all()


def test_features_that_vanish_give_zeros_and_finite_gradients():
    tiny = np.full((1, 3, 1, 2), 1e-25, "float32")
    value, gradients = value_and_gradients(
        lambda q, k, v: linear_attention(q, k, v, is_causal=True)[0], [tiny, tiny, tiny + 1], np.ones((1, 3, 1, 2))
    )
    assert not value.any()
    assert all(np.isfinite(gradient).all() for gradient in gradients)


def test_the_causal_form_holds_no_sum_for_every_token(monkeypatch):
    length, heads, width, sizes = 512, 2, 32, []

    def watched(*arguments, einsum=ops.einsum):
        result = einsum(*arguments)
        sizes.append(int(np.prod(result.shape)))
        return result

    monkeypatch.setattr(ops, "einsum", watched)
    features = ops.ones((1, length, heads, width))
    linear_attention(features, features, features, is_causal=True)
    assert max(sizes) <= 4 * length * heads * width < length * heads * width * width


def test_runs_are_counted():
    assert to_numpy(count_runs(ops.convert_to_tensor(SEGMENTS))).tolist() == [
        [0, 0, 0, 1, 1, 1, 1, 1, 1, 2, 2],
        [0, 1, 1, 1, 2, 2, 2, 2, 2, 2, 3],
    ]


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ({"attention_mask": np.ones((B, T, T), bool)}, "`attention_mask` must be None"),
        ({"attention_bias": np.ones((B, N, T, T), "float32")}, "`attention_bias` must be None"),
        ({"padding_mask": np.ones((B, S), bool)}, "`padding_mask` does not fit"),
        ({"padding_mask": np.ones((B, T), "float32")}, "`padding_mask` must be boolean"),
        ({"value": None}, "`value` is needed"),
        ({"value": X[:, :5], "use_causal_mask": True}, "at least as many keys as queries"),
        ({"value": X[:, :5], "segment_ids": SEGMENTS}, "`key_segment_ids`"),
    ],
)
def test_what_cannot_be_is_refused(arguments, message):
    layer = built()
    with pytest.raises(ValueError, match=message):
        layer(X, **{"value": X, **arguments})


@pytest.mark.parametrize("argument", ["segment_ids", "return_attention_scores"])
def test_what_needs_keys_excludes_a_state(argument):
    layer = built()
    with pytest.raises(ValueError, match=f"`{argument}` and `cache` exclude each other"):
        layer(X, X, cache=layer.create_cache(B), **{argument: SEGMENTS if argument == "segment_ids" else True})


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"num_heads": 0}, "`num_heads` must be a positive integer.*num_heads=0"),
        ({"num_key_value_heads": 3}, "`num_key_value_heads` must divide `num_heads`.*num_key_value_heads=3"),
        ({"feature_map": "gelu"}, "`feature_map` must be .*'gelu'"),
        ({"feature_map": None}, "`feature_map` must be .*None"),
        ({"chunk_size": 0}, "`chunk_size` must be"),
    ],
)
def test_bad_arguments_are_refused(options, message):
    with pytest.raises(ValueError, match=message):
        make(**options)


UNUSED = ("training", "cache_update_index")


@pytest.mark.parametrize("causal", [False, True])
def test_the_promises_of_every_layer(causal):
    options = {"use_causal_mask": causal, "return_attention_scores": True}
    check_layer(make, (X, X), keywords={"padding_mask": PADDING}, options=options, unused=UNUSED, tolerance=4)


def test_the_promises_of_every_layer_with_a_state():
    state = LinearAttentionState(RNG.uniform(size=(B, N, H, H)).astype("float32"), np.ones((B, N, H), "float32"))
    check_layer(
        functools.partial(LinearAttention, N, H),
        (X, X),
        keywords={"cache": state},
        options={"use_causal_mask": True},
        output_dtype=(None, "float32", "float32"),
        unused=UNUSED,
        tolerance=4,
    )


@pytest.mark.parametrize("feature_map", [keras.activations.softplus, "learned"])
def test_the_promises_of_every_layer_with_other_maps(feature_map):
    def make(**options):
        learned = keras.layers.Dense(5, activation="softplus", dtype=options.get("dtype"), name="feature_map")
        return LinearAttention(N, H, feature_map=learned if feature_map == "learned" else feature_map, **options)

    check_layer(make, (X, X), options={"use_causal_mask": True}, unused=UNUSED, tolerance=4)


def test_it_serves_as_the_attention_of_blocks():
    x, memory = RNG.normal(size=(B, T, 12)).astype("float32"), RNG.normal(size=(B, S, 12)).astype("float32")
    attention = LinearAttention(3, 4)
    encoded = TransformerEncoder(16, 3, attention=attention)(memory, padding_mask=np.arange(S) < [[S], [S - 2]])
    decoder = TransformerDecoderStack(2, 16, 3, attention=attention)
    full = decoder(x, encoded)
    cache, steps = decoder.create_cache(B, T, encoded), []
    for t in range(T):
        step, cache = decoder(x[:, t : t + 1], cache=cache, cache_update_index=t)
        steps.append(step)
    assert_close(ops.concatenate(steps, axis=1), full, factor=3)
