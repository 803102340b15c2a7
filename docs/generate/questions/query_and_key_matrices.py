"""Question 2, why queries and keys have different matrices: rock, paper, scissors with a shared one and with two."""

import keras
import numpy as np
from keras import ops

import keras_tfm
from docs.generate.questions.pictures import heat_maps
from docs.generate.questions.tiny_training import accuracy, fit, token_model

COLOURS, WIDTH = 8, 16  # id = 8 · kind + colour


class OneHead(keras.layers.Layer):
    """One attention head, whose keys may be projected by the queries' own matrix."""

    def __init__(self, is_shared):
        super().__init__()
        self.query = keras.layers.Dense(WIDTH, use_bias=False)
        self.key = self.query if is_shared else keras.layers.Dense(WIDTH, use_bias=False)
        self.value = keras.layers.Dense(WIDTH, use_bias=False)

    def call(self, x):
        """Output `[B, T, D]` and scores `[B, 1, T, T]`."""
        query, key, value = (ops.expand_dims(dense(x), 2) for dense in (self.query, self.key, self.value))
        output, scores = keras_tfm.ops.attention(query, key, value, return_scores=True)
        return ops.squeeze(output, 2), scores


def measure(seed=0, steps=400):
    """Each of three tokens has to name the colour of the one that it beats; no positions are needed."""
    rng = np.random.default_rng(seed)
    (ids, answers), (unseen, expected) = _games(rng, 32 * steps), _games(rng, 600)
    figures = {"steps": steps, "bound": 2 / 3 + 1 / 3 / COLOURS}
    for name, is_shared in (("shared", True), ("apart", False)):
        keras.utils.set_random_seed(seed)
        model, looking = _model(is_shared)
        fit(model, ids, answers, learning_rate=1e-2)
        figures[f"accuracy_{name}"] = accuracy(model, unseen, expected)
        scores = np.asarray(ops.convert_to_numpy(looking.predict_on_batch(unseen)), "float64")[:, 0]
        order = np.argsort(unseen // COLOURS, axis=1)  # rows and columns as rock, paper, scissors
        sorted_scores = np.take_along_axis(
            np.take_along_axis(scores, order[:, :, None], axis=1), order[:, None], axis=2
        )
        figures[f"scores_{name}"] = sorted_scores.mean(0).round(3).tolist()
    return figures


def _games(rng, rows):
    kinds = rng.permuted(np.tile(np.arange(3), (rows, 1)), axis=1)
    colours = rng.integers(0, COLOURS, (rows, 3))
    beaten = np.argmax(kinds[:, None, :] == (kinds[:, :, None] + 2) % 3, axis=-1)  # paper beats rock, and so on
    answers = np.take_along_axis(colours, beaten, axis=1)
    return (COLOURS * kinds + colours).astype("int32"), answers.astype("int32")


def _model(is_shared):
    found = []

    def attend(x):
        x, scores = OneHead(is_shared)(x)
        found.append(scores)
        return x

    model = token_model(attend, 3 * COLOURS, WIDTH, classes=COLOURS, position=None)
    return model, keras.Model(model.input, found[0])


def draw(figures, path):
    """The trained scores."""
    panels = {"W_Q = W_K": figures["scores_shared"], "W_Q and W_K apart": figures["scores_apart"]}
    heat_maps(panels, path, x_label="key: rock, paper, scissors", y_label="query")
