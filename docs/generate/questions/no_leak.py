"""Question 19, whether residual connections leak the masked future: the gradient of every output by every input."""

import keras
import numpy as np

from docs.generate.questions.gradients import gradients
from docs.generate.questions.pictures import heat_maps
from keras_tfm import layers

LENGTH, WIDTH = 8, 16


def measure(seed=0, num_blocks=4):
    """Matrices `[output t, input s]` of gradient norms, through blocks with residuals, with the mask and without."""
    figures = {"blocks": num_blocks}
    future = np.triu(np.ones((LENGTH, LENGTH), "bool"), 1)
    for name, is_causal in (("masked", True), ("unmasked", False)):
        matrix = influence(seed, num_blocks, is_causal)
        figures[f"matrix_{name}"] = matrix.tolist()
        figures[f"future_{name}"] = float(matrix[future].max())
        figures[f"past_{name}"] = float(matrix[~future].min())
    figures["future_pairs"] = int(future.sum())
    return figures


def influence(seed, num_blocks, is_causal):
    """In row t of the batch only output t counts in the loss, and every token of every row has an embedding of its own:
    its gradient is what that output has from that token."""
    keras.utils.set_random_seed(seed)
    ids = keras.Input((LENGTH,), dtype="int32")
    x = keras.layers.Embedding(LENGTH * LENGTH, WIDTH, name="tokens")(ids)
    for _ in range(num_blocks):
        x = layers.TransformerDecoder(4 * WIDTH, 2, normalize_first=True)(x, use_causal_mask=is_causal)
    model = keras.Model(ids, keras.layers.Dense(WIDTH)(x))
    tokens = np.arange(LENGTH * LENGTH, dtype="int32").reshape(LENGTH, LENGTH)
    targets = np.random.default_rng(seed).normal(size=(LENGTH, LENGTH, WIDTH)).astype("float32")
    found = gradients(model, tokens, targets, sample_weight=np.eye(LENGTH, dtype="float32"))
    return np.linalg.norm(found["tokens/embeddings"].reshape(LENGTH, LENGTH, WIDTH), axis=-1).astype("float64")


def draw(figures, path):
    """Both matrices, as the logarithm of each gradient: what is exactly zero stays white."""
    matrices = {
        "causal mask: nothing above the diagonal": figures["matrix_masked"],
        "no mask: every input": figures["matrix_unmasked"],
    }
    floor = np.log10(min(figures["past_masked"], figures["past_unmasked"])) - 1
    panels = {title: np.maximum(np.log10(np.maximum(matrix, 1e-30)) - floor, 0) for title, matrix in matrices.items()}
    heat_maps(panels, path, x_label="input token s", y_label="output t")
