"""Convolutional mixing is the sum over neighbours in float64; padding is zero and the future stays unseen."""

import functools

import keras
import numpy as np
import pytest

from keras_tfm import testing
from keras_tfm.layers import ConvolutionalEncoder, ConvolutionalMixer, TransformerEncoderStack
from tests.layers.check_layer import check_layer
from tests.numerics import assert_close, layer_gradients, mask_of, randomize, to_numpy, with_mask

B, T, D, F = 2, 7, 5, 11
RNG = np.random.default_rng(0)
X = RNG.normal(size=(B, T, D)).astype("float32")
REAL = np.arange(T) < [[3], [7]]

MIXERS = {
    "same": {},
    "even kernel": dict(kernel_size=4),
    "dilated": dict(kernel_size=3, dilation_rate=2),
    "wider than the sequence": dict(kernel_size=9),
    "one token": dict(kernel_size=1),
    "causal": dict(kernel_size=3, padding="causal"),
    "causal, dilated": dict(kernel_size=2, dilation_rate=3, padding="causal"),
    "gated": dict(gate="sigmoid"),
    "gated, causal": dict(gate="gelu", padding="causal", use_bias=False),
    "separable": dict(convolution="separable"),
    "separable, gated": dict(convolution="separable", gate="sigmoid", kernel_size=2),
}


def built(name):
    mixer = ConvolutionalMixer(**MIXERS[name])
    mixer.build((None, None, D))
    mixer.built = True
    return randomize(mixer)


def oracle(mixer, x, real):
    """Token by token and tap by tap, in float64."""
    weights = {variable.name: to_numpy(variable) for variable in mixer.trainable_variables}
    if mixer.convolution == "full":
        kernel = weights["kernel"]
    else:  # the product of both kernels is the kernel of the whole
        kernel = np.einsum("kcm,ocd->kcd", weights["depthwise_kernel"], weights["pointwise_kernel"])
    x = np.where(real[..., None], x.astype("float64"), 0)
    beyond = (mixer.kernel_size - 1) * mixer.dilation_rate
    before = beyond if mixer.padding == "causal" else beyond // 2
    out = np.zeros((*x.shape[:2], kernel.shape[-1])) + weights.get("bias", 0.0)
    for t in range(x.shape[1]):
        for tap in range(mixer.kernel_size):
            neighbour = t - before + tap * mixer.dilation_rate
            if 0 <= neighbour < x.shape[1]:
                out[:, t] += x[:, neighbour] @ kernel[tap]
    if mixer.gate is None:
        return out
    half, gate = np.split(out, 2, axis=-1)
    return half * to_numpy(mixer.gate(keras.ops.convert_to_tensor(gate, "float32")))


@pytest.mark.parametrize("name", MIXERS)
def test_it_is_the_sum_over_neighbours(name):
    mixer = built(name)
    assert_close(mixer(X, padding_mask=REAL), oracle(mixer, X, REAL), factor=3)


@pytest.mark.parametrize("name", ["dilated", "separable, gated"])
def test_left_and_right_padding_are_alike_whatever_they_hold(name):
    mixer = built(name)
    alone = to_numpy(mixer(X[:, :3]))
    garbage = np.full((B, 4, D), np.nan, "float32")
    for parts, place in (([X[:, :3], garbage], slice(0, 3)), ([garbage, X[:, :3]], slice(4, 7))):
        real = np.zeros((B, T), bool)
        real[:, place] = True
        received = to_numpy(mixer(np.concatenate(parts, axis=1), padding_mask=real))
        assert_close(received[:, place], alone)
        assert np.isfinite(received).all()


def test_padding_gets_no_gradient_and_gives_none():
    mixer = built("gated")
    x = np.where(REAL[..., None], X, np.nan)
    upstream = np.where(REAL[..., None], X, 0.0)
    _, (of_inputs,), of_weights = layer_gradients(mixer, lambda x: mixer(x, padding_mask=REAL), [x], upstream)
    assert np.isfinite(of_inputs).all() and all(np.isfinite(gradient).all() for gradient in of_weights)
    assert not of_inputs[~REAL].any()
    assert np.abs(of_inputs[REAL]).min() > 0


@pytest.mark.parametrize("name", ["causal, dilated", "gated, causal", "one token", "even kernel", "separable"])
def test_causal_convolutions_see_no_future_and_the_others_do(name):
    block = ConvolutionalEncoder(F, **MIXERS[name])
    if "causal" in name or name == "one token":
        testing.assert_causal(block, X)
        return
    with pytest.raises(AssertionError, match="changed an earlier output"):
        testing.assert_causal(block, X, trials=6)


def test_more_padding_changes_nothing_and_the_mask_goes_on():
    ids = keras.Input((None,), dtype="int32")
    x = keras.layers.Embedding(11, D, mask_zero=True)(ids)
    for rate in (1, 2):
        x = ConvolutionalEncoder(F, 1, dropout=0.1, dilation_rate=rate, gate="sigmoid")(x)
    testing.assert_padding_invariant(keras.Model(ids, x))
    np.testing.assert_array_equal(mask_of(ConvolutionalEncoder(F)(with_mask(X, REAL))), REAL)


def test_in_a_stack_padding_between_blocks_is_zero_again():
    """A block writes something at padded places: the next one must not read it."""
    mixer = ConvolutionalMixer(kernel_size=5)
    stack = TransformerEncoderStack(2, F, None, attention=mixer)
    expected = to_numpy(stack(X[:1, :3]))
    assert_close(to_numpy(stack(X, padding_mask=REAL))[:1, :3], expected)


def test_the_promises_of_every_layer():
    make = functools.partial(ConvolutionalMixer, **MIXERS["separable, gated"])
    check_layer(make, X, keywords={"padding_mask": REAL}, tolerance=4)


def test_the_block_keeps_the_promises_of_every_layer():
    make = functools.partial(ConvolutionalEncoder, F, 2, 0.1, kernel_size=2, padding="causal", gate="sigmoid")
    check_layer(make, X, skip=("file", "policies", "compiled", "gradients", "lora", "int8"))


@pytest.mark.parametrize(
    ("make", "message"),
    [
        (lambda: ConvolutionalMixer(0), "`kernel_size` must be a positive integer.*kernel_size=0"),
        (lambda: ConvolutionalMixer(dilation_rate=0), "`dilation_rate` must be a positive integer"),
        (lambda: ConvolutionalMixer(padding="valid"), "`padding` must be one of .*Received: padding='valid'"),
        (lambda: ConvolutionalMixer(convolution="grouped"), "`convolution` must be one of .*'grouped'"),
        (lambda: ConvolutionalEncoder(F, num_key_value_heads=1), "`num_key_value_heads` is of attention"),
        (lambda: ConvolutionalEncoder(F)(X, positions=np.arange(T)), "`query_positions` needs attention"),
        (lambda: ConvolutionalEncoder(F)(X, padding_mask=np.ones((B, T), "float32")), "`padding_mask` must be boolean"),
    ],
)
def test_what_cannot_be_is_refused(make, message):
    with pytest.raises(ValueError, match=message):
        make()
