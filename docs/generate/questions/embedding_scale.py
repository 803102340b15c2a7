"""Question 8, why embeddings are multiplied by √d_model: tokens beside positions, and logits of tied weights."""

import keras
import numpy as np
from keras import ops

from docs.generate.questions.pictures import curves
from keras_tfm import layers

SIZES = (16, 64, 256, 1024)
VOCABULARY, LENGTH = 200, 32


def measure(seed=0, sizes=SIZES):
    """An embedding with the deviation that tied logits want, 1 / √d_model, with the factor and without."""
    figures = {"sizes": list(sizes)}
    for size in sizes:
        found = {"plain": _probe(size, None, size**-0.5, seed), "scaled": _probe(size, "sqrt", size**-0.5, seed)}
        for name, values in found.items():
            for what, value in values.items():
                figures.setdefault(f"{what}_{name}", []).append(value)
        figures.setdefault("logits_tied", []).append(_logit_deviation(size, size**-0.5, seed))
        figures.setdefault("logits_of_unit_table", []).append(_logit_deviation(size, 1.0, seed))
    return figures


def _probe(size, scale, deviation, seed):
    """The size of the token beside that of its position; how alike one token is to itself at other positions."""
    table = _table(size, deviation, seed, embedding_scale=scale, position="sinusoidal")
    tokens = np.random.default_rng(seed).permutation(VOCABULARY)[:LENGTH]
    ids = tokens[:, None].repeat(LENGTH, axis=1).astype("int32")  # each token at every position
    x = np.asarray(ops.convert_to_numpy(table(ids)), "float64")
    position = np.asarray(ops.convert_to_numpy(layers.SinePositionEncoding()(ops.zeros((1, LENGTH, size)))), "float64")
    embedded = x - position
    unit = (x / np.linalg.norm(x, axis=-1, keepdims=True)).reshape(-1, size)
    nearest = (unit @ unit.T - 2 * np.eye(len(unit))).argmax(-1)
    same_token = ids.reshape(-1)[nearest] == ids.reshape(-1)
    return {
        "ratio": float(np.linalg.norm(embedded, axis=-1).mean() / np.linalg.norm(position, axis=-1).mean()),
        "same_token": float(same_token.mean()),
    }


def _logit_deviation(size, deviation, seed):
    """Standard deviation of the logits that unit-variance vectors have by the embedding matrix."""
    table = _table(size, deviation, seed)
    hidden = np.random.default_rng(seed).normal(size=(50, size)).astype("float32")
    return float(np.std(ops.convert_to_numpy(table(hidden, reverse=True))))


def _table(size, deviation, seed, **options):
    initializer = keras.initializers.RandomNormal(stddev=deviation, seed=seed)
    options = {"position": None, **options}
    table = layers.PositionalEmbedding(VOCABULARY, LENGTH, size, embeddings_initializer=initializer, **options)
    table.build((None, None))
    return table


def draw(figures, path):
    """Sizes against d_model."""
    names = {"plain": "without the factor", "scaled": "times √d_model"}
    ratio = {label: (figures["sizes"], figures[f"ratio_{name}"]) for name, label in names.items()}
    logits = {
        "table of deviation 1/√d_model": (figures["sizes"], figures["logits_tied"]),
        "table of deviation 1": (figures["sizes"], figures["logits_of_unit_table"]),
    }
    titles = {"token's norm / position's norm": ratio, "deviation of the tied logits": logits}
    curves(titles, path, x_label="d_model", x_scale="log", y_scale="log", x_ticks=figures["sizes"])
