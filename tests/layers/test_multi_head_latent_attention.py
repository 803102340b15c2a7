"""MultiHeadLatentAttention against equations 9 to 19 in numpy float64; the absorbed form against the full pass."""

import functools

import keras
import numpy as np
import pytest
from keras import ops

from keras_tfm.layers.alibi import Alibi
from keras_tfm.layers.multi_head_latent_attention import MultiHeadLatentAttention
from keras_tfm.layers.rotary_embedding import RotaryEmbedding
from keras_tfm.layers.transformer_decoder_stack import TransformerDecoderStack
from keras_tfm.layers.transformer_encoder import TransformerEncoder
from keras_tfm.ops.latent_cache import LatentCache
from tests import oracles
from tests.layers.check_layer import check_layer
from tests.numerics import assert_close, mask_of, randomize, to_numpy, value_and_gradients, with_mask

B, T, S, D, E, N, H, HR, HV, R, RQ = 2, 5, 7, 11, 13, 3, 5, 4, 2, 6, 7
RNG = np.random.default_rng(0)
X = RNG.normal(size=(B, T, D)).astype("float32")
MEMORY = RNG.normal(size=(B, S, E)).astype("float32")
PADDING = np.array([[True, True, True, False, False], [False, True, True, True, True]])
SEGMENTS = np.array([[1, 1, 2, 2, 2], [4, 4, 4, 4, 9]])

make = functools.partial(MultiHeadLatentAttention, N, H, R, HR, HV)


def built(value_shape=(B, T, D), **options):
    layer = make(**options)
    layer.build((B, T, D), value_shape)
    layer.built = True
    return randomize(layer)


def kernel(part):
    return to_numpy(part.kernel)


def bias(part):
    return 0.0 if part.bias is None else to_numpy(part.bias)


def norm(part, x):
    return x if part is None else oracles.rms_norm(x, to_numpy(part.scale), 1e-6)


def oracle(layer, query, value, allowed, query_positions=None, key_positions=None):
    """Output and scores, keys and values written out for every head."""
    query, value = np.float64(query), np.float64(value)
    query_positions = np.arange(query.shape[1]) if query_positions is None else query_positions
    key_positions = np.arange(value.shape[1]) if key_positions is None else key_positions
    if layer.query_latent_dim is None:
        queries = np.einsum("btd,dnh->btnh", query, kernel(layer.query_dense)) + bias(layer.query_dense)
    else:
        latent = norm(layer.query_norm, query @ kernel(layer.query_down) + bias(layer.query_down))
        queries = np.einsum("btr,rnh->btnh", latent, kernel(layer.query_up))
    joint = value @ kernel(layer.key_value_down) + bias(layer.key_value_down)
    latent, rotary_key = norm(layer.latent_norm, joint[..., :R]), joint[..., None, R:]
    keys, values = (np.einsum("bsr,rnh->bsnh", latent, kernel(part)) for part in (layer.key_up, layer.value_up))
    if layer.position is not None:
        queries = np.concatenate([queries[..., :H], oracles.rotate(queries[..., H:], query_positions)], -1)
        rotary_key = oracles.rotate(rotary_key, key_positions)
    keys = np.concatenate([keys, np.broadcast_to(rotary_key, (*keys.shape[:3], HR))], -1)
    heads, scores = oracles.attention(queries, keys, values, allowed)
    output = np.einsum("btnv,nvd->btd", heads, kernel(layer.output_dense)) + bias(layer.output_dense)
    return output, scores


OPTIONS = [
    {},
    {"query_latent_dim": RQ},
    {"use_bias": True, "query_latent_dim": RQ, "latent_normalization": None},
    {"position": None, "use_bias": True},
]


@pytest.mark.parametrize("options", OPTIONS)
@pytest.mark.parametrize("masks", ["none", "causal", "padding", "all"])
def test_it_is_the_papers_equations(options, masks):
    layer = built(**options)
    arguments, rules = {}, {}
    if masks in ("causal", "all"):
        arguments["use_causal_mask"] = rules["causal"] = True
    if masks in ("padding", "all"):
        arguments["padding_mask"] = rules["key_padding"] = PADDING
    if masks == "all":
        explicit = RNG.random((B, T, T)) < 0.8
        arguments |= {"segment_ids": SEGMENTS, "attention_mask": explicit}
        rules |= {"segments": (SEGMENTS, SEGMENTS), "explicit": explicit}
    received = layer(X, X, return_attention_scores=True, **arguments)
    allowed = oracles.allowed_pairs(B, N, T, T, **rules)
    assert_close(received, oracle(layer, X, X, allowed), factor=3)


