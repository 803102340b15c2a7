"""Our blocks, caches and embeddings against `keras_hub`'s: same weights, same numbers, same shapes."""

import inspect

import keras
import numpy as np
import pytest

from keras_tfm import layers
from keras_tfm.ops import KVCache
from tests.compat.pairs import assert_same, normal, pair, parameters, shapes
from tests.numerics import to_numpy

# `keras_hub` warns of its own embedding.
pytestmark = pytest.mark.filterwarnings(
    "ignore:Layer 'position_embedding' .* was passed an input with a mask:UserWarning"
)

hub = pytest.importorskip("keras_hub").layers

B, T, S, D, E, N, F = 2, 5, 7, 12, 10, 3, 17
H = D // N
REAL_TARGETS = np.arange(T) < [[3], [5]]
REAL_SOURCES = np.arange(S) < [[6], [4]]
EXPLICIT = np.random.default_rng(0).random((B, T, T)) < 0.7
EXPLICIT[..., 0] = True
EXPLICIT_CROSS = np.random.default_rng(1).random((B, T, S)) < 0.7
EXPLICIT_CROSS[..., 0] = True

VARIANTS = {
    "post-norm": {},
    "pre-norm": {"normalize_first": True},
    "gelu, dropout": {"activation": "gelu", "dropout": 0.3, "layer_norm_epsilon": 1e-3},
}


def encoders(**arguments):
    return pair(
        hub.TransformerEncoder, layers.TransformerEncoder, (B, T, D), intermediate_dim=F, num_heads=N, **arguments
    )


def decoders(with_cross_attention, **arguments):
    built = [(B, T, D), (B, S, D)] if with_cross_attention else [(B, T, D)]
    return pair(hub.TransformerDecoder, layers.TransformerDecoder, *built, intermediate_dim=F, num_heads=N, **arguments)


@pytest.mark.parametrize("variant", VARIANTS)
@pytest.mark.parametrize(
    "masks",
    [
        {},
        {"padding_mask": REAL_TARGETS},
        {"padding_mask": REAL_TARGETS.astype("int32")},
        {"attention_mask": EXPLICIT},
        {"padding_mask": REAL_TARGETS, "attention_mask": EXPLICIT.astype("int32")},
    ],
    ids=["none", "padding", "padding as int", "attention", "both"],
)
def test_an_encoders_outputs_and_scores_are_the_originals(variant, masks):
    original, ours = encoders(**VARIANTS[variant])
    x = normal(B, T, D)
    expected = original(x, return_attention_scores=True, **masks)
    assert_same(expected, ours(x, return_attention_scores=True, **masks))
    assert_same(expected[0], ours(x, **masks))


def test_an_encoders_implicit_mask_is_the_originals():
    original, ours = encoders()
    x = normal(B, T, D)
    masked = [layers.AttachMask()([x, REAL_TARGETS]) for _ in range(2)]
    assert_same(original(masked[0]), ours(masked[1]), rows=REAL_TARGETS)


@pytest.mark.parametrize("variant", VARIANTS)
@pytest.mark.parametrize("with_cross_attention", [False, True], ids=["alone", "with encoder"])
@pytest.mark.parametrize("masked", [False, True], ids=["no masks", "all masks"])
@pytest.mark.parametrize("is_causal", [True, False], ids=["causal", "not causal"])
def test_a_decoders_outputs_are_the_originals(variant, with_cross_attention, masked, is_causal):
    original, ours = decoders(with_cross_attention, **VARIANTS[variant])
    inputs = [normal(B, T, D), normal(B, S, D)] if with_cross_attention else [normal(B, T, D)]
    masks = {"decoder_padding_mask": REAL_TARGETS, "decoder_attention_mask": EXPLICIT} if masked else {}
    if masked and with_cross_attention:
        masks.update(encoder_padding_mask=REAL_SOURCES, encoder_attention_mask=EXPLICIT_CROSS)
    assert_same(
        original(*inputs, use_causal_mask=is_causal, **masks), ours(*inputs, use_causal_mask=is_causal, **masks)
    )


def test_a_decoder_takes_an_encoder_of_another_width():
    built = [(B, T, D), (B, S, E)]
    original, ours = pair(hub.TransformerDecoder, layers.TransformerDecoder, *built, intermediate_dim=F, num_heads=N)
    assert_same(original(normal(B, T, D), normal(B, S, E)), ours(normal(B, T, D), normal(B, S, E)))


