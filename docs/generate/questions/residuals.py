"""Question 11, what residual connections do: gradients and tokens through a deep stack, and what it learns."""

import keras
import numpy as np
from keras import ops

from docs.generate.questions.gradients import gradients
from docs.generate.questions.pictures import curves
from docs.generate.questions.tiny_training import accuracy, fit, random_ids, token_model
from keras_tfm import layers

LENGTH, WIDTH = 8, 32


class NoResidual(layers.Residual):
    """The update alone: `f(x)` in the place of `x + f(x)`."""

    def call(self, inputs, update):
        """Leaves the stream out."""
        return update


STACKS = {
    "with": {},
    "without": {"residual": NoResidual()},
    "bare": {"residual": NoResidual(), "normalization": "none"},
}


def measure(seed=0, num_blocks=12, trained_blocks=4, steps=200):
    """At the start: gradients by block, and what the tokens have apart; then the own token named after a training."""
    figures = {"blocks": num_blocks, "trained_blocks": trained_blocks, "steps": steps}
    for name, options in STACKS.items():
        keras.utils.set_random_seed(seed)
        gradient, apart = _at_start(options, num_blocks, seed)
        figures.update({f"gradient_{name}": gradient, f"apart_{name}": apart})
        figures[f"gradient_first_{name}"], figures[f"apart_last_{name}"] = gradient[0], apart[-1]
    rng = np.random.default_rng(seed)
    ids, unseen = random_ids(rng, 32 * steps, LENGTH, 12), random_ids(rng, 300, LENGTH, 12)
    for name in ("with", "without") if steps else ():
        keras.utils.set_random_seed(seed)
        stack = [layers.TransformerEncoder(64, 4, **STACKS[name]) for _ in range(trained_blocks)]
        model = token_model(keras.Sequential(stack), 12, WIDTH)
        fit(model, ids, ids, learning_rate=1e-3)
        figures[f"accuracy_{name}"] = accuracy(model, unseen, unseen)
    return figures


def _at_start(options, num_blocks, seed):
    blocks = [layers.TransformerEncoder(64, 4, **options) for _ in range(num_blocks)]
    streams = [keras.Input((LENGTH, WIDTH))]
    for block in blocks:
        streams.append(block(streams[-1]))
    x, y = np.random.default_rng(seed).normal(size=(2, 16, LENGTH, WIDTH)).astype("float32")
    found = gradients(keras.Model(streams[0], streams[-1]), x, y)
    gradient = [
        float(np.sqrt(sum((found[weight.path] ** 2).sum() for weight in block.feed_forward.trainable_weights)))
        for block in blocks
    ]
    values = keras.Model(streams[0], streams).predict_on_batch(x)
    return gradient, [_apart(np.asarray(ops.convert_to_numpy(value), "float64")) for value in values]


def _apart(stream):
    """How much of the stream differs from token to token: its distance from the mean token, over its size."""
    return float(np.linalg.norm(stream - stream.mean(1, keepdims=True)) / np.linalg.norm(stream))


def draw(figures, path):
    """Both against depth."""
    depth = list(range(figures["blocks"] + 1))
    names = {"with": "residuals and norms", "without": "norms alone", "bare": "neither"}
    gradient = {label: (depth[1:], figures[f"gradient_{name}"]) for name, label in names.items()}
    apart = {label: (depth, figures[f"apart_{name}"]) for name, label in names.items()}
    titles = {"gradient of the feed-forward network": gradient, "share of the stream that tells tokens apart": apart}
    curves(titles, path, x_label="block", y_scale="log")
