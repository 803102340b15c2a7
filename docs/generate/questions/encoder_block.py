"""Question 7, the encoder module: its weights by part, which input reaches which output, what order is to it."""

import keras
import numpy as np
from keras import ops

from docs.generate.questions.pictures import heat_maps
from keras_tfm import layers

LENGTH, WIDTH = 8, 16


def measure(seed=0):
    """The paper's base block counted; a small one probed."""
    block = layers.TransformerEncoder(2048, 8)
    block.build((None, None, 512))
    parts = {"attention": block.self_attention, "feed_forward": block.feed_forward, "block": block}
    figures = {f"weights_{name}": part.count_params() for name, part in parts.items()}
    figures["weights_norms"] = 2 * figures["weights_block"] - sum(figures[f"weights_{name}"] for name in parts)
    figures["share_feed_forward"] = figures["weights_feed_forward"] / figures["weights_block"]
    keras.utils.set_random_seed(seed)
    small = layers.TransformerEncoder(64, 2)
    x = np.random.default_rng(seed).normal(size=(1, LENGTH, WIDTH)).astype("float32")
    order = np.random.default_rng(seed).permutation(LENGTH)
    figures["reordered"] = float(np.abs(_run(small, x[:, order]) - _run(small, x)[:, order]).max())
    figures["reach_attention"] = _reach(lambda x: small.self_attention(x, x), x).tolist()
    figures["reach_feed_forward"] = _reach(small.feed_forward, x).tolist()
    off_diagonal = ~np.eye(LENGTH, dtype="bool")
    figures["across_feed_forward"] = float(np.array(figures["reach_feed_forward"])[off_diagonal].max())
    figures["across_attention"] = float(np.array(figures["reach_attention"])[off_diagonal].min())
    return figures


def _run(function, x):
    return np.asarray(ops.convert_to_numpy(function(ops.convert_to_tensor(x))), "float64")


def _reach(function, x):
    """`[output t, input s]`: how far output t moves when input s does; each row of the batch moves another input."""
    moved = np.repeat(x, LENGTH, axis=0)
    moved[np.arange(LENGTH), np.arange(LENGTH)] += 0.5
    apart = _run(function, moved) - _run(function, np.repeat(x, LENGTH, axis=0))
    return np.linalg.norm(apart, axis=-1).T


def draw(figures, path):
    """Which input reaches which output."""
    panels = {
        "attention: all to all": figures["reach_attention"],
        "feed-forward: each alone": figures["reach_feed_forward"],
    }
    panels = {title: np.array(matrix) / np.max(matrix) for title, matrix in panels.items()}
    heat_maps(panels, path, x_label="input moved", y_label="output that moves")
