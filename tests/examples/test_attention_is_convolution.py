"""Convolutions copied into heads: against Keras' own layers, and against a convolution in plain numpy float64."""

import attention_is_convolution
import keras
import numpy as np
import pytest
from attention_is_convolution import copy_convolution, main

to_numpy = keras.ops.convert_to_numpy


def convolve(images, kernel, bias, shifts, mode="constant"):
    """One pixel at a time, in float64; `shifts` are those of the kernel's places, in the order of its rows."""
    span = int(np.abs(shifts).max())
    axes = images.ndim - 2
    padded = np.pad(images.astype("float64"), [(0, 0), *[(span, span)] * axes, (0, 0)], mode=mode)
    slices = kernel.astype("float64").reshape(-1, *kernel.shape[-2:])
    output = np.zeros((*images.shape[:-1], kernel.shape[-1])) + bias
    for batch, *pixel in np.ndindex(images.shape[:-1]):
        for shift, part in zip(shifts, slices, strict=True):
            output[(batch, *pixel)] += padded[(batch, *(np.array(pixel) + shift + span))] @ part
    return output


def square(size, first, step=1):
    axis = [place * step + first for place in range(size)]
    return np.array([(row, column) for row in axis for column in axis])


CASES = {  # size of the images, the convolution, the shifts of its places, what is around the images
    "the past of a line": ((11,), dict(kernel_size=3, padding="causal"), np.arange(-2, 1)[:, None], "zeros"),
    "an image": ((5, 7), dict(kernel_size=3), square(3, -1), "zeros"),
    "an even kernel, its places apart": ((7, 5), dict(kernel_size=2, dilation_rate=3), square(2, -1, 3), "zeros"),
    "an image whose edges are repeated": ((5, 7), dict(kernel_size=3, use_bias=False), square(3, -1), "edges"),
}


@pytest.fixture(scope="module")
def outputs():
    """What Keras, heads and numpy compute, for each case; all cases are one program, which compiles once."""
    rng, inputs, computed, images, expected = np.random.default_rng(0), [], [], [], []
    for sizes, options, shifts, border in CASES.values():
        make = keras.layers.Conv1D if len(sizes) == 1 else keras.layers.Conv2D
        convolution = make(3, **{"padding": "same"} | options, bias_initializer="random_normal")
        images.append(rng.normal(size=(2, *sizes, 2)).astype("float32"))
        inputs.append(keras.Input(images[-1].shape[1:]))
        convolution.build(images[-1].shape)
        attention = copy_convolution(convolution, None if len(sizes) == 1 else sizes, border=border)
        computed.append((convolution(inputs[-1]), attention(inputs[-1], inputs[-1])))
        bias = to_numpy(convolution.bias) if convolution.use_bias else 0.0
        mode = {"zeros": "constant", "edges": "edge"}[border]
        expected.append(convolve(images[-1], to_numpy(convolution.kernel), bias, shifts, mode))
    received = keras.Model(inputs, computed).predict(images, verbose=0)
    return {name: (*pair, exact) for name, pair, exact in zip(CASES, received, expected, strict=True)}


@pytest.mark.parametrize("name", CASES)
def test_heads_compute_the_convolution_everywhere(name, outputs):
    by_keras, by_attention, by_numpy = outputs[name]
    assert np.abs(by_attention - by_numpy).max() <= 1e-5
    if CASES[name][-1] == "zeros":
        assert np.abs(by_attention - by_keras).max() <= 1e-5
    else:
        assert np.abs(by_attention - by_keras)[:, 1:-1, 1:-1].max() <= 1e-5


@pytest.mark.parametrize(
    ("options", "size", "message"),
    [
        ({"padding": "valid"}, None, "padding in .*'same', 'causal'.*padding='valid'"),
        ({"strides": 2}, None, r"strides in .*strides=\(2,\)"),
        ({"activation": "relu"}, None, "activation in .*activation='relu'"),
        ({"groups": 2}, None, "groups in .*groups=2"),
        ({}, (3, 4), r"`image_size` must be a size an axis.*image_size=\(3, 4\)"),
    ],
)
def test_other_convolutions_are_refused(options, size, message):
    convolution = keras.layers.Conv1D(2, 3, **{"padding": "same"} | options)
    convolution.build((None, 5, 2))
    with pytest.raises(ValueError, match=message):
        copy_convolution(convolution, size)


def test_a_border_that_is_unknown_is_refused():
    convolution = keras.layers.Conv1D(2, 3, padding="same")
    convolution.build((None, 5, 2))
    with pytest.raises(ValueError, match="`border` must be 'zeros' or 'edges'.*border='wrap'"):
        copy_convolution(convolution, border="wrap")


def test_the_error_falls_with_the_sharpness(tmp_path, capsys, monkeypatch):
    pytest.importorskip("matplotlib")
    monkeypatch.setattr(attention_is_convolution, "compare_random_convolutions", lambda rng, sharpness: None)
    main(["--kernel-size", "1", "--sharpness", "9", "--output", str(tmp_path)])
    rows = [line.split() for line in capsys.readouterr().out.splitlines() if line.startswith("   ")]
    errors = {float(sharpness): float(error) for sharpness, error, _ in rows}
    assert errors[1] > errors[4] > errors[6] > errors[9] and errors[9] <= 1e-5
    assert (tmp_path / "convolution.png").read_bytes().startswith(b"\x89PNG")
