import sys
import warnings

import numpy as np
import pytest

from keras_tfm.visualization import plot_attention

pytest.importorskip("matplotlib")

RNG = np.random.default_rng(0)


def some_scores(*shape):
    scores = RNG.random(shape)
    return scores / scores.sum(-1, keepdims=True)


def texts_of(axis):
    return [label.get_text() for label in axis.get_ticklabels()]


def test_rows_are_target_tokens_and_columns_are_source_tokens():
    scores = some_scores(5, 3)
    axes = plot_attention(scores, ["a", "b", "c"], list("vwxyz")).axes[0]
    np.testing.assert_allclose(axes.images[0].get_array(), scores, rtol=1e-6)
    assert texts_of(axes.xaxis) == ["a", "b", "c"]
    assert texts_of(axes.yaxis) == list("vwxyz")


def test_heads_are_averaged_or_shown_in_a_grid_of_panels():
    scores = some_scores(3, 2, 5)
    tokens = list("abcde"), list("xy")
    mean = plot_attention(scores, *tokens).axes[0]
    np.testing.assert_allclose(mean.images[0].get_array(), scores.mean(0), rtol=1e-6)
    panels = [axes for axes in plot_attention(scores, *tokens, heads="all").axes if axes.images]
    assert len(panels) == 3
    for axes, head in zip(panels, scores, strict=True):
        np.testing.assert_allclose(axes.images[0].get_array(), head, rtol=1e-6)


def test_a_path_gets_a_png(tmp_path):
    plot_attention(some_scores(2, 3), ["a", "b", "c"], ["x", "y"], tmp_path / "map.png", title="scores")
    assert (tmp_path / "map.png").read_bytes().startswith(b"\x89PNG")


def test_no_global_state_of_matplotlib_is_touched():
    plot_attention(some_scores(1, 1), ["a"], ["x"])
    pyplot = sys.modules.get("matplotlib.pyplot")
    assert pyplot is None or not pyplot.get_fignums()


def test_every_token_has_a_visible_label_and_dollars_are_no_formulas(tmp_path):
    tokens = ["$a$", "", " ", "\n", "x_1^2"]
    axes = plot_attention(some_scores(1, 5), tokens, ["\x07"], tmp_path / "map.png").axes[0]
    assert texts_of(axes.xaxis) == ["$a$", "∅", "␣", "\\n", "x_1^2"]
    assert texts_of(axes.yaxis) == ["U+0007"]


def test_a_script_without_a_font_is_named_once_and_shown_as_code_points(tmp_path, monkeypatch):
    from keras_tfm.visualization import labels

    own_font = labels.font_files()[:1]
    monkeypatch.setattr(labels, "font_files", lambda: own_font)
    with warnings.catch_warnings(record=True) as caught:
        warnings.simplefilter("always")
        axes = plot_attention(some_scores(2, 3), ["二", "月", "あ"], ["a", "二b"], tmp_path / "map.png").axes[0]
    assert [str(warning.message).split(":")[0] for warning in caught] == [
        "No installed font has the characters of CJK, HIRAGANA"
    ]
    assert texts_of(axes.xaxis) == ["U+4E8C", "U+6708", "U+3042"]
    assert texts_of(axes.yaxis) == ["a", "U+4E8Cb"]


def test_no_glyph_warning_escapes_whatever_fonts_are_installed(tmp_path):
    with warnings.catch_warnings(record=True) as caught:
        warnings.simplefilter("always")
        tokens = ["三", "点", "半", "ねこ", "고양이", "кот", "▁der", "🙂"]
        plot_attention(some_scores(1, 8), tokens, ["三"], tmp_path / "map.png", title="猫 → cat")
    assert not [warning for warning in caught if "Glyph" in str(warning.message)]
    assert len(caught) <= 1


@pytest.mark.parametrize("shape", [(3,), (3, 2), (2, 2, 2, 3), (0, 2, 3)])
def test_scores_of_another_shape_are_refused(shape):
    with pytest.raises(ValueError, match=r"`scores` must be \[T, S\] or \[N, T, S\].*scores.shape=.*T=2, S=3"):
        plot_attention(np.zeros(shape), ["a", "b", "c"], ["x", "y"])


def test_scores_that_are_no_numbers_and_unknown_ways_to_show_heads_are_refused():
    with pytest.raises(ValueError, match="`scores` must be finite"):
        plot_attention([[np.nan]], ["a"], ["x"])
    with pytest.raises(ValueError, match="`heads` must be 'mean' or 'all'. Received: heads='max'"):
        plot_attention([[1.0]], ["a"], ["x"], heads="max")


def test_a_missing_matplotlib_names_the_extra(monkeypatch):
    monkeypatch.setitem(sys.modules, "matplotlib.figure", None)
    with pytest.raises(ImportError, match=r"the extra `vis`: pip install keras_tfm\[vis\]"):
        plot_attention([[1.0]], ["a"], ["x"])
