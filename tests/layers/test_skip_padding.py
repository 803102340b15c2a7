"""Blocks that leave padding out: the real tokens' numbers and gradients, zeros elsewhere."""

import functools
import math

import keras
import numpy as np
import pytest

from keras_tfm import layers, ops
from keras_tfm.visualization import collect_attention
from tests.numerics import assert_close, randomize, to_numpy, value_and_gradients

B, T, D = 3, 7, 8
RNG = np.random.default_rng(0)
X, UPSTREAM = RNG.normal(size=(2, B, T, D)).astype("float32")
REAL = np.arange(T) < np.array([[5], [7], [2]])


@pytest.fixture(params=["of all tokens", "of the real tokens alone"])
def way(request, monkeypatch):
    """On PyTorch small calls are computed of all tokens, large ones of the real ones."""
    if request.param != "of all tokens":
        if keras.backend.backend() != "torch":
            pytest.skip("shapes depend on values on PyTorch only")
        _pack_small_calls(monkeypatch)


def _pack_small_calls(monkeypatch):
    from keras_tfm.backend import torch_segments
    from keras_tfm.layers import block_parts, real_tokens

    monkeypatch.setattr(real_tokens, "_FEWEST_NUMBERS", 0)
    monkeypatch.setattr(block_parts, "_FEWEST_SCORES", 0)
    monkeypatch.setattr(torch_segments, "_FEWEST_SAVED", -math.inf)


def pair(block=layers.TransformerEncoder, **options):
    """Two blocks of the same weights, without and with `skip_padding`."""
    blocks = [block(16, 2, skip_padding=skip, **options) for skip in (False, True)]
    for each in blocks:
        each(X)
    blocks[1].set_weights(blocks[0].get_weights())
    return blocks


@pytest.mark.usefixtures("way")
@pytest.mark.parametrize(
    "options",
    [
        {"placement": "post"},
        {"placement": "pre", "feed_forward": "swiglu", "normalization": "rms"},
        {"placement": "sandwich", "residual": "layer_scale"},
        {"placement": "parallel"},
        {"placement": "parallel_two_norms", "activation": "gelu"},
        {"placement": "post", "normalization": "batch"},
        {"num_key_value_heads": 1, "position": "rope"},
        {"position": "alibi"},
        {"attention": layers.LinearAttention(2, 4)},
    ],
    ids=str,
)
def test_real_tokens_are_as_before_and_padding_is_zero(options):
    whole, skipping = pair(**options)
    upstream = UPSTREAM * REAL[..., None]
    results = [value_and_gradients(lambda x, b=b: b(x, padding_mask=REAL), [X], upstream) for b in (whole, skipping)]
    assert_close(to_numpy(results[1][0])[REAL], to_numpy(results[0][0])[REAL])
    assert (to_numpy(results[1][0])[~REAL] == 0).all()
    assert_close(results[1][1], results[0][1])


SIDES = {"right": REAL, "left": REAL[:, ::-1], "middle": REAL[:, ::-1] ^ (np.arange(T) == 6)}


@pytest.mark.usefixtures("way")
@pytest.mark.parametrize("side", SIDES)
@pytest.mark.parametrize("position", [None, "rope", "t5"])
@pytest.mark.parametrize("causal", [True, False])
def test_decoders_do_it_with_and_without_memory(side, position, causal):
    real, masks = SIDES[side], (SIDES[side], np.roll(REAL, 1, axis=0))
    memory = np.random.default_rng(1).normal(size=(B, T, 5)).astype("float32")
    for sequences in ([X], [X, memory]):
        blocks = [layers.TransformerDecoder(16, 2, skip_padding=skip, position=position) for skip in (False, True)]
        for block in blocks:
            block(*sequences)
        blocks[1].set_weights(blocks[0].get_weights())
        names = ("decoder_padding_mask", "encoder_padding_mask")[: len(sequences)]
        given = dict(zip(names, masks, strict=False), use_causal_mask=causal)
        calls = [functools.partial(block, **given) for block in blocks]
        results = [value_and_gradients(call, sequences, UPSTREAM * real[..., None]) for call in calls]
        assert_close(to_numpy(results[1][0])[real], to_numpy(results[0][0])[real])
        assert (to_numpy(results[1][0])[~real] == 0).all()
        assert_close(results[1][1], results[0][1])