def decoded(decoder, x, memory, chunks, stack, **masks):
    """What the decoder gives for `x` in chunks, through caches, and the caches at the end."""
    empty = np.zeros((B, 2, T, N, H), "float32")
    caches = [empty] if memory is None else [empty, np.zeros((B, 2, S, N, H), "float32")]
    caches = [stack(cache) for cache in caches]
    outputs, start = [], 0
    for size in chunks:
        arguments = {"self_attention_cache": caches[0], "self_attention_cache_update_index": start, **masks}
        if memory is not None:
            arguments.update(cross_attention_cache=caches[1], cross_attention_cache_update_index=None if start else 0)
        inputs = [x[:, start : start + size]] + ([] if memory is None else [memory])
        output, *caches = decoder(*inputs, **arguments)
        outputs.append(output)
        start += size
    return keras.ops.concatenate(outputs, axis=1), caches


@pytest.mark.parametrize("variant", ["post-norm", "pre-norm"])
@pytest.mark.parametrize("with_cross_attention", [False, True], ids=["alone", "with encoder"])
@pytest.mark.parametrize("chunks", [(5,), (3, 1, 1)], ids=["at once", "prefill and steps"])
@pytest.mark.parametrize("form", ["one tensor", "KVCache"])
def test_a_decoders_caches_are_the_originals(variant, with_cross_attention, chunks, form):
    original, ours = decoders(with_cross_attention, **VARIANTS[variant])
    x, memory = normal(B, T, D), normal(B, S, D) if with_cross_attention else None
    masks = {"encoder_padding_mask": REAL_SOURCES} if with_cross_attention else {}
    masks["decoder_padding_mask"] = np.arange(T) >= [[1], [0]]  # left padding; the original needs the whole cache's
    expected, expected_caches = decoded(original, x, memory, chunks, np.asarray, **masks)
    as_given = np.asarray if form == "one tensor" else (lambda cache: KVCache(cache[:, 0], cache[:, 1]))
    received, caches = decoded(ours, x, memory, chunks, as_given, **masks)
    real = np.arange(T) >= [[1], [0]]
    assert_same(expected, received, rows=real)
    if form == "KVCache":
        assert all(isinstance(cache, KVCache) for cache in caches)
        caches = [keras.ops.stack(cache, axis=1) for cache in caches]
    for expected_cache, cache, is_real in zip(expected_caches, caches, (real, REAL_SOURCES), strict=False):
        assert_same(*(np.swapaxes(to_numpy(each), 1, 2) for each in (expected_cache, cache)), rows=is_real)
    whole = original(*([x] if memory is None else [x, memory]), **masks)
    assert_same(whole, received, rows=real)


def test_positional_arguments_reach_symbolic_calls():
    x, memory = keras.Input((T, D)), keras.Input((S, D))
    cache = keras.Input((2, T, N, H))
    encoder = layers.TransformerEncoder(F, N)
    assert shapes(encoder(x, None, None, return_attention_scores=True)) == [(None, T, D), (None, N, T, T)]
    decoder = layers.TransformerDecoder(F, N)
    outputs = decoder(x, None, None, None, None, None, cache, self_attention_cache_update_index=0)
    assert shapes(outputs) == [(None, T, D), (None, 2, T, N, H)]
    attention = layers.MultiHeadAttention(N, H)
    expected = [(None, T, D), (None, N, T, S)]
    assert shapes(attention(x, memory, memory, return_attention_scores=True)) == expected
    expected.append((None, 2, S, N, H))
    cache = keras.Input((2, S, N, H))
    assert shapes(attention(x, memory, cache=cache, cache_update_index=0, return_attention_scores=True)) == expected


@pytest.mark.parametrize("scores", [False, True], ids=["no scores", "scores"])
@pytest.mark.parametrize("form", ["one tensor", "KVCache"])
def test_cached_attention_is_the_originals(form, scores):
    arguments = {"num_heads": N, "key_dim": H}
    original, ours = pair(hub.CachedMultiHeadAttention, layers.MultiHeadAttention, *[(B, T, D)] * 2, **arguments)
    x = normal(B, T, D)
    cache = normal(B, 2, S, N, H)
    mask = np.broadcast_to(np.arange(S) < 6, (B, T, S))
    given = cache if form == "one tensor" else KVCache(cache[:, 0], cache[:, 1])
    options = {"attention_mask": mask, "return_attention_scores": scores}

    def as_tensor(outputs):
        return [*outputs[:-1], keras.ops.stack(outputs[-1], axis=1) if form == "KVCache" else outputs[-1]]

    expected = original(x, x, cache=cache, cache_update_index=1, **options)
    assert_same(expected, as_tensor(ours(x, x, cache=given, cache_update_index=1, **options)))
    expected = original(x, x, cache=cache, **options)
    assert_same(expected, as_tensor(ours(x, x, cache=given, **options)))
    assert_same(original(x, x), ours(x, x))


