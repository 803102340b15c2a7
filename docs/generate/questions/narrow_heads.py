"""Question 6, why heads are narrower than the model: what they cost, and how narrow is too narrow."""

import keras
import numpy as np

from docs.generate.questions.pictures import bars
from docs.generate.questions.tiny_training import accuracy, fit, random_ids, token_model
from keras_tfm import layers

WIDTH, LENGTH, VOCABULARY = 512, 16, 12


def measure(seed=0, heads=(1, 2, 4, 8, 16), key_dims=(1, 2, 4, 16), steps=400):
    """Weights of a layer of width 512 with narrow heads and with full ones; what one head of each size finds."""
    figures = {"heads": list(heads), "key_dims": list(key_dims), "steps": steps, "length": LENGTH}
    figures["weights_narrow"] = [_weights(count, WIDTH // count) for count in heads]
    figures["weights_full"] = [_weights(count, WIDTH) for count in heads]
    figures["accuracy"] = [_learned(key_dim, seed, steps) for key_dim in key_dims]
    return figures


def _weights(num_heads, key_dim):
    attention = layers.MultiHeadAttention(num_heads, key_dim)
    attention.build((None, None, WIDTH), (None, None, WIDTH))
    return attention.count_params()


def _learned(key_dim, seed, steps):
    """How often one head whose queries and keys have this size finds the token before it; its values have 32."""
    keras.utils.set_random_seed(seed)
    rng = np.random.default_rng(seed)
    ids, unseen = random_ids(rng, 32 * steps, LENGTH, VOCABULARY), random_ids(rng, 300, LENGTH, VOCABULARY)
    attention = layers.MultiHeadAttention(1, key_dim, value_dim=32)
    model = token_model(lambda x: attention(x, x), VOCABULARY, width=32)
    fit(model, ids, np.roll(ids, 1, axis=1), learning_rate=1e-2)
    return accuracy(model, unseen, np.roll(unseen, 1, axis=1))


def draw(figures, path):
    """What was learned by head size."""
    labels = [f"d_k = {key_dim}" for key_dim in figures["key_dims"]]
    bars({"tokens found by one head": {"share": figures["accuracy"]}}, path, labels=labels, y_top=1.15)
