"""Question 9, positional encoding, its virtues and faults: sinusoids probed, and one block with them and without."""

import keras
import numpy as np
from keras import ops

import keras_tfm
from docs.generate.questions.pictures import write
from docs.generate.questions.tiny_training import accuracy, fit, random_ids, token_model
from keras_tfm import layers
from keras_tfm.visualization.figures import new_figure

WIDTH, LENGTH, LONGER, VOCABULARY = 64, 16, 64, 12


def measure(seed=0, steps=300):
    """The table's properties at 1,000 positions, then the token before by one block."""
    table = np.asarray(ops.convert_to_numpy(keras_tfm.ops.sinusoid(np.arange(1000), WIDTH)), "float64")
    figures = {"table": table[:LONGER].round(3).tolist(), "largest": float(np.abs(table).max())}
    figures.update(_by_distance(table, seed))
    figures["shift_error"] = _shift_error(table)
    figures["nearest"] = float(_distances(table)[~np.eye(len(table), dtype="bool")].min())
    for name, position in (("with", "sinusoidal"), ("without", None)) if steps else ():
        keras.utils.set_random_seed(seed)
        rng = np.random.default_rng(seed)
        block = layers.TransformerEncoder(64, 2)
        model = token_model(block, VOCABULARY, 32, length=LONGER, position=position)
        ids = random_ids(rng, 32 * steps, LENGTH, VOCABULARY)
        fit(model, ids, np.roll(ids, 1, axis=1))
        for where, length in (("seen", LENGTH), ("longer", LONGER)):
            unseen = random_ids(rng, 200, length, VOCABULARY)
            figures[f"{where}_{name}"] = accuracy(model, unseen, np.roll(unseen, 1, axis=1))
    return figures


def _by_distance(table, seed):
    """Products of positions k apart: how much they vary along the text, before and after W_Q and W_K."""
    rng = np.random.default_rng(seed)
    matrices = rng.normal(size=(2, WIDTH, WIDTH)) / WIDTH**0.5
    query, key = (table @ matrix for matrix in matrices)
    apart = 5
    plain = np.sum(table[:-apart] * table[apart:], axis=-1)
    projected = np.sum(query[:-apart] * key[apart:], axis=-1)
    middle = table[500] @ table[400:601].T
    return {
        "products": middle.tolist(),
        "varies_plain": float(plain.std() / WIDTH * 2),
        "varies_projected": float(projected.std() / WIDTH * 2),
        "both_sides": float(np.abs(middle - middle[::-1]).max()),
    }


def _shift_error(table, shift=7):
    """One matrix takes every position to the one `shift` later: each pair of features turns by an angle."""
    sine, cosine = table[:, 0::2], table[:, 1::2]
    turned = sine[:-shift] * cosine[shift] + cosine[:-shift] * sine[shift]
    return float(np.abs(turned - sine[shift:]).max())


def _distances(table):
    squares = (table**2).sum(-1)
    return np.sqrt(np.maximum(squares[:, None] + squares - 2 * table @ table.T, 0))


def draw(figures, path):
    """The table, and the products of the middle position with its neighbours."""
    figure = new_figure(7.2, 3.0)
    left, right = figure.subplots(1, 2)
    image = left.imshow(figures["table"], cmap="RdBu_r", aspect="auto", interpolation="nearest")
    left.set(xlabel="feature", ylabel="position")
    left.set_title("the table", fontsize=10)
    figure.colorbar(image, ax=left)
    right.plot(range(-100, 101), figures["products"], linewidth=1.5)
    right.set(xlabel="distance")
    right.set_title("product of two positions", fontsize=10)
    right.grid(alpha=0.3)
    write(figure, path)
