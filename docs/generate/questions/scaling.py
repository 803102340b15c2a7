"""Question 4, why the scores are divided by √d_k: variance, saturation of the softmax, and its gradient."""

import numpy as np
from keras import ops

import keras_tfm
from docs.generate.questions.pictures import curves

SIZES = (4, 16, 64, 256, 1024)


def measure(seed=0, sizes=SIZES, length=32, batch=16):
    """Unit-variance queries and keys of growing size: the logits and the softmax over `length` keys."""
    rng = np.random.default_rng(seed)
    figures = {"sizes": list(sizes), "length": length}
    for size in sizes:
        query, key = (ops.convert_to_tensor(x) for x in rng.normal(size=(2, batch, length, 1, size)).astype("float32"))
        for name, scale in (("plain", 1.0), ("scaled", None)):
            logits = ops.convert_to_numpy(ops.einsum("btnh,bsnh->bnts", query, key)) * (scale or size**-0.5)
            _, scores = keras_tfm.ops.attention(query, key, key, scale=scale, return_scores=True)
            found = saturation(np.asarray(ops.convert_to_numpy(scores), "float64"))
            for what, value in {"variance": logits.var(), **found}.items():
                figures.setdefault(f"{what}_{name}", []).append(float(value))
    return figures


def saturation(scores):
    """Largest weight, entropy in nats, size of the Jacobian diag(p) - p pᵀ, share of rows where it is below 0.01."""
    squares, cubes = (scores**2).sum(-1), (scores**3).sum(-1)
    jacobian = np.sqrt(np.maximum(squares - 2 * cubes + squares**2, 0))
    entropy = -(scores * np.log(np.maximum(scores, 1e-300))).sum(-1)
    return {
        "largest": scores.max(-1).mean(),
        "entropy": entropy.mean(),
        "jacobian": jacobian.mean(),
        "dead": (jacobian < 0.01).mean(),
    }


def draw(figures, path):
    """Three charts against d_k."""
    titles = {
        "variance": "variance of the scores",
        "largest": "largest softmax weight",
        "jacobian": "mean norm of the softmax's Jacobian",
    }
    series = {
        title: {
            name: (figures["sizes"], figures[f"{what}_{key}"])
            for key, name in (("plain", "q·k"), ("scaled", "q·k / √d_k"))
        }
        for what, title in titles.items()
    }
    curves(series, path, x_label="d_k", x_scale="log", y_scale="log", x_ticks=figures["sizes"])
