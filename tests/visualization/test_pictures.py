"""Pictures of positions, masks, heads, saliency and embeddings show the numbers that they were given."""

import numpy as np
import pytest

from keras_tfm.ops import AttentionMask, mask_patterns
from keras_tfm.visualization import (
    AttentionRecord,
    plot_embeddings,
    plot_heads,
    plot_mask,
    plot_positions,
    plot_saliency,
    project_embeddings,
)

pytest.importorskip("matplotlib")
RNG = np.random.default_rng(0)


def image(axes):
    return np.asarray(axes.images[0].get_array())


def texts_of(axis):
    return [label.get_text() for label in axis.get_ticklabels()]


def test_positions_are_drawn_with_their_products(tmp_path):
    encodings = RNG.normal(size=(5, 4)).astype("float32")
    figure = plot_positions(encodings, tmp_path / "positions.png", title="$ine")
    np.testing.assert_allclose(image(figure.axes[0]), encodings, rtol=1e-6)
    np.testing.assert_allclose(image(figure.axes[1]), encodings @ encodings.T, rtol=1e-5, atol=1e-6)
    assert (tmp_path / "positions.png").read_bytes().startswith(b"\x89PNG")
    with pytest.raises(ValueError, match=r"must be finite \[T, D\]"):
        plot_positions(np.zeros(5))


def test_a_mask_a_pattern_and_an_array_are_drawn_alike():
    distance = np.arange(5)[:, None] - np.arange(5)
    expected = (distance >= 0) & (distance < 2)
    pattern = mask_patterns.Causal() & mask_patterns.SlidingWindow(2)
    for mask in (AttentionMask(is_causal=True, window=2), pattern):
        np.testing.assert_array_equal(image(plot_mask(mask, 5).axes[0]), expected)
    np.testing.assert_array_equal(image(plot_mask(expected, title="a_b").axes[0]), expected)


def test_padding_has_empty_rows_and_columns():
    real = np.array([[True] * 3, [True, True, False]])
    mask = AttentionMask(key_padding=real, query_padding=real)
    np.testing.assert_array_equal(image(plot_mask(mask, 3, row=1).axes[0]), np.outer(real[1], real[1]))
    assert image(plot_mask(AttentionMask(), 2, 7).axes[0]).shape == (2, 7)
    with pytest.raises(ValueError, match="`query_length` is needed"):
        plot_mask(mask)
    with pytest.raises(ValueError, match=r"must be \[T, S\] or"):
        plot_mask(np.ones(3, bool))


def test_the_grid_has_a_map_for_each_head():
    scores = RNG.random((2, 3, 4, 5)).astype("float32")
    records = [AttentionRecord("m/block_0/x", "encoder", scores[..., :4]), AttentionRecord("x", "cross", scores[:, :2])]
    figure = plot_heads(records, row=1, length=(3, 4))
    assert len(figure.axes) == 6
    np.testing.assert_allclose(image(figure.axes[1]), scores[1, 1, :3, :4])
    np.testing.assert_allclose(image(figure.axes[4]), scores[1, 1, :3, :4])
    assert [figure.axes[i].get_ylabel() for i in (0, 3)] == ["encoder\nblock_0", "cross\nlayer 1"]
    assert len(plot_heads(records, kind="cross").axes) == 2
    with pytest.raises(ValueError, match="0 records, kind='decoder', row=0"):
        plot_heads(records, kind="decoder")


def test_saliency_has_a_line_for_each_measure(tmp_path):
    lines = {"gradient": [0.5, 1.0, 0.0], "integrated": [-2.0, 1.0, 0.0]}
    figure = plot_saliency(lines, ["not", "bad", "¶"], tmp_path / "saliency.png", title="good?")
    axes = figure.axes[0]
    assert texts_of(axes.yaxis) == ["gradient", "integrated"]
    assert [text.get_text() for text in axes.texts[:4]] == ["not", "bad", "¶", "±1"]
    meshes = [np.asarray(mesh.get_array()).ravel() for mesh in axes.collections]
    np.testing.assert_allclose(meshes, [[0.5, 1, 0], [-1, 0.5, 0]])
    with pytest.raises(ValueError, match="a finite number for each of the 2 tokens"):
        plot_saliency([1.0, np.nan], ["a", "b"])


def test_the_projection_keeps_the_distances_of_a_plane_and_the_variances_of_numpy(tmp_path):
    plane = RNG.normal(size=(7, 2)) * [3, 1]
    axes, _ = np.linalg.qr(RNG.normal(size=(5, 5)))
    points, shares = project_embeddings(plane @ axes[:2] + 4)

    def distances(x):
        return np.linalg.norm(x[:, None] - x, axis=-1)

    np.testing.assert_allclose(distances(points), distances(plane), atol=1e-5)
    values = np.linalg.eigvalsh(np.cov(plane.T))[::-1]
    np.testing.assert_allclose(shares, values / values.sum(), rtol=1e-5)
    words = ["one", "two", "$3", "4", "5", "6", "7"]
    figure = plot_embeddings(plane, words, tmp_path / "words.svg", groups=["a"] * 3 + ["b"] * 4, title="numbers")
    assert [text.get_text() for text in figure.axes[0].texts] == words
    assert len(figure.axes[0].collections) == 2
    with pytest.raises(ValueError, match="7 vectors, 6 tokens, 6 groups"):
        plot_embeddings(plane, words[:6], groups=["a"] * 6)
    with pytest.raises(ValueError, match="V at least 2"):
        project_embeddings(np.zeros((1, 3)))
