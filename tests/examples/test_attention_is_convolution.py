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


CASES = {
    "a line": ((11,), dict(kernel_size=5), np.arange(-2, 3)[:, None]),
    "the past of a line": ((7,), dict(kernel_size=3, padding="causal"), np.arange(-2, 1)[:, None]),
    "an image": ((5, 7), dict(kernel_size=3), square(3, -1)),
    "an even kernel, its places apart": ((7, 5), dict(kernel_size=2, dilation_rate=3), square(2, -1, 3)),
}


@pytest.mark.parametrize("name", CASES)
def test_heads_compute_the_convolution_everywhere(name):
    sizes, options, shifts = CASES[name]
    make = keras.layers.Conv1D if len(sizes) == 1 else keras.layers.Conv2D
    convolution = make(3, **{"padding": "same"} | options, bias_initializer="random_normal")
    images = np.random.default_rng(0).normal(size=(2, *sizes, 2)).astype("float32")
    convolution.build(images.shape)
    attention = copy_convolution(convolution, None if len(sizes) == 1 else sizes)
    x = keras.Input(images.shape[1:])
    by_keras, by_attention = keras.Model(x, [convolution(x), attention(x, x)]).predict(images, verbose=0)
    by_numpy = convolve(images, to_numpy(convolution.kernel), to_numpy(convolution.bias), shifts)
    assert np.abs(by_attention - by_keras).max() <= 1e-5
    assert np.abs(by_attention - by_numpy).max() <= 1e-5


def test_attention_alone_repeats_the_edges():
    convolution = keras.layers.Conv2D(5, 3, padding="same", use_bias=False)
    images = np.random.default_rng(1).normal(size=(1, 5, 7, 3)).astype("float32")
    convolution.build(images.shape)
    attention = copy_convolution(convolution, (5, 7), border="edges")
    expected = convolve(images, to_numpy(convolution.kernel), 0.0, square(3, -1), mode="edge")
    x = keras.Input(images.shape[1:])
    output = keras.Model(x, attention(x, x)).predict(images, verbose=0)
    assert np.abs(output - expected).max() <= 1e-5


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
