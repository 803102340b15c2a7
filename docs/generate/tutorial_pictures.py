"""Draws the pictures of the tutorial and of the guide: `KERAS_BACKEND=torch python -m docs.generate.tutorial_pictures`.

The blocks of the tutorial run first, so that the pictures show the model that the page trains.
"""

import pathlib
import re
import sys

import keras
import numpy as np

from docs.generate.tutorial_drawings import arrow, block, heat_map, new_figure, save, show_mask
from keras_tfm import ops, text, training

DOCS = pathlib.Path(__file__).parents[1]
FOLDER = DOCS / "images" / "tutorial"


def run_page(path):
    """Runs the Python blocks of a page in order; returns what they defined."""
    page, namespace = path.read_text(encoding="utf-8"), {"__name__": "__main__"}
    for code in re.findall(r"^```python\n(.*?)^```$", page, flags=re.MULTILINE | re.DOTALL):
        exec(compile(code, path.name, "exec"), namespace)
    return namespace


def draw_stacks(page):
    """Two columns of boxes: what a block of the encoder and of the decoder has."""
    figure = new_figure(7.0, 4.6)
    axes = figure.subplots()
    encoder = ["embedding + position", "self-attention", "feed-forward"]
    decoder = ["embedding + position", "causal self-attention", "cross attention", "feed-forward", "logits, softmax"]
    for left, parts, title, last in ((0.0, encoder, "encoder", 2), (4.6, decoder, "decoder", 3)):
        for row, part in enumerate(parts):
            block(axes, left, row * 1.3, part, is_sublayer=0 < row <= last)
            if row:
                arrow(axes, (left + 1.5, row * 1.3 - (0.8 if row == 1 else 0.54)), (left + 1.5, row * 1.3))
        axes.add_patch(_frame(left - 0.25, 1.0, 3.5, last * 1.3 - 0.15))
        axes.text(left + 3.35, last * 1.3 + 0.55, "× N", fontsize=11)
        axes.text(left + 1.5, -0.75, title, ha="center", fontsize=11, weight="bold")
    arrow(axes, (1.5, 3.35), (1.5, 3.95), "-")
    arrow(axes, (1.5, 3.95), (4.05, 3.95), "-")
    arrow(axes, (4.05, 3.95), (4.05, 2.97), "-")
    arrow(axes, (4.05, 2.97), (4.6, 2.97))
    axes.text(2.75, 4.08, "memory: keys and values", ha="center", fontsize=8)
    axes.set(xlim=(-0.4, 8.6), ylim=(-1.0, 6.1))
    axes.axis("off")
    save(figure, FOLDER / "stacks.png")


def _frame(left, bottom, width, height):
    from matplotlib.patches import FancyBboxPatch

    return FancyBboxPatch((left, bottom), width, height, boxstyle="round,pad=0.1", fill=False, edgecolor="gray")


def draw_scores(page):
    """Logits, what the mask leaves of them, and the scores."""
    logits = page["query"] @ page["key"].T / np.sqrt(8)
    is_allowed = np.tril(np.ones((5, 5), "bool"))
    figure = new_figure(7.5, 2.5)
    panels = figure.subplots(1, 3)
    limit = np.abs(logits).max()
    allowed = np.where(is_allowed, logits, np.nan)
    for axes, values, title in ((panels[0], logits, "logits"), (panels[1], allowed, "causal mask")):
        heat_map(axes, values, title, numbers=True, cmap="RdBu_r", vmin=-limit, vmax=limit)
    _, scores = page["attend"](page["query"], page["key"], page["value"], is_allowed)
    heat_map(panels[2], scores, "scores", numbers=True, cmap="Blues", vmin=0, vmax=1)
    save(figure, FOLDER / "scores.png")


def draw_heads(page):
    """Cross attention of each head of the trained model."""
    words = [*page["read_aloud"](page["number"]), "<end>"]
    figure = new_figure(7.5, 3.0)
    for head, axes in enumerate(figure.subplots(1, 4)):
        heat_map(axes, page["scores"][-1, 0, head], f"head {head + 1}", cmap="Blues", vmin=0, vmax=1)
        axes.set_xticks(range(4), list(str(page["number"])))
        axes.set_yticks(range(len(words)), words if head == 0 else [""] * len(words), fontsize=8)
    save(figure, FOLDER / "heads.png")