def test_cross_attention_is_the_papers_equations():
    layer = built((B, S, E), query_latent_dim=RQ)
    received = layer(X, MEMORY, return_attention_scores=True)
    assert_close(received, oracle(layer, X, MEMORY, None), factor=3)


def test_positions_are_those_given():
    layer = built()
    positions = np.array([3, 1, 4, 15, 9])
    received = layer(X, X, query_positions=positions, return_attention_scores=True)
    assert_close(received, oracle(layer, X, X, None, positions, positions), factor=3)
    shifted = layer(X, X, query_positions=positions + 100)
    assert_close(shifted, received[0], factor=5)


@pytest.mark.parametrize("options", OPTIONS)
@pytest.mark.parametrize("steps", [(1,) * T, (2, 3)])
def test_cached_steps_in_the_absorbed_form_equal_the_full_pass(options, steps):
    layer = built(**options)
    full, full_scores = layer(X, X, use_causal_mask=True, padding_mask=PADDING, return_attention_scores=True)
    cache, outputs, scores, start = layer.create_cache(B, T), [], [], 0
    for step in steps:
        part = X[:, start : start + step]
        output, score, cache = layer(
            part,
            part,
            use_causal_mask=True,
            padding_mask=PADDING,
            return_attention_scores=True,
            cache=cache,
            cache_update_index=start,
        )
        outputs.append(output)
        scores.append(score)
        start += step
    assert_close(ops.concatenate(outputs, axis=1), full, factor=3)
    assert_close(ops.concatenate(scores, axis=2), full_scores, factor=3)
    assert isinstance(cache, LatentCache)
    assert [tuple(x.shape) for x in cache] == [(B, T, R), (B, T, HR)]


def test_a_static_cache_is_the_memory():
    layer = built((B, S, E))
    mask = np.array([[True] * 4 + [False] * 3, [True] * S])
    cache = layer.project_memory(MEMORY)
    output, after = layer(X, None, padding_mask=mask, cache=cache)
    assert_close(output, layer(X, MEMORY, padding_mask=mask), factor=3)
    assert_close(after, cache)


def test_what_is_not_written_yet_is_not_seen_without_causality():
    layer = built()
    cache = layer.create_cache(B, S)
    output, _ = layer(X, X, cache=LatentCache(*(x + 100.0 for x in cache)), cache_update_index=0)
    assert_close(output, layer(X, X), factor=3)


@pytest.mark.skipif(keras.backend.backend() == "tensorflow", reason="TensorFlow has no gradient of writing a cache")
def test_the_absorbed_form_trains_as_the_full_pass():
    layer = built(query_latent_dim=RQ)
    upstream = RNG.normal(size=(B, T, D))
    full = value_and_gradients(lambda x: layer(x, x, use_causal_mask=True), [X], upstream)
    cache = layer.create_cache(B, T)
    absorbed = value_and_gradients(
        lambda x: layer(x, x, use_causal_mask=True, cache=cache, cache_update_index=0)[0], [X], upstream
    )
    assert_close(absorbed, full, factor=5)


def test_the_past_does_not_see_the_future():
    layer = built(query_latent_dim=RQ, dropout=0.3)
    before = to_numpy(layer(X, X, use_causal_mask=True))
    for t in range(1, T):
        changed = X.copy()
        changed[:, t] += 10
        after = to_numpy(layer(changed, changed, use_causal_mask=True))
        np.testing.assert_allclose(after[:, :t], before[:, :t], atol=1e-6)
        assert np.abs(after[:, t:] - before[:, t:]).max() > 1e-3


def test_padding_does_not_matter_not_even_nan():
    layer = built()
    expected = to_numpy(layer(X, X, padding_mask=PADDING, query_mask=PADDING))

    def function(x):
        return layer(x, x, padding_mask=PADDING, query_mask=PADDING)

    for filler in (1e30, np.inf, np.nan):
        other = np.where(PADDING[..., None], X, filler).astype("float32")
        received, (gradient,) = value_and_gradients(function, [other], np.ones((B, T, D)))
        assert_close(received, expected)
        assert np.isfinite(gradient).all()


def test_a_row_with_nothing_to_attend_to_is_zero():
    layer = built()
    padding = np.array([[False] * T, [True] * T])
    for arguments in ({}, {"cache": layer.create_cache(B, T), "cache_update_index": 0}):
        output, scores, *_ = layer(X, X, padding_mask=padding, return_attention_scores=True, **arguments)
        assert not to_numpy(output)[0].any()
        assert not to_numpy(scores)[0].any()
        np.testing.assert_allclose(to_numpy(scores)[1].sum(-1), 1, atol=1e-5)