@pytest.mark.usefixtures("way")
def test_positions_masks_and_segments_of_the_caller_are_kept():
    whole, skipping = pair(position="rope")
    rng = np.random.default_rng(2)
    for given in (
        dict(positions=np.arange(T) * 3),
        dict(positions=rng.integers(0, 50, (B, T))),
        dict(attention_mask=rng.random((B, T, T)) < 0.6),
        dict(segment_ids=rng.integers(0, 2, (B, T))),
    ):
        outputs = [to_numpy(block(X, padding_mask=REAL, **given)) for block in (whole, skipping)]
        assert_close(outputs[1][REAL], outputs[0][REAL])
        assert (outputs[1][~REAL] == 0).all()
    scores = [block(X, padding_mask=REAL, return_attention_scores=True)[1] for block in (whole, skipping)]
    assert_close(*scores)


@pytest.mark.usefixtures("way")
def test_a_cache_is_filled_as_before():
    prompt = np.array([[5], [7], [2]]) > np.arange(T)
    results = []
    for skip in (False, True):
        block = layers.TransformerDecoder(16, 2, skip_padding=skip)
        block.build(X.shape)
        randomize(block)
        cache = block.self_attention.create_cache(B, T)
        output, cache = block(
            X, decoder_padding_mask=prompt, self_attention_cache=cache, self_attention_cache_update_index=0
        )
        results.append((to_numpy(output)[prompt], [to_numpy(x) for x in cache]))
    assert_close(results[1], results[0])


@pytest.mark.usefixtures("way")
def test_decoders_and_stacks_do_it_too_by_an_implicit_mask():
    inputs = keras.Input((T, D))
    masked = keras.layers.Masking(-7.0)(inputs)
    stack = layers.TransformerDecoderStack(2, 16, 2, skip_padding=True, placement="pre", final_normalization="none")
    output = to_numpy(keras.Model(inputs, stack(masked))(np.where(REAL[..., None], X, np.float32(-7.0))))
    assert (output[~REAL] == 0).all() and (output[REAL] != 0).all()


@pytest.mark.usefixtures("way")
def test_scores_are_collected_row_by_row():
    inputs = keras.Input((T, D))
    model = keras.Model(inputs, layers.TransformerEncoder(16, 2, skip_padding=True)(keras.layers.Masking(-7.0)(inputs)))
    (record,) = collect_attention(model, np.where(REAL[..., None], X, np.float32(-7.0)))
    assert record.scores.shape == (B, 2, T, T)
    assert_close(record.scores.sum(-1), np.broadcast_to(REAL[:, None], (B, 2, T)).astype("float32"))


@pytest.mark.usefixtures("way")
def test_nan_in_padding_ends_there():
    _, block = pair()
    output = to_numpy(block(np.where(REAL[..., None], X, np.float32("nan")), padding_mask=REAL))
    assert np.isfinite(output).all()
    assert_close(output[REAL], to_numpy(block(X, padding_mask=REAL))[REAL])


@pytest.mark.usefixtures("way")
@pytest.mark.parametrize("real", [np.zeros((B, T), bool), np.ones((B, T), bool)], ids=["none real", "all real"])
def test_nothing_and_all_may_be_padding(real):
    whole, block = pair()
    expected = np.where(real[..., None], to_numpy(whole(X, padding_mask=real)), 0)
    assert_close(block(X, padding_mask=real), expected)