def draw_cross_attention(page):
    """The mean of the heads."""
    words = [*page["read_aloud"](page["number"]), "<end>"]
    figure = new_figure(3.4, 3.4)
    axes = figure.subplots()
    heat_map(axes, page["scores"][-1, 0].mean(axis=0), "mean of the heads", cmap="Blues", vmin=0, vmax=1)
    axes.set_xticks(range(4), list(str(page["number"])))
    axes.set_yticks(range(len(words)), words, fontsize=8)
    save(figure, FOLDER / "cross_attention.png")


def draw_uses(page):
    """The masks of the three attentions."""
    is_real = np.array([1, 1, 1, 1, 0, 0], "bool")
    masks = {
        "encoder": ("source", "source", np.broadcast_to(is_real, (6, 6))),
        "decoder": ("target", "target", np.tril(np.ones((4, 4), "bool"))),
        "cross": ("target", "source", np.broadcast_to(is_real, (4, 6))),
    }
    figure = new_figure(7.0, 2.6)
    for axes, (title, (rows, columns, mask)) in zip(figure.subplots(1, 3), masks.items(), strict=True):
        show_mask(axes, mask, title)
        axes.set(xlabel=f"keys: {columns}", ylabel=f"queries: {rows}")
    save(figure, FOLDER / "uses.png")


def draw_masks(page):
    """Causal, padding, window, segments."""
    t = np.arange(8)
    segments = np.array([0, 0, 0, 1, 1, 1, 1, 1])
    masks = {
        "use_causal_mask": t[:, None] >= t,
        "padding_mask": np.broadcast_to(t < 6, (8, 8)),
        "sliding_window": (np.abs(t[:, None] - t) < 3),
        "segment_ids": segments[:, None] == segments,
    }
    figure = new_figure(7.5, 2.2)
    for axes, (title, mask) in zip(figure.subplots(1, 4), masks.items(), strict=True):
        show_mask(axes, mask, title)
    save(figure, FOLDER / "masks.png")


def draw_feed_forward(page):
    """What the ReLU of the encoder's network lets through."""
    model, seen = page["model"], []
    dense = model.encoder.blocks[0].feed_forward.intermediate_dense
    activation = dense.activation

    def record(x):
        seen.append(activation(x))
        return seen[-1]

    dense.activation = record
    model.encoder(model.source_embedding(np.array(page["encode"]([page["number"]])[0])))
    dense.activation = activation
    values = page["as_numpy"](seen[-1]).reshape(4, -1)
    figure = new_figure(7.0, 1.7)
    axes = figure.subplots()
    image = axes.imshow(values, cmap="Blues", aspect="auto")
    axes.set(xlabel=f"unit of the inner layer; {np.mean(values == 0):.0%} of all are zero", ylabel="digit")
    axes.set_yticks(range(4), list(str(page["number"])))
    figure.colorbar(image)
    save(figure, FOLDER / "feed_forward.png")


def draw_embedding_scale(page):
    """Lengths of rows, before and after the factor, and of a position."""
    rows = page["as_numpy"](page["embedding"].token_embedding.embeddings)
    norms = np.linalg.norm(rows, axis=1)
    values = [norms.mean(), norms.mean() * np.sqrt(32), np.linalg.norm(page["table"][1])]
    figure = new_figure(5.0, 2.2)
    axes = figure.subplots()
    names = ["row of the matrix", "times √d", "position"]
    bars = axes.barh(names, values, color=["#9ecae1", "#3182bd", "#e6550d"])
    axes.bar_label(bars, fmt="%.2f", padding=3)
    axes.set(xlim=(0, max(values) * 1.2), xlabel="length of the vector, d = 32")
    axes.invert_yaxis()
    save(figure, FOLDER / "embedding_scale.png")


def draw_positions(page):
    """The table, and the product of two positions against their distance."""
    table = keras.ops.convert_to_numpy(ops.sinusoid(np.arange(100), 32))
    figure = new_figure(7.5, 3.0)
    left, right = figure.subplots(1, 2)
    left.imshow(table[:64].T, cmap="RdBu_r", vmin=-1, vmax=1, aspect="auto")
    left.set(xlabel="position", ylabel="feature")
    distances = np.arange(-30, 31)
    for start, width in ((35, 4), (50, 2.5), (65, 1)):
        products = table[start + distances] @ table[start] / 16
        right.plot(distances, products, label=f"from position {start}", lw=width)
    right.set(xlabel="distance", ylabel="product / (d / 2)")
    right.legend(frameon=False, fontsize=8)
    right.grid(alpha=0.3)
    save(figure, FOLDER / "positions.png")


