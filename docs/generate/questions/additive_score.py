"""Question 3, why the dot product and not the additive score: what each costs, and what each learns."""

import time

import keras
import numpy as np
from keras import ops

from docs.generate.questions.pictures import bars
from docs.generate.questions.tiny_training import accuracy, fit, random_ids, token_model
from keras_tfm import layers

SCORES = {"dot": "q·k", "scaled_dot": "q·k / √d_k", "additive": "additive"}
LENGTH, VOCABULARY, HEADS, KEY_DIM = 8, 12, 4, 32


def measure(seed=0, steps=(200, 500), key_dims=(4, 64), cost_length=128, repeats=9):
    """Time of a call and numbers held, then the token before learned with narrow heads and with wide ones."""
    figures = {"steps": list(steps), "key_dims": list(key_dims), "cost_length": cost_length}
    for score in SCORES:
        figures[f"ms_{score}"] = _milliseconds(score, cost_length, repeats)
        for key_dim in key_dims:
            figures[f"accuracy_{score}_{key_dim}"] = _learned(score, key_dim, seed, steps)
    figures["slower"] = figures["ms_additive"] / figures["ms_scaled_dot"]
    figures["held_scaled_dot"] = HEADS * cost_length**2
    figures["held_additive"] = HEADS * cost_length**2 * KEY_DIM
    return figures


def _milliseconds(score, length, repeats):
    """The quickest of some forward calls."""
    attention = layers.MultiHeadAttention(HEADS, KEY_DIM, score=score)
    x = keras.random.normal((4, length, HEADS * KEY_DIM), seed=0)
    times = []
    for _ in range(repeats + 2):
        start = time.perf_counter()
        ops.convert_to_numpy(attention(x, x))
        times.append(1000 * (time.perf_counter() - start))
    return min(times[2:])


def _learned(score, key_dim, seed, steps):
    """How often one head of this size finds the token before it, after each number of updates."""
    keras.utils.set_random_seed(seed)
    rng = np.random.default_rng(seed)
    unseen = random_ids(rng, 300, LENGTH, VOCABULARY)
    attention = layers.MultiHeadAttention(1, key_dim, value_dim=32, score=score)
    model = token_model(lambda x: attention(x, x), VOCABULARY, width=32)
    found = []
    for updates in np.diff([0, *steps]):
        ids = random_ids(rng, 32 * int(updates), LENGTH, VOCABULARY)
        fit(model, ids, np.roll(ids, 1, axis=1))
        found.append(accuracy(model, unseen, np.roll(unseen, 1, axis=1)))
    return found


def draw(figures, path):
    """What was learned at each head size."""
    panels = {
        f"share of tokens found, d_k = {key_dim}": {
            label: figures[f"accuracy_{score}_{key_dim}"] for score, label in SCORES.items()
        }
        for key_dim in figures["key_dims"]
    }
    bars(panels, path, labels=[f"{steps} updates" for steps in figures["steps"]], y_top=1.35)
