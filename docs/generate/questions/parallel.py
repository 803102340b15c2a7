"""Question 17, what is parallel, and whether the decoder can be: one pass against token by token."""

import time

import keras
import numpy as np
from keras import ops

from docs.generate.questions.pictures import curves
from keras_tfm import models


def measure(seed=0, lengths=(16, 32, 64, 128), repeats=3):
    """A small language model on one core: what training does at once, decoding does in turn."""
    keras.utils.set_random_seed(seed)
    size = dict(num_layers=2, hidden_dim=64, intermediate_dim=128, num_heads=2, sequence_length=max(lengths) + 1)
    model = models.CausalLM(50, **size)
    rng = np.random.default_rng(seed)
    figures = {"lengths": list(lengths)}
    for length in lengths:
        ids = rng.integers(1, 50, (1, length)).astype("int32")
        at_once = _quickest(lambda ids=ids: ops.convert_to_numpy(model(ids)), repeats)
        in_turn = _quickest(lambda length=length: model.generate([[1]], max_length=length), repeats)
        figures.setdefault("at_once", []).append(at_once)
        figures.setdefault("in_turn", []).append(in_turn)
        figures.setdefault("ratio", []).append(in_turn / at_once)
    figures["apart"] = _prefixes_apart(model, ids[:, :16])
    figures["agree"] = _agree(rng)
    return figures


def _quickest(function, repeats):
    """Milliseconds of the quickest call."""
    times = []
    for _ in range(repeats + 1):
        start = time.perf_counter()
        function()
        times.append(1000 * (time.perf_counter() - start))
    return min(times)


def _prefixes_apart(model, ids):
    """How far one pass over all tokens is from a pass for each prefix: teacher forcing loses nothing."""
    together = np.asarray(ops.convert_to_numpy(model(ids)))[0]
    one_by_one = [np.asarray(ops.convert_to_numpy(model(ids[:, : end + 1])))[0, -1] for end in range(ids.shape[1])]
    return float(np.abs(together - np.stack(one_by_one)).max())


def _agree(rng, words=6, draws=20000):
    """Two translations of six words, equally good: how often six words that are drawn each alone make one of them."""
    drawn = rng.integers(0, 2, (draws, words))
    return float(np.mean((drawn == drawn[:, :1]).all(1)))


def draw(figures, path):
    """Milliseconds against length."""
    series = {
        "token by token, with a cache": (figures["lengths"], figures["in_turn"]),
        "all at once, as in training": (figures["lengths"], figures["at_once"]),
    }
    curves({"milliseconds": series}, path, x_label="tokens", x_scale="log", y_scale="log", x_ticks=figures["lengths"])