def draw_complexity(page):
    """Operations against length."""
    lengths = np.geomspace(16, 16_384, 60)
    figure = new_figure(5.6, 3.4)
    axes = figure.subplots()
    for name in page["operations"](1, 512):
        axes.loglog(lengths, [page["operations"](n, 512)[name] for n in lengths], label=name)
    axes.axvline(512, color="gray", lw=0.8, ls=":")
    axes.text(540, 2e6, "n = d", fontsize=8, color="gray")
    axes.set(xlabel="length n", ylabel="operations of a layer, d = 512")
    axes.legend(frameon=False, fontsize=8)
    axes.grid(alpha=0.3)
    save(figure, FOLDER / "complexity.png")


def draw_batches(page):
    """Tokens and padding of sentences of 2 to 40 words, at random and in a batch of like lengths."""
    lengths = np.clip(np.random.default_rng(0).gamma(3.0, 5.0, 4000).astype(int), 2, 40)
    batches = text.SequenceBatches({"ids": [[1] * length for length in lengths]}, tokens_per_batch=640)
    (alike,) = next(batches[i] for i in range(len(batches)) if len(batches[i][0]["ids"]) == 32)
    at_random = np.arange(lengths[:32].max()) < lengths[:32, None]
    figure = new_figure(6.5, 3.0)
    cases = {"at random": at_random, "of like length": alike["ids"] > 0}
    for axes, (title, is_real) in zip(figure.subplots(1, 2), cases.items(), strict=True):
        show_mask(axes, is_real, f"{title}: {1 - is_real.mean():.0%} padding")
        axes.set(xlabel="place", ylabel="sentence", aspect="auto")
    save(figure, FOLDER / "batches.png")


def draw_schedule(page):
    """Equation 3 for three settings."""
    steps = np.arange(0, 20_000, 50)
    figure = new_figure(5.6, 3.0)
    axes = figure.subplots()
    for width, warmup in ((512, 4000), (512, 8000), (256, 4000)):
        rates = page["as_numpy"](training.WarmupSchedule(width, warmup)(steps))
        axes.plot(steps, rates, label=f"d = {width}, warm-up {warmup:,}")
    axes.set(xlabel="update", ylabel="learning rate")
    axes.legend(frameon=False, fontsize=8)
    axes.grid(alpha=0.3)
    save(figure, FOLDER / "schedule.png")


def draw_smoothing(page):
    """Loss against the probability of the right word."""
    probabilities = np.concatenate([np.linspace(0.3, 0.98, 60), 1 - np.geomspace(0.02, 1e-4, 30)])
    figure = new_figure(5.6, 3.0)
    axes = figure.subplots()
    for smoothing in (0.0, 0.1, 0.2):
        losses = [page["loss_at"](probability, smoothing) for probability in probabilities]
        (line,) = axes.plot(probabilities, losses, label=f"ε = {smoothing}")
        best = int(np.argmin(losses))
        axes.plot(probabilities[best], losses[best], "o", color=line.get_color())
    axes.set(xlabel="probability of the right word, of ten", ylabel="loss")
    axes.legend(frameon=False, fontsize=8)
    axes.grid(alpha=0.3)
    save(figure, FOLDER / "smoothing.png")


def draw_learning(page):
    """Accuracy by epoch."""
    accuracy = page["history"].history["token_accuracy"]
    figure = new_figure(4.6, 2.6)
    axes = figure.subplots()
    axes.plot(range(1, len(accuracy) + 1), accuracy, marker="o")
    axes.set(xlabel="epoch", ylabel="accuracy of tokens", ylim=(0, 1.03), xticks=range(1, len(accuracy) + 1))
    axes.grid(alpha=0.3)
    save(figure, FOLDER / "learning.png")


def main(names=()):
    """Draws all pictures, or those that are named."""
    FOLDER.mkdir(parents=True, exist_ok=True)
    page = run_page(DOCS / "tutorial.md")
    drawings = {name.removeprefix("draw_"): draw for name, draw in globals().items() if name.startswith("draw_")}
    for name in names or drawings:
        drawings[name](page)
        print(f"{name}.png: {(FOLDER / f'{name}.png').stat().st_size / 1024:.0f} KB")


if __name__ == "__main__":
    main(sys.argv[1:])
