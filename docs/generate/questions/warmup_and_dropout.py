"""Question 18, the schedule and dropout: post-norm blocks with warm-up and without; dropout at test time."""

import keras
import numpy as np
from keras import ops

from docs.generate.questions.pictures import curves
from docs.generate.questions.tiny_training import fit, random_ids, token_model
from keras_tfm import layers, training

LENGTH, VOCABULARY, WIDTH = 8, 12, 32


def measure(seed=0, steps=200, num_blocks=2, peak=1e-2, rate=0.3, passes=30):
    """The token before, learned; then a block with dropout asked with it and without."""
    figures = {"steps": steps, "blocks": num_blocks, "peak": peak, "rate": rate, "passes": passes}
    warmup = training.WarmupSchedule(warmup_steps=steps // 2, peak_learning_rate=peak)
    rates = {"with": (warmup, "post"), "without": (peak, "post"), "pre": (peak, "pre")}
    for name, (learning_rate, placement) in rates.items():
        losses = _losses(learning_rate, steps, num_blocks, placement, seed)
        figures[f"losses_{name}"] = losses
        figures[f"loss_{name}"] = losses[-1]
    figures.update(_dropped(rate, seed))
    figures.update(_at_test(rate, steps, passes, seed))
    return figures


def _losses(learning_rate, steps, num_blocks, placement, seed):
    """The mean loss of each tenth of the training."""
    keras.utils.set_random_seed(seed)
    model = token_model(layers.TransformerEncoderStack(num_blocks, 64, 4, placement=placement), VOCABULARY, WIDTH)
    ids = random_ids(np.random.default_rng(seed), 32 * steps // 10, LENGTH, VOCABULARY)
    return fit(model, ids, np.roll(ids, 1, axis=1), learning_rate, epochs=10)


def _dropped(rate, seed):
    """Ones through dropout: their mean and variance."""
    ones = np.asarray(ops.convert_to_numpy(layers.Dropout(rate, seed=seed)(ops.ones((1000, 1000)), training=True)))
    return {"mean": float(ones.mean()), "variance": float(ones.var()), "expected_variance": rate / (1 - rate)}


def _at_test(rate, steps, passes, seed):
    """Accuracy with dropout off, left on, and of the mean of several passes with it on."""
    keras.utils.set_random_seed(seed)
    model = token_model(layers.TransformerEncoder(64, 4, dropout=rate), VOCABULARY, WIDTH)
    rng = np.random.default_rng(seed)
    ids, unseen = random_ids(rng, 32 * 2 * steps, LENGTH, VOCABULARY), random_ids(rng, 200, LENGTH, VOCABULARY)
    fit(model, ids, np.roll(ids, 1, axis=1))

    def probabilities(is_training):
        return np.asarray(ops.convert_to_numpy(ops.softmax(model(unseen, training=is_training))))

    drawn = np.stack([probabilities(True) for _ in range(passes)])
    found = {"off": probabilities(False), "on": drawn[0], "mean_of_passes": drawn.mean(0)}
    right = {
        f"accuracy_{name}": float(np.mean(each.argmax(-1) == np.roll(unseen, 1, 1))) for name, each in found.items()
    }
    right["changed"] = float(np.mean(drawn[0].argmax(-1) != drawn[1].argmax(-1)))
    return {**right, "off_twice": float(np.abs(probabilities(False) - found["off"]).max())}


def draw(figures, path):
    """The schedule of the paper, and the losses."""
    schedule, updates = training.WarmupSchedule(), np.arange(0, 20001, 200)
    rates = {"D = 512, 4000 steps of warm-up": (updates, ops.convert_to_numpy(schedule(updates)))}
    part = np.arange(1, 11) * figures["steps"] // 10
    names = {"with": "post-norm, warm-up", "without": "post-norm, no warm-up", "pre": "pre-norm, no warm-up"}
    losses = {label: (part, figures[f"losses_{name}"]) for name, label in names.items()}
    curves({"learning rate of the paper": rates, "loss of two blocks": losses}, path, x_label="update")
