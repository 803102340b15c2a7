"""Question 1, why several heads: two look-ups at once, with one head, two and four of the same total width."""

import keras
import numpy as np
from keras import ops

from docs.generate.questions.pictures import heat_maps
from docs.generate.questions.tiny_training import fit, random_ids, token_model
from keras_tfm import layers

LENGTH, VOCABULARY, WIDTH = 10, 12, 32


def measure(seed=0, steps=400, heads=(1, 2, 4)):
    """Every position has to name the token before it and the one before that, from one attention layer."""
    rng = np.random.default_rng(seed)
    ids, unseen = random_ids(rng, 32 * steps, LENGTH, VOCABULARY), random_ids(rng, 300, LENGTH, VOCABULARY)
    figures = {"heads": list(heads), "steps": steps}
    for num_heads in heads:
        keras.utils.set_random_seed(seed)
        model, looking = _model(num_heads)
        fit(model, ids, _answers(ids), learning_rate=1e-2)
        guesses = np.asarray(ops.convert_to_numpy(model.predict_on_batch(unseen))).argmax(-1)
        right = (guesses == _answers(unseen))[:, 2:]
        figures.setdefault("nearer", []).append(float(right[..., 0].mean()))
        figures.setdefault("farther", []).append(float(right[..., 1].mean()))
        figures.setdefault("both", []).append(float(right.all(-1).mean()))
        figures.setdefault("weights", []).append(model.count_params())
        scores = np.asarray(ops.convert_to_numpy(looking.predict_on_batch(unseen))).mean(0)
        figures[f"scores_{num_heads}"] = scores.astype("float64").round(3).tolist()
    return figures


def _answers(ids):
    return np.stack([np.roll(ids, 1, axis=1), np.roll(ids, 2, axis=1)], axis=-1)


def _model(num_heads):
    """Attention alone, without residual and feed-forward network; logits `[B, T, 2, V]`, and the scores."""
    found = []

    def attend(x):
        x, scores = layers.MultiHeadAttention(num_heads, WIDTH // num_heads)(x, x, return_attention_scores=True)
        found.append(scores)
        return x

    model = token_model(attend, VOCABULARY, WIDTH, classes=2 * VOCABULARY)
    logits = keras.layers.Reshape((-1, 2, VOCABULARY))(model.output)
    return keras.Model(model.input, logits), keras.Model(model.input, found[0])


def draw(figures, path):
    """The scores of one head, and of each of two."""
    panels = {"one head: both, mixed": figures["scores_1"][0]}
    panels.update({f"two heads: head {index}": scores for index, scores in enumerate(figures["scores_2"])})
    heat_maps(panels, path, x_label="key", y_label="query")