@pytest.mark.usefixtures("way")
def test_training_reaches_all_weights():
    inputs, real = keras.Input((T, D)), keras.Input((T,), dtype="bool")
    block = layers.TransformerEncoder(16, 2, dropout=0.1, skip_padding=True)
    model = keras.Model([inputs, real], block(inputs, padding_mask=real))
    model.compile("sgd", "mse")
    before = [weight.copy() for weight in block.get_weights()]
    assert np.isfinite(model.train_on_batch([X, REAL], UPSTREAM))
    changed = [np.abs(a - b).max() > 0 for a, b in zip(before, block.get_weights(), strict=True)]
    names = [weight.path.split("/", 1)[1] for weight in block.weights]
    assert {name for name, is_changed in zip(names, changed, strict=True) if not is_changed} <= {
        name for name in names if "seed" in name or "key/bias" in name
    }


@pytest.mark.usefixtures("way")
@pytest.mark.parametrize("skip_padding", [False, True])
@pytest.mark.parametrize("block", [layers.TransformerEncoder, layers.TransformerDecoder])
def test_lengths_may_be_unknown(block, skip_padding):
    """As where a compiled step is traced once for batches of every length."""
    inputs, real = keras.Input((None, D)), keras.Input((None,), dtype="bool")
    name = "padding_mask" if block is layers.TransformerEncoder else "decoder_padding_mask"
    model = keras.Model([inputs, real], block(16, 2, skip_padding=skip_padding)(inputs, **{name: real}))
    model.compile("sgd", "mse")
    for length in (T, T - 1):
        given, target = [X[:, :length], REAL[:, :length]], UPSTREAM[:, :length]
        assert np.isfinite(model.train_on_batch(given, target))
        assert model.predict_on_batch(given).shape == target.shape


@pytest.mark.parametrize("position, widths", [(None, [(1, 14)] * 2), ("alibi", [(B, T), (1, 14)])])
def test_real_tokens_alone_are_computed(monkeypatch, position, widths):
    """By attention too, where a kernel has the scores of each sequence alone."""
    if keras.backend.backend() != "torch":
        pytest.skip("shapes depend on values on PyTorch only")
    _pack_small_calls(monkeypatch)
    _, block = pair(position=position)
    seen, used = [], []
    for part in (block.self_attention, block.feed_forward):
        call = functools.partial(_noting, seen, type(part).__call__)
        monkeypatch.setattr(type(part), "__call__", lambda self, *args, call=call, **named: call(self, *args, **named))
    with ops.observe_attention(lambda request, kernel: used.append(kernel.name)):
        block(X, padding_mask=REAL)
    assert seen == widths
    assert used == ["torch_segments" if position is None else "torch_sdpa"]


def _noting(seen, call, layer, x, *rest, **named):
    seen.append(tuple(x.shape[:2]))
    return call(layer, x, *rest, **named)


@pytest.mark.parametrize(
    "dtype, rate, is_packed", [("float32", 0.1, True), ("bfloat16", 0, True), ("bfloat16", 0.1, False)]
)
def test_scores_of_all_pairs_are_never_the_price(monkeypatch, dtype, rate, is_packed):
    if keras.backend.backend() != "torch":
        pytest.skip("shapes depend on values on PyTorch only")
    _pack_small_calls(monkeypatch)
    block, used = layers.TransformerEncoder(16, 2, dropout=rate, skip_padding=True, dtype=dtype), []
    with ops.observe_attention(lambda request, kernel: used.append((kernel.name, tuple(request.query.shape[:2])))):
        block(X, padding_mask=REAL, training=True)
    assert (used[-1] == ("torch_segments", (1, 14))) == is_packed
    assert is_packed or used[-1][1] == (B, T)


@pytest.mark.parametrize(
    "options",
    [
        {"stochastic_depth": 0.1},
        {"normalization": keras.layers.GroupNormalization(2)},
        {"feed_forward": layers.MixtureOfExperts(2, 16)},
        {"skip_padding": "yes"},
    ],
    ids=str,
)
def test_what_may_look_at_other_tokens_is_refused(options):
    with pytest.raises(ValueError, match="`skip_padding"):
        layers.TransformerEncoder(16, 2, **{"skip_padding": True, **options})


def test_it_is_in_the_config():
    block = layers.TransformerEncoder(16, 2, skip_padding=True)
    assert layers.TransformerEncoder.from_config(block.get_config()).skip_padding is True
