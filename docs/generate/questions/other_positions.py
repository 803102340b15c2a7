"""Question 10, other positional encodings compared: the token before, at the trained length and at four times that."""

import keras
import numpy as np

from docs.generate.questions.pictures import bars
from docs.generate.questions.tiny_training import accuracy, fit, random_ids, token_model
from keras_tfm import layers

METHODS = ("learned", "sinusoidal", "rope", "alibi", "t5", "clipped")
ABSOLUTE = ("learned", "sinusoidal")
LENGTH, LONGER, VOCABULARY, WIDTH = 16, 64, 12, 32


def measure(seed=0, steps=500, methods=METHODS):
    """One causal block with each method, trained on 16 tokens."""
    figures = {"steps": steps, "length": LENGTH, "longer": LONGER}
    for method in methods:
        keras.utils.set_random_seed(seed)
        rng = np.random.default_rng(seed)
        absolute = method if method in ABSOLUTE else None
        block = layers.TransformerDecoder(64, 2, position=None if absolute else method)
        model = token_model(block, VOCABULARY, WIDTH, length=LONGER, position=absolute)
        ids = random_ids(rng, 32 * steps, LENGTH, VOCABULARY)
        fit(model, ids, _before(ids))
        figures.setdefault("weights", []).append(model.count_params())
        for where, length in (("seen", LENGTH), ("beyond", LONGER)):
            unseen = random_ids(rng, 200, length, VOCABULARY)
            figures[f"{where}_{method}"] = accuracy(model, unseen, _before(unseen))
    figures["added"] = [count - min(figures["weights"]) for count in figures["weights"]]
    return figures


def _before(ids):
    """The token before; the first has itself, since a decoder sees nothing later."""
    return np.concatenate([ids[:, :1], ids[:, :-1]], axis=1)


def draw(figures, path):
    """Both lengths, by method."""
    series = {
        f"{figures['length']} tokens, as trained": [figures[f"seen_{method}"] for method in METHODS],
        f"{figures['longer']} tokens": [figures[f"beyond_{method}"] for method in METHODS],
    }
    bars({"share of tokens found": series}, path, labels=METHODS, y_top=1.35)
