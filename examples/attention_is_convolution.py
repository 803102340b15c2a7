"""Copies convolutions into multi-head attention, and measures how exactly attention computes them.

    python examples/attention_is_convolution.py
    python examples/attention_is_convolution.py --sharpness 4 --kernel-size 5

Theorem 1 of Cordonnier, Loukas & Jaggi 2020 ("On the Relationship between Self-Attention and Convolutional Layers"):
self-attention with one head for each place of a kernel can compute any convolution. The head looks at one shift, by
quadratic relative positions, and its projections are the kernel's slice. What happens at the border:

- attention alone has nothing to look at where a shift leads out of the image, so it looks at the nearest pixel: it
  computes the convolution of the image with its edges repeated;
- a sink, a key without a value, half a step less attractive than the pixel that is looked for, takes over where that
  pixel is missing: this is the convolution with zeros around the image, Keras' `padding="same"`, on every pixel.
"""

import argparse
import itertools
from pathlib import Path

import command_line
import keras
import numpy as np
from keras.ops import convert_to_numpy as to_numpy

from keras_tfm import layers


def copy_convolution(convolution, image_size=None, sharpness=10.0, border="zeros"):
    """The self-attention that computes what a convolution does: call it as `attention(inputs, inputs)`.

    Args:
        convolution: a built `keras.layers.Conv1D`, `Conv2D` or `Conv3D` with stride 1 and `padding="same"`, or
            `"causal"`. Kernels of any size, even ones too, and dilation.
        image_size: `(height, width)` of the inputs; `None` for `Conv1D`, whose copy takes any length.
        sharpness: one over the width of the heads' Gaussians, in pixels. A head misses its pixel by a share of about
            `exp(-sharpness² / 4)`.
        border: `"zeros"` around the inputs, as Keras has it, or `"edges"` that are repeated.

    Returns:
        A `keras_tfm.layers.MultiHeadAttention` for `[B, T, C]`, or `[B, height, width, C]`.
    """
    check_convolution(convolution, image_size, border)
    kernel = to_numpy(convolution.kernel).copy()  # JAX must not share memory between the two layers
    (*sizes, channels, filters), rank = kernel.shape, kernel.ndim - 2
    centers = kernel_shifts(sizes, convolution.dilation_rate, convolution.padding)
    attention = layers.MultiHeadAttention(
        num_heads=len(centers),
        key_dim=1,
        value_dim=channels,
        output_shape=filters,
        attention_axes=tuple(range(1, rank + 1)),
        position=layers.QuadraticPosition(image_size),
        attention_sink="learned" if border == "zeros" else None,
        kernel_initializer="zeros",  # queries and keys stay so: the content has no say
    )
    shape = (None, *(image_size or (None,)), channels)
    attention.build(shape, shape)
    attention.position.centers.assign(centers)
    attention.position.sharpness.assign(np.full(len(centers), sharpness))
    if border == "zeros":  # a pixel's logit is α (|Δ|² - |δ - Δ|²): that of the centre, and of a point half a step away
        attention.sink.assign(sharpness**2 / 2 * ((centers**2).sum(axis=1) - 0.5))
    weights = {weight.path.split("/", 1)[1]: weight for weight in attention.weights}
    weights["value/kernel"].assign(np.repeat(np.eye(channels)[:, None], len(centers), axis=1))
    weights["attention_output/kernel"].assign(kernel.reshape(len(centers), channels, filters))
    if convolution.use_bias:
        weights["attention_output/bias"].assign(to_numpy(convolution.bias).copy())
    return attention


