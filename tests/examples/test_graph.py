import re

import numpy as np
import pytest
from graph import draw_graphs, main, renumber, spoil_padding, with_edges

pytest.importorskip("matplotlib")


def steps_from(start, edges):
    """Breadth-first search: how many edges away each node is, infinite where there is no way."""
    steps, reached = np.full(len(edges), np.inf), [start]
    steps[start] = 0
    for node in reached:
        for other in np.flatnonzero(edges[node]):
            if steps[other] == np.inf:
                steps[other] = steps[node] + 1
                reached.append(other)
    return steps


def test_nodes_are_labelled_by_their_distance_and_graphs_by_what_their_edges_join():
    inputs, labels = draw_graphs(np.random.default_rng(0), 200, max_nodes=13, noise=0.0)
    alike = {0: [], 1: []}
    for features, edges, real, nodes, kind in zip(*inputs.values(), *labels.values(), strict=True):
        size = real.sum()
        assert real[:size].all() and 6 <= size <= 13 and not edges[size:].any() and not edges[:, size:].any()
        assert (edges == edges.T).all() and edges.diagonal()[:size].all()
        hints, marked = features[:size].T
        assert marked.sum() == 1
        assert (nodes[:size] == (steps_from(marked.argmax(), edges[:size, :size]) <= 2)).all() and (
            nodes[size:] == -1
        ).all()
        one, other = np.nonzero(np.triu(edges, 1))
        alike[kind] += list(hints[one] == hints[other])
    assert np.mean(alike[1]) > 0.8 and np.mean(alike[0]) < 0.2


def test_masks_and_orders_are_what_they_are_called():
    inputs, _ = draw_graphs(np.random.default_rng(1), 5, max_nodes=7)
    sizes = inputs["padding_mask"].sum(axis=1)
    assert (with_edges(inputs, "all")["edges"].sum(axis=(1, 2)) == sizes**2).all()
    assert (with_edges(inputs, "none")["edges"].sum(axis=(1, 2)) == sizes).all()
    order = np.random.default_rng(2).permutation(7)
    back = renumber(renumber(inputs, order), np.argsort(order))
    assert all((back[name] == inputs[name]).all() for name in inputs)
    spoiled, pairs = spoil_padding(inputs), with_edges(inputs, "all")["edges"]
    assert (spoiled["edges"] == np.where(pairs, inputs["edges"], True)).all()
    assert (spoiled["features"][~inputs["padding_mask"]] == 1000).all()
    assert (spoiled["features"][inputs["padding_mask"]] == inputs["features"][inputs["padding_mask"]]).all()


def test_a_run_trains_and_its_answers_follow_the_nodes(tmp_path, capsys):
    main(
        ["--edges", "graph", "--num-graphs", "64", "--max-nodes", "7", "--num-layers", "1", "--hidden-dim", "8"]
        + ["--epochs", "1", "--output", str(tmp_path)]
    )
    printed = capsys.readouterr().out
    assert "mask: graph" in printed and "the most frequent label" in printed
    differences = [float(number) for number in re.findall(r"max difference (\S+)", printed)]
    assert len(differences) == 2 and max(differences) < 1e-5
    assert (tmp_path / "graph.png").read_bytes().startswith(b"\x89PNG")
