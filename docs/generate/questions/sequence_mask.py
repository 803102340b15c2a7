"""Question 16, why the decoder's self-attention needs a sequence mask: training with it and without it."""

import keras
import numpy as np
from keras import ops

from docs.generate.questions.pictures import heat_maps
from docs.generate.questions.tiny_training import fit, token_model
from keras_tfm import layers

LENGTH, CYCLE, WIDTH, GIVEN = 10, 7, 32, 2  # id 0 stands for what is not written yet


def measure(seed=0, steps=400):
    """Progressions `a, a + d, a + 2d, ...` modulo 7: each next number follows from the two before it."""
    figures = {"given": GIVEN, "written": LENGTH - GIVEN, "steps": steps}
    rng = np.random.default_rng(seed)
    sequences, unseen = _progressions(rng, 32 * steps), _progressions(rng, 200)
    for name, is_causal in (("masked", True), ("unmasked", False)):
        keras.utils.set_random_seed(seed)
        model, looking = _model(is_causal)
        fit(model, sequences[:, :-1], sequences[:, 1:])
        figures[f"taught_{name}"] = _read(model, unseen)
        figures[f"alone_{name}"] = _write(model, unseen)
        scores = np.asarray(ops.convert_to_numpy(looking.predict_on_batch(unseen[:, :-1]))).mean((0, 1))
        figures[f"scores_{name}"] = scores.astype("float64").round(4).tolist()
        figures[f"later_{name}"] = float(np.triu(scores, 1).sum(-1).mean())
    return figures


def _progressions(rng, rows):
    start, step = rng.integers(0, CYCLE, (rows, 1)), rng.integers(1, CYCLE, (rows, 1))
    return ((start + step * np.arange(LENGTH + 1)) % CYCLE + 1).astype("int32")[:, : LENGTH + 1]


def _model(is_causal):
    """The model of logits, and one of the same weights that returns the scores `[B, N, T, T]`."""
    found = []

    def decode(x):
        x, scores = layers.TransformerDecoder(128, 2)(x, use_causal_mask=is_causal, return_attention_scores=True)
        found.append(scores)
        return x

    model = token_model(decode, CYCLE + 1, WIDTH)
    return model, keras.Model(model.input, found[0])


def _read(model, sequences):
    """The share of the same numbers that are right when all the true ones are given."""
    logits = np.asarray(ops.convert_to_numpy(model.predict_on_batch(sequences[:, :-1])))
    return float(np.mean(logits[:, GIVEN - 1 : -1, 1:].argmax(-1) + 1 == sequences[:, GIVEN:LENGTH]))


def _write(model, sequences):
    """The share of the numbers that are right when the model writes them itself, after the first two."""
    written = np.where(np.arange(LENGTH) < GIVEN, sequences[:, :LENGTH], 0).astype("int32")
    for index in range(GIVEN, LENGTH):
        logits = np.asarray(ops.convert_to_numpy(model.predict_on_batch(written)))
        written[:, index] = logits[:, index - 1, 1:].argmax(-1) + 1
    return float(np.mean(written[:, GIVEN:] == sequences[:, GIVEN:LENGTH]))


def draw(figures, path):
    """What the trained blocks look at."""
    panels = {
        "no mask: it looks ahead": figures["scores_unmasked"],
        "sequence mask": figures["scores_masked"],
    }
    heat_maps(panels, path, x_label="key", y_label="query")