def test_token_and_position_embeddings_are_the_originals():
    arguments = {"vocabulary_size": 23, "sequence_length": 11, "embedding_dim": D, "mask_zero": True}
    original, ours = hub.TokenAndPositionEmbedding(**arguments), layers.PositionalEmbedding(**arguments)
    ids = np.array([[3, 22, 0, 0], [1, 2, 3, 4]])
    original(ids), ours(ids)
    ours.set_weights(original.get_weights())
    for options in (
        {},
        {"start_index": 5},
        {"positions": np.array([4, 4, 0, 10])},
        {"positions": np.array([[0, 1, 2, 3], [7, 6, 5, 4]])},
    ):
        assert_same(original(ids, **options), ours(ids, **options), message=options)
    vectors = normal(B, 4, D)
    assert_same(original.token_embedding(vectors, reverse=True), ours.token_embedding(vectors, reverse=True))
    assert_same(original.token_embedding(vectors, reverse=True), ours(vectors, reverse=True))
    following = layers.AttachMask()  # hands the implicit mask on
    assert_same(following([original(ids), ids > -1])._keras_mask, following([ours(ids), ids > -1])._keras_mask)


def test_untied_embeddings_are_the_originals():
    arguments = {"vocabulary_size": 23, "sequence_length": 11, "embedding_dim": D, "tie_weights": False}
    original, ours = hub.TokenAndPositionEmbedding(**arguments), layers.PositionalEmbedding(**arguments)
    ids = np.array([[3, 22, 0]])
    original(ids), ours(ids)
    ours.set_weights(original.get_weights())
    x = normal(B, 3, D)
    assert_same(original.token_embedding(x, reverse=True), ours(x, reverse=True))


@pytest.mark.parametrize(
    "options",
    [{}, {"start_index": 3}, {"positions": np.array([4, 0, 9, 1, 1])}, {"positions": np.arange(2 * T).reshape(B, T)}],
    ids=["from 0", "from 3", "positions", "positions of each"],
)
def test_positions_are_the_originals(options):
    x = normal(B, T, D)
    original, ours = pair(
        hub.PositionEmbedding, layers.PositionEmbedding, x.shape, sequence_length=11, initializer="ones"
    )
    assert_same(original(x, **options), ours(x, **options))
    if options.get("positions") is not None:  # the original wants them in the compute dtype
        expected = hub.SinePositionEncoding(max_wavelength=500)(x, positions=options["positions"].astype("float32"))
    else:
        expected = hub.SinePositionEncoding(max_wavelength=500)(x, **options)
    assert_same(expected, layers.SinePositionEncoding(max_wavelength=500)(x, **options))


CLASSES = {
    "TransformerEncoder": layers.TransformerEncoder,
    "TransformerDecoder": layers.TransformerDecoder,
    "TokenAndPositionEmbedding": layers.TokenAndPositionEmbedding,
    "PositionEmbedding": layers.PositionEmbedding,
    "SinePositionEncoding": layers.SinePositionEncoding,
}


@pytest.mark.parametrize("name", CLASSES)
def test_arguments_are_the_originals_first(name):
    for method in ("__init__", "call", "build", "compute_output_shape"):
        expected = parameters(getattr(getattr(hub, name), method))
        if method == "build" and name == "SinePositionEncoding":
            continue
        assert parameters(getattr(CLASSES[name], method))[: len(expected)] == expected, method


def test_cached_attention_takes_the_originals_arguments_by_name():
    expected = {name for name, _ in parameters(hub.CachedMultiHeadAttention.call)}
    assert expected <= set(inspect.signature(layers.MultiHeadAttention.call).parameters)


@pytest.mark.parametrize(
    ("name", "arguments"),
    [
        ("TransformerEncoder", {"intermediate_dim": F, "num_heads": N, "activation": "gelu"}),
        ("TransformerDecoder", {"intermediate_dim": F, "num_heads": N, "normalize_first": True}),
        ("TokenAndPositionEmbedding", {"vocabulary_size": 23, "sequence_length": 11, "embedding_dim": D}),
        ("PositionEmbedding", {"sequence_length": 11}),
        ("SinePositionEncoding", {}),
    ],
)
def test_configs_are_supersets_and_exchange(name, arguments):
    original, ours = getattr(hub, name)(**arguments, name="layer"), CLASSES[name](**arguments, name="layer")
    theirs = original.get_config()
    assert {key: value for key, value in ours.get_config().items() if key in theirs} == theirs
    assert CLASSES[name].from_config(theirs).get_config() == ours.get_config()
    assert type(original).from_config({key: ours.get_config()[key] for key in theirs}).get_config() == theirs
