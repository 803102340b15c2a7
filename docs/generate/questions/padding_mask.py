"""Question 5, how padding is masked: what padding moves with the mask and without it."""

import keras
import numpy as np
from keras import ops

from docs.generate.questions.pictures import heat_maps
from keras_tfm import layers

REAL, EXTRA, WIDTH = 5, 7, 32


def measure(seed=0, num_blocks=2):
    """The same sentence alone and with padding behind it."""
    keras.utils.set_random_seed(seed)
    rng = np.random.default_rng(seed)
    ids = rng.integers(1, 20, (8, REAL)).astype("int32")
    padded = np.pad(ids, ((0, 0), (0, EXTRA)))
    figures = {"real": REAL, "extra": EXTRA}
    blocks = [layers.TransformerEncoder(64, 4) for _ in range(num_blocks)]
    table = layers.PositionalEmbedding(20, 64, WIDTH, position="sinusoidal", embedding_scale="sqrt", mask_zero=True)
    for name, has_mask in (("masked", True), ("unmasked", False)):
        alone, together = (_encode(table, blocks, each, has_mask) for each in (ids, padded))
        figures[f"moved_{name}"] = float(np.abs(together[:, :REAL] - alone).max())
        _, scores = blocks[0](_embed(table, padded), padding_mask=_real(padded, has_mask), return_attention_scores=True)
        scores = np.asarray(ops.convert_to_numpy(scores))[0].mean(0)
        figures[f"on_padding_{name}"] = float(scores[:REAL, REAL:].sum(-1).mean())
        figures[f"scores_{name}"] = scores.astype("float64").round(4).tolist()
    figures["nan_moved"], figures["empty_row"] = _extremes(rng)
    return figures


def _real(ids, has_mask):
    return ops.convert_to_tensor(ids > 0 if has_mask else np.ones_like(ids, "bool"))


def _embed(table, ids):
    return ops.convert_to_tensor(ops.convert_to_numpy(table(ids)))  # without implicit mask: masked is what we say


def _encode(table, blocks, ids, has_mask):
    x = _embed(table, ids)
    for block in blocks:
        x = block(x, padding_mask=_real(ids, has_mask))
    return np.asarray(ops.convert_to_numpy(x))


def _extremes(rng):
    """How far NaN in the padding moves real tokens; the largest output of queries that see only padding."""
    x = rng.normal(size=(1, REAL + EXTRA, WIDTH)).astype("float32")
    real = np.arange(REAL + EXTRA)[None] < REAL
    attention = layers.MultiHeadAttention(4, 8)
    spoilt = np.where(real[..., None], x, np.nan).astype("float32")
    clean, other = (
        np.asarray(ops.convert_to_numpy(attention(each, each, padding_mask=ops.convert_to_tensor(real))))
        for each in (x, spoilt)
    )
    empty = attention(x, x, padding_mask=ops.zeros((1, REAL + EXTRA), "bool"))
    return float(np.abs(other - clean)[:, :REAL].max()), float(np.abs(ops.convert_to_numpy(empty)).max())


def draw(figures, path):
    """The scores of the first block, with the mask and without."""
    panels = {
        "no mask: padding takes its share": figures["scores_unmasked"],
        "padding masked": figures["scores_masked"],
    }
    heat_maps(panels, path, x_label=f"keys ({REAL} real, {EXTRA} padding)", y_label="queries")
