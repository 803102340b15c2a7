"""Question 14, the feed-forward network and its activations: a sum that attention alone cannot form."""

import keras
import numpy as np

from docs.generate.questions.pictures import bars
from docs.generate.questions.tiny_training import accuracy, fit
from keras_tfm import layers

VOCABULARY, WIDTH, INTERMEDIATE = 7, 32, 64
NETWORKS = {
    "none": None,
    "linear": layers.FeedForward(INTERMEDIATE, "linear"),
    "relu": layers.FeedForward(INTERMEDIATE, "relu"),
    "gelu": layers.FeedForward(INTERMEDIATE, "gelu"),
    "swiglu": layers.GatedFeedForward(INTERMEDIATE * 2 // 3, activation="silu"),
}


def measure(seed=0, steps=500):
    """One token that holds two numbers names their sum modulo 7."""
    rng = np.random.default_rng(seed)
    pairs, unseen = (rng.integers(0, VOCABULARY, (rows, 2)).astype("int32") for rows in (32 * steps, 1000))
    figures = {"steps": steps}
    for name, network in NETWORKS.items():
        keras.utils.set_random_seed(seed)
        model = _model(network)
        fit(model, _ids(pairs), _sums(pairs), learning_rate=5e-3)
        figures[f"accuracy_{name}"] = accuracy(model, _ids(unseen), _sums(unseen))
        figures[f"weights_{name}"] = model.count_params()
    return figures


def _ids(pairs):
    return pairs + np.array([0, VOCABULARY], "int32")


def _sums(pairs):
    return pairs.sum(1, keepdims=True) % VOCABULARY


def _model(network):
    """Both numbers are embedded into one vector `[B, 1, D]`; logits `[B, 1, V]`."""
    ids = keras.Input((2,), dtype="int32")
    token = keras.layers.AveragePooling1D(2)(keras.layers.Embedding(2 * VOCABULARY, WIDTH)(ids))
    return keras.Model(ids, keras.layers.Dense(VOCABULARY)(_block(token, network)))


def _block(x, network):
    """Attention with its residual, and the network with its; without norms, which are not linear either."""
    if network is not None:
        return layers.TransformerEncoder(None, 2, feed_forward=network, normalization="none")(x)
    return keras.layers.Add()([x, layers.MultiHeadAttention(2, WIDTH // 2)(x, x)])


def draw(figures, path):
    """The share of right sums."""
    series = {"share": [figures[f"accuracy_{name}"] for name in NETWORKS]}
    bars({"right sums by feed-forward network": series}, path, labels=list(NETWORKS), y_top=1.15)