def test_packed_equals_separate():
    layer = built()
    positions = np.array([[0, 1, 0, 1, 2], [0, 1, 2, 3, 0]])
    packed = to_numpy(layer(X, X, use_causal_mask=True, segment_ids=SEGMENTS, query_positions=positions))
    for b in range(B):
        for segment in set(SEGMENTS[b]):
            alone = X[b : b + 1, SEGMENTS[b] == segment]
            expected = to_numpy(layer(alone, alone, use_causal_mask=True))
            assert_close(packed[b : b + 1, SEGMENTS[b] == segment], expected, factor=3)


def test_implicit_masks_apply_and_go_on():
    layer = built((B, S, E))
    memory_mask = np.array([[True] * 3 + [False] * 4, [True] * S])
    output = layer(with_mask(X, PADDING), with_mask(MEMORY, memory_mask))
    assert_close(output, layer(X, MEMORY, query_mask=PADDING, padding_mask=memory_mask))
    np.testing.assert_array_equal(mask_of(output), PADDING)


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"rotary_dim": 3}, "even `key_dim`"),
        ({"position": Alibi()}, "`position` must rotate and do nothing else"),
        ({"position": "ropes"}, "`position` must be .*'ropes'"),
        ({"latent_dim": 0}, "`latent_dim` must be a positive integer.*latent_dim=0"),
        ({"dropout": 1.0}, r"`dropout` must be in \[0, 1\).*dropout=1.0"),
    ],
)
def test_bad_arguments_are_refused(options, message):
    with pytest.raises(ValueError, match=message):
        MultiHeadLatentAttention(**{"num_heads": N, "key_dim": H, "latent_dim": R, "rotary_dim": HR, **options})


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ({"cache_update_index": 0}, "`cache_update_index` should not be set"),
        ({"attention_mask": np.ones((B, T), bool)}, "`padding_mask`"),
        ({"attention_mask": np.zeros((B, T, T), "float32")}, "`attention_bias`"),
        ({"padding_mask": np.ones((B, S), bool)}, "`padding_mask` does not fit"),
        ({"prefix_length": 2}, "`prefix_length` needs"),
        ({"cache": LatentCache.create(B, T, R + 1, HR)}, "`cache` must hold latents of size 6"),
        ({"cache": LatentCache.create(B, T - 1, R, HR), "cache_update_index": 0}, "`cache` is too short"),
    ],
)
def test_what_does_not_fit_is_refused(arguments, message):
    layer = built()
    with pytest.raises(ValueError, match=message):
        layer(X, X, **arguments)


@pytest.mark.parametrize("options", [{}, {"query_latent_dim": RQ, "dropout": 0.3, "use_bias": True}])
def test_the_promises_of_every_layer(options):
    check_layer(
        functools.partial(make, **options),
        (X, X),
        keywords={"padding_mask": PADDING},
        options={"return_attention_scores": True},
        tolerance=4,
        zero_gradients=("query_dense/bias",),
    )


def test_the_promises_of_every_layer_with_a_cache():
    cache = LatentCache(*(RNG.normal(size=(B, S, size)).astype("float32") for size in (R, HR)))
    check_layer(
        make,
        (X, X),
        keywords={"cache": cache},
        options={"cache_update_index": 1, "use_causal_mask": True},
        trains=keras.backend.backend() != "tensorflow",
        tolerance=4,
    )


def test_scaled_rotary_positions_are_a_part():
    scaling = {"type": "linear", "factor": 2.0}
    layer = built(position=RotaryEmbedding(scaling=scaling))
    plain = built()
    plain.set_weights(layer.get_weights())
    positions = np.arange(T) * 2
    assert_close(layer(X, X, query_positions=positions), plain(X, X), factor=3)
    assert keras.layers.deserialize(keras.layers.serialize(layer)).position.get_config()["scaling"] is not None


def test_it_serves_as_the_attention_of_blocks():
    x, memory = RNG.normal(size=(B, T, 12)).astype("float32"), RNG.normal(size=(B, S, 12)).astype("float32")
    attention = MultiHeadLatentAttention(3, 4, latent_dim=5, rotary_dim=2)
    encoded = TransformerEncoder(16, 3, attention=attention)(memory, padding_mask=np.arange(S) < [[S], [S - 2]])
    decoder = TransformerDecoderStack(2, 16, 3, attention=attention)
    full = decoder(x, encoded)
    cache, steps = decoder.create_cache(B, T, encoded), []
    for t in range(T):
        step, cache = decoder(x[:, t : t + 1], cache=cache, cache_update_index=t)
        steps.append(step)
    assert_close(ops.concatenate(steps, axis=1), full, factor=3)
