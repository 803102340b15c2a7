"""Attention over graphs: the nodes are the tokens, and the edges are the attention mask.

    python examples/graph.py
    python examples/graph.py --edges graph    # one training instead of three

The graphs are drawn, of different sizes. Their nodes are of two kinds, of which each node tells a noisy hint, and one
node is marked. The encoder, which has no positions, answers two questions that only the edges decide:

- n labels: which nodes are at most two steps away from the marked one;
- one label: do edges join nodes of the same kind, or of different kinds?

The same model is trained with the edges as its mask, with all pairs, and with no pair but a node and itself.
"""

import argparse
from pathlib import Path

import command_line
import keras
import numpy as np

from keras_tfm import layers, training


def draw_graphs(rng, num_graphs, max_nodes, noise=0.5):
    """Stochastic block graphs, padded.

    Returns:
        `(inputs, labels)`: `"features"` float `[B, T, 2]` (a hint at the kind, and 1 at the marked node), `"edges"`
        bool `[B, T, T]` (symmetric, and from every node to itself) and `"padding_mask"` bool `[B, T]`; `"nodes"` int
        `[B, T]`, -1 at padding, and `"graph"` int `[B]`.
    """
    sizes = rng.integers(max_nodes // 2, max_nodes + 1, size=num_graphs)
    real = np.arange(max_nodes) < sizes[:, None]
    kinds = rng.choice([-1, 1], size=real.shape)
    joins_like = rng.integers(0, 2, size=num_graphs)
    is_alike = kinds[:, :, None] == kinds[:, None]
    is_likely = is_alike == joins_like[:, None, None].astype(bool)
    # About 2.5 edges a node, so that two steps reach about half of the nodes.
    drawn = np.triu(rng.random(is_alike.shape) < np.where(is_likely, 4.5, 0.5) / sizes[:, None, None], 1)
    edges = drawn | drawn.transpose(0, 2, 1) | np.eye(max_nodes, dtype=bool)
    edges &= real[:, :, None] & real[:, None]
    marked = np.arange(max_nodes) == rng.integers(0, sizes)[:, None]
    one_step = (edges & marked[:, None]).any(axis=-1)
    near = (edges & one_step[:, None]).any(axis=-1)
    hints = kinds + noise * rng.normal(size=kinds.shape)
    features = np.stack([hints, marked], axis=-1) * real[..., None]
    inputs = {"features": features.astype("float32"), "edges": edges, "padding_mask": real}
    return inputs, {"nodes": np.where(real, near, -1), "graph": joins_like}


def with_edges(inputs, which):
    """The inputs with their edges, with all pairs of nodes, or with none but each node and itself."""
    real = inputs["padding_mask"]
    pairs = real[:, :, None] & real[:, None]
    masks = {"graph": inputs["edges"], "all": pairs, "none": pairs & np.eye(real.shape[1], dtype=bool)}
    return inputs | {"edges": masks[which]}


def build_model(args):
    """Blocks that attend along the edges, then a dense layer on every node, and one on their mean.

    Returns:
        The model, and one that also shows `"scores"` `[B, N, T, T]`, what the nodes attend to in the last block.
    """
    features = keras.Input((None, 2), name="features")
    edges = keras.Input((None, None), dtype="bool", name="edges")
    real = keras.Input((None,), dtype="bool", name="padding_mask")
    x = layers.AttachMask()([features, real])
    x = keras.layers.Dense(args.hidden_dim, name="embedding")(x)
    blocks = layers.TransformerEncoderStack(args.num_layers, 2 * args.hidden_dim, num_heads=4, name="encoder")
    _, scores = blocks(x, attention_mask=edges, return_attention_scores=True)
    x = blocks(x, attention_mask=edges)
    nodes = keras.layers.Dense(2, name="node_labels")(x)
    graph = keras.layers.Dense(2, name="graph_label")(layers.MaskedMean()(x))
    inputs, outputs = {"features": features, "edges": edges, "padding_mask": real}, {"nodes": nodes, "graph": graph}
    return keras.Model(inputs, outputs), keras.Model(inputs, outputs | {"scores": scores[-1]})


def train(inputs, labels, args):
    keras.utils.set_random_seed(args.seed)
    model, watched = build_model(args)
    steps = args.epochs * -(-len(labels["graph"]) // args.batch_size)
    warmup = max(steps // 10, 1)
    rate = training.WarmupSchedule(peak_learning_rate=3e-3, warmup_steps=warmup, decay="linear", decay_steps=steps)
    losses = {"nodes": training.TokenCrossEntropy(ignore_id=-1), "graph": training.TokenCrossEntropy(ignore_id=None)}
    model.compile(keras.optimizers.Adam(rate), losses)
    model.fit(inputs, labels, batch_size=args.batch_size, epochs=args.epochs, verbose=command_line.verbosity())
    return model, watched


def accuracies(outputs, labels):
    """Percent of right answers, padding left out."""
    right = {name: outputs[name].argmax(axis=-1) == labels[name] for name in labels}
    return {name: 100 * float(each[labels[name] >= 0].mean()) for name, each in right.items()}


def majority(labels):
    """Percent of right answers of whoever always gives the most frequent label."""
    counts = {name: np.bincount(values[values >= 0], minlength=2) for name, values in labels.items()}
    return {name: 100 * float(each.max() / each.sum()) for name, each in counts.items()}


def renumber(inputs, order):
    """The same graphs with their nodes in another order."""
    moved = {name: x[:, order] for name, x in inputs.items()}
    return moved | {"edges": moved["edges"][:, :, order]}


def spoil_padding(inputs):
    """The same graphs with large numbers and edges in the padding."""
    real = inputs["padding_mask"]
    pairs = real[:, :, None] & real[:, None]
    return inputs | {"features": np.where(real[..., None], inputs["features"], 1e3), "edges": inputs["edges"] | ~pairs}


def print_laws(model, inputs, plain, rng):
    """How much the answers change with the order of the nodes, and with what is in the padding: by rounding alone."""
    real = inputs["padding_mask"]
    order = rng.permutation(real.shape[1])
    moved, spoiled = (model.predict(x, verbose=0) for x in (renumber(inputs, order), spoil_padding(inputs)))
    moved["nodes"] = moved["nodes"][:, np.argsort(order)]
    for name, other in {"nodes in another order, answers that move with them": moved, "other padding": spoiled}.items():
        nodes = np.abs(other["nodes"] - plain["nodes"])[real].max()
        graph = np.abs(other["graph"] - plain["graph"]).max()
        print(f"{name}: max difference {max(nodes, graph):.1e}")


def draw_graph(axes, hints, marked, edges, scores, near, truth):
    """Draws nodes in a circle by their hint, a ring where `near`, and edges as dark as they are looked along."""
    angles = 2 * np.pi * np.argsort(np.argsort(hints)) / len(hints)
    places = np.stack([np.cos(angles), np.sin(angles)])
    for pair in np.argwhere(np.triu(edges, 1)):
        darkness = 0.1 + 0.8 * max(scores[tuple(pair)], scores[tuple(pair[::-1])])
        axes.plot(*places[:, pair], color="black", alpha=darkness, zorder=1)
    rings = np.where(near, "black", "lightgray")
    axes.scatter(*places, c=hints, cmap="coolwarm", s=260, edgecolors=rings, linewidths=2.5, zorder=2)
    axes.scatter(*places[:, marked == 1], marker="*", color="gold", edgecolors="black", s=150, zorder=3)
    axes.scatter(*1.15 * places[:, near != truth], marker="x", color="tab:red", s=60)
    axes.set_aspect("equal")
    axes.axis("off")


def draw(inputs, outputs, labels, path):
    """Draws the largest graph of each kind with what the model says."""
    from matplotlib.figure import Figure

    figure = Figure(figsize=(11, 5.8), layout="constrained")
    words = ["different kinds", "the same kind"]
    for axes, kind in zip(figure.subplots(1, 2), (1, 0), strict=True):
        index = int(np.argmax((labels["graph"] == kind) * inputs["padding_mask"].sum(axis=1)))
        size = int(inputs["padding_mask"][index].sum())
        scores, edges = outputs["scores"][index].mean(axis=0), inputs["edges"][index, :size, :size]
        near, truth = outputs["nodes"][index, :size].argmax(axis=-1), labels["nodes"][index, :size]
        draw_graph(axes, *inputs["features"][index, :size].T, edges, scores, near, truth)
        said = words[outputs["graph"][index].argmax()]
        axes.set_title(f"edges join {words[kind]}; the model says {said}", fontsize=10)
    figure.suptitle("star: the marked node; ring: the model says at most two steps away; red cross: wrong")
    figure.savefig(path, dpi=110)


def main(argv=None):
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    add = parser.add_argument
    add("--edges", choices=("graph", "all", "none"), help="train once, with these pairs; default: with each in turn")
    add("--num-graphs", type=int, default=3200, help="to train on")
    add("--max-nodes", type=int, default=16, help="graphs have between half of it and all")
    add("--num-layers", type=int, default=3)
    add("--hidden-dim", type=int, default=32)
    add("--batch-size", type=int, default=64)
    add("--epochs", type=int, default=7)
    add("--output", default="graph", metavar="DIR", help="folder of model and picture")
    add("--seed", type=int, default=0)
    args = parser.parse_args(argv)
    command_line.require("matplotlib")
    folder = Path(args.output)
    folder.mkdir(parents=True, exist_ok=True)
    rng = np.random.default_rng(args.seed)
    inputs, labels = draw_graphs(rng, args.num_graphs, args.max_nodes)
    held_out, answers = draw_graphs(rng, max(args.num_graphs // 10, 32), args.max_nodes)
    print(f"{args.num_graphs} graphs to train on; held-out answers that are right, in percent:")
    rows = {"the most frequent label": majority(answers)}
    for which in [args.edges] if args.edges else ["none", "all", "graph"]:
        model, watched = train(with_edges(inputs, which), labels, args)
        seen = with_edges(held_out, which)
        outputs = watched.predict(seen, verbose=0)
        rows[f"mask: {which}"] = accuracies(outputs, answers)
    for name, scores in rows.items():
        print(f"  {name:24}  nodes {scores['nodes']:6.2f}  graph {scores['graph']:6.2f}")
    print_laws(watched, seen, outputs, rng)
    model.save(folder / "model.keras")
    draw(seen, outputs, answers, folder / "graph.png")
    print(f"the last model and graph.png are in {folder}")


if __name__ == "__main__":
    main()