def check_convolution(convolution, image_size, border):
    """Refuses what is no plain convolution of the same size."""
    config = convolution.get_config()
    wanted = dict(padding=("same", "causal"), strides=((1,) * convolution.rank,), activation=("linear",), groups=(1,))
    for name, values in (wanted | {"data_format": ("channels_last",)}).items():
        if config[name] not in values:
            raise ValueError(f"`convolution` must have {name} in {values}. Received: {name}={config[name]!r}")
    if len(image_size or (None,)) != convolution.rank:
        raise ValueError(f"`image_size` must be a size an axis, None for Conv1D. Received: image_size={image_size}")
    if border not in ("zeros", "edges"):
        raise ValueError(f"`border` must be 'zeros' or 'edges'. Received: border={border!r}")


def kernel_shifts(sizes, dilation, padding="same"):
    """Where each place of a kernel looks from the pixel that is computed: float `[places, axes]`."""
    share, steps = 1 if padding == "causal" else 2, zip(sizes, dilation, strict=True)
    axes = [np.arange(size) * step - (size - 1) * step // share for size, step in steps]
    return np.array(list(itertools.product(*axes)), "float32")


def largest_errors(convolution, images, output):
    """The largest errors of a copy's output: where the kernel lies inside of the images, and where it reads beyond."""
    shifts = kernel_shifts(convolution.kernel_size, convolution.dilation_rate, convolution.padding)
    sizes = np.array(images.shape[1:-1])
    places = np.stack(np.indices(sizes), axis=-1)[..., None, :] + shifts
    is_border = ((places < 0) | (places >= sizes)).any(axis=(-2, -1))
    errors = np.abs(to_numpy(output) - to_numpy(convolution(images))).max(axis=(0, -1))
    return errors[~is_border].max(initial=0), errors[is_border].max(initial=0)


def compare_random_convolutions(rng, sharpness):
    line, image = (23,), (11, 13)
    cases = [(line, 3, 5, dict(kernel_size=size)) for size in (1, 2, 3, 7)]
    cases += [(image, 3, 5, dict(kernel_size=size)) for size in ((2, 3), 3, 5, 7)]
    cases += [(line, 3, 5, dict(kernel_size=4, padding="causal")), (image, 5, 3, dict(kernel_size=3, dilation_rate=2))]
    print(f"random convolutions copied with sharpness {sharpness:g}; max error inside, and where zeros are read:")
    for sizes, channels, filters, options in cases:
        make = keras.layers.Conv1D if sizes == line else keras.layers.Conv2D
        convolution = make(filters, **{"padding": "same"} | options, bias_initializer="random_normal")
        convolution.build((None, *sizes, channels))
        images = rng.normal(size=(2, *sizes, channels)).astype("float32")
        x = keras.Input((*sizes, channels))
        attention = copy_convolution(convolution, None if sizes == line else sizes, sharpness)
        output = keras.Model(x, attention(x, x)).predict(images, verbose=0)  # compiled: one program a shape
        inside, border = largest_errors(convolution, images, output)
        named = ", ".join(f"{name}={value}" for name, value in options.items())
        print(f"  {make.__name__} {channels} -> {filters}, {named:32}{inside:8.1e} {border:8.1e}")


def train_convolution(rng, kernel_size, size=16):
    """A Conv2D that learned from noisy pictures of discs where brightness changes, and a picture."""
    places = np.indices((size, size))[:, None] - rng.uniform(0, size, size=(2, 256, 1, 1))
    discs = np.hypot(*places) < rng.uniform(2, size / 2, size=(256, 1, 1))
    images = (discs + 0.1 * rng.normal(size=discs.shape)).astype("float32")
    slopes = np.stack(np.gradient(images, axis=(1, 2)), axis=-1)
    convolution = keras.layers.Conv2D(2, kernel_size, padding="same")
    model = keras.Sequential([keras.Input((size, size, 1)), convolution])
    model.compile(keras.optimizers.Adam(0.03), "mse")
    loss = model.fit(images[..., None], slopes, batch_size=32, epochs=20, verbose=0).history["loss"]
    print(f"a {kernel_size} x {kernel_size} Conv2D learns slopes: mean squared error {loss[0]:.4f} -> {loss[-1]:.4f}")
    return convolution, images[:1, ..., None]


def measure_sharpness(convolution, image, sharpness):
    """Pairs of a sharpness and the largest error of the copy."""
    curve = []
    print("  sharpness  max error  exp(-sharpness² / 4)")  # the share of the sink where the pixel is there
    for each in sorted({1.0, 2.0, 3.0, 4.0, 5.0, 6.0, 7.0, 8.0, sharpness}):
        attention = copy_convolution(convolution, image.shape[1:3], each)
        curve.append((each, max(largest_errors(convolution, image, attention(image, image)))))
        print(f"  {each:9g}  {curve[-1][1]:9.1e}  {np.exp(-(each**2) / 4):20.1e}")
    return curve


def print_error_with_edges(convolution, image, sharpness):
    span = int(np.abs(kernel_shifts(convolution.kernel_size, convolution.dilation_rate)).max())
    padded = np.pad(image, [(0, 0), (span, span), (span, span), (0, 0)], mode="edge")
    expected = to_numpy(convolution(padded))[:, span : span + image.shape[1], span : span + image.shape[2]]
    attention = copy_convolution(convolution, image.shape[1:3], sharpness, border="edges")
    error = np.abs(to_numpy(attention(image, image)) - expected).max()
    print(f"without a sink, against the convolution that repeats the edges: max error {error:.1e}")


def draw(convolution, image, sharpness, curve, path):
    """The slopes from both, the error, and what each head looks at from a pixel in the middle and in a corner."""
    from matplotlib.figure import Figure

    attention = copy_convolution(convolution, image.shape[1:3], sharpness)
    output, scores = attention(image, image, return_attention_scores=True)
    figure = Figure(figsize=(11, 8.5), layout="constrained")
    top, bottom = figure.subfigures(2, 1, height_ratios=(1, 1.6))
    axes = top.subplots(1, 4)
    pictures = {"image": image, "convolution": to_numpy(convolution(image)), "attention": to_numpy(output)}
    for place, (name, picture) in zip(axes, pictures.items(), strict=False):
        place.imshow(picture[0, ..., -1], cmap="gray")
        place.set(title=name, xticks=[], yticks=[])
    axes[3].semilogy(*zip(*curve, strict=True), marker="o")
    axes[3].set(title="max error", xlabel="sharpness")
    for side, query in zip(bottom.subfigures(1, 2), ((8, 8), (0, 0)), strict=True):
        side.suptitle(f"scores of the heads from pixel {query}, which is marked")
        grid = side.subplots(*convolution.kernel_size, squeeze=False).flat
        for place, head in zip(grid, to_numpy(scores)[0][(slice(None), *query)], strict=True):
            place.imshow(head, cmap="Blues", vmin=0, vmax=1)
            place.plot(*query[::-1], marker="+", color="tab:red")
            place.set(xticks=[], yticks=[])
    figure.savefig(path, dpi=110)


def main(argv=None):
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--sharpness", type=float, default=10.0, help="one over the width of the heads, in pixels")
    parser.add_argument("--kernel-size", type=int, default=3, help="of the convolution that is trained")
    parser.add_argument("--output", default="convolution", metavar="DIR", help="folder of the picture")
    parser.add_argument("--seed", type=int, default=0)
    args = parser.parse_args(argv)
    command_line.require("matplotlib")
    path = Path(args.output, "convolution.png")
    path.parent.mkdir(parents=True, exist_ok=True)
    keras.utils.set_random_seed(args.seed)
    rng = np.random.default_rng(args.seed)
    compare_random_convolutions(rng, args.sharpness)
    convolution, image = train_convolution(rng, args.kernel_size)
    curve = measure_sharpness(convolution, image, args.sharpness)
    print_error_with_edges(convolution, image, args.sharpness)
    draw(convolution, image, args.sharpness, curve, path)
    print(f"the heads are drawn in {path}")


if __name__ == "__main__":
    main()
