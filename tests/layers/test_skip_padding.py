"""Blocks that leave padding out: the real tokens' numbers and gradients, zeros elsewhere."""

import keras
import numpy as np
import pytest

from keras_tfm import layers
from tests.numerics import assert_close, to_numpy, value_and_gradients

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
        from keras_tfm.backend import torch_unpadding

        monkeypatch.setattr(torch_unpadding, "_SMALLEST", 0)


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


@pytest.mark.usefixtures("way")
def test_decoders_and_stacks_do_it_too_by_an_implicit_mask():
    inputs = keras.Input((T, D))
    masked = keras.layers.Masking(-7.0)(inputs)
    stack = layers.TransformerDecoderStack(2, 16, 2, skip_padding=True, placement="pre", final_normalization="none")
    output = to_numpy(keras.Model(inputs, stack(masked))(np.where(REAL[..., None], X, np.float32(-7.0))))
    assert (output[~REAL] == 0).all() and (output[REAL] != 0).all()


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


def test_real_tokens_alone_are_computed(monkeypatch):
    if keras.backend.backend() != "torch":
        pytest.skip("shapes depend on values on PyTorch only")
    from keras_tfm.backend import torch_unpadding

    monkeypatch.setattr(torch_unpadding, "_SMALLEST", 0)
    _, block = pair()
    seen = []
    network, call = block.feed_forward, type(block.feed_forward).call
    monkeypatch.setattr(
        type(network), "call", lambda self, x, **rest: seen.append(tuple(x.shape)) or call(self, x, **rest)
    )
    block(X, padding_mask=REAL)
    assert seen == [(1, REAL.sum(), D)]


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
