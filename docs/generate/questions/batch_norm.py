"""Question 13, batch norm itself: its statistics by batch size and by padding, and what it does at test time."""

import keras
import numpy as np
from keras import ops

from docs.generate.questions.pictures import curves

WIDTH = 16


def measure(seed=0, sizes=(2, 4, 8, 16, 32, 64, 128), draws=200):
    """Features of mean 1 and deviation 2: what the layer estimates of them."""
    rng = np.random.default_rng(seed)
    layer = keras.layers.BatchNormalization()
    x = (1 + 2 * rng.normal(size=(256, WIDTH))).astype("float32")
    normalized = np.asarray(ops.convert_to_numpy(layer(x, training=True)))
    figures = {
        "mean": float(np.abs(normalized.mean(0)).max()),
        "deviation": float(normalized.std(0).mean()),
        "first_update": float(np.mean(ops.convert_to_numpy(layer.moving_mean)) / x.mean()),
        "sizes": list(sizes),
    }
    for size in sizes:
        batches = 1 + 2 * rng.normal(size=(draws, size, WIDTH))
        figures.setdefault("mean_error", []).append(float(batches.mean(1).std()))
        figures.setdefault("output_error", []).append(_output_error(batches.astype("float32")))
    figures.update(_padded(rng))
    figures["updates_to_99"] = float(np.ceil(np.log(0.01) / np.log(layer.momentum)))
    return figures


def _output_error(batches):
    """How far outputs by the batch's own statistics are from those by the true ones, root mean square."""
    layer = keras.layers.BatchNormalization(center=False, scale=False)
    outputs = np.stack([ops.convert_to_numpy(layer(batch, training=True)) for batch in batches[:20]])
    return float(np.sqrt(np.mean((outputs - (batches[:20] - 1) / 2) ** 2)))


def _padded(rng):
    """The mean that the layer takes up where half of the places are padding, with their mask and without."""
    x = (1 + 2 * rng.normal(size=(64, 10, WIDTH))).astype("float32")
    real = np.arange(10) < 5
    x = np.where(real[None, :, None], x, 0.0).astype("float32")
    found = {}
    for name, mask in (("masked", np.broadcast_to(real, (64, 10))), ("unmasked", None)):
        layer = keras.layers.BatchNormalization(momentum=0.0)  # the moving mean is that of the last batch
        layer(x, training=True, mask=None if mask is None else ops.convert_to_tensor(mask))
        found[f"mean_{name}"] = float(np.mean(ops.convert_to_numpy(layer.moving_mean)))
    return found


def draw(figures, path):
    """The errors against batch size."""
    series = {
        "error of the batch's mean": (figures["sizes"], figures["mean_error"]),
        "error of the outputs": (figures["sizes"], figures["output_error"]),
        "2 / √B": (figures["sizes"], [2 / size**0.5 for size in figures["sizes"]]),
    }
    title = "statistics of a batch"
    curves({title: series}, path, x_label="batch size B", x_scale="log", y_scale="log", x_ticks=figures["sizes"])
