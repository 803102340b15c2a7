"""Question 12, why layer norm and not batch norm, and where: what a sentence's neighbours change, and gradients."""

import keras
import numpy as np
from keras import ops

from docs.generate.questions.gradients import gradients
from docs.generate.questions.pictures import curves
from keras_tfm import layers

LENGTH, WIDTH = 8, 32


def measure(seed=0, depths=(3, 6, 12, 24), draws=5):
    """One sentence beside others, in training mode; then the gradient of the last block by the place of its norm."""
    rng = np.random.default_rng(seed)
    x, y, others = rng.normal(size=(3, 16, LENGTH, WIDTH)).astype("float32")
    figures = {"depths": list(depths), "draws": draws}
    for kind in ("layer", "batch"):
        keras.utils.set_random_seed(seed)
        block = layers.TransformerEncoder(64, 4, normalization=kind)
        here = _first(block, x[:4], training=True)
        there = _first(block, np.concatenate([x[:1], 2 * others[:3]]), training=True)
        figures[f"neighbours_{kind}"] = float(np.abs(here - there).max())
        figures[f"test_gap_{kind}"] = float(np.abs(_first(block, x[:4], training=False) - here).max())
    for place in ("post", "pre"):
        norms = [
            float(np.mean([_last_gradient(place, depth, x, y, seed + draw) for draw in range(draws)]))
            for depth in depths
        ]
        figures[f"gradient_{place}"] = norms
        figures[f"shrinks_{place}"] = norms[0] / norms[-1]
    return figures


def _first(block, batch, training):
    return np.asarray(ops.convert_to_numpy(block(ops.convert_to_tensor(batch), training=training)))[0]


def _last_gradient(place, depth, x, y, seed):
    """Gradient norm of the last block's feed-forward network at the start of training."""
    keras.utils.set_random_seed(seed)
    inputs = keras.Input((LENGTH, WIDTH))
    stack = layers.TransformerEncoderStack(depth, 64, 4, placement=place)
    found = gradients(keras.Model(inputs, keras.layers.Dense(WIDTH)(stack(inputs))), x, y)
    weights = stack.blocks[-1].feed_forward.trainable_weights
    return float(np.sqrt(sum((found[weight.path] ** 2).sum() for weight in weights)))


def draw(figures, path):
    """The gradients against depth."""
    series = {f"{place}-norm": (figures["depths"], figures[f"gradient_{place}"]) for place in ("post", "pre")}
    roots = [figures["gradient_pre"][0] * (figures["depths"][0] / depth) ** 0.5 for depth in figures["depths"]]
    series["falling as 1/√L"] = (figures["depths"], roots)
    title = "gradient of the last block at the start"
    curves({title: series}, path, x_label="blocks L", x_scale="log", y_scale="log", x_ticks=figures["depths"])
