import pytest

from keras_tfm.visualization import plot_curves

pytest.importorskip("matplotlib")


def test_each_series_is_a_named_line(tmp_path):
    series = {"jax": ([1, 2, 4], [3.0, 11.0, 24.0]), "torch": ([2, 5], [4.0, 20.0])}
    figure = plot_curves(series, tmp_path / "c.png", x_label="minutes", y_label="BLEU", title="$ 20 minutes $")
    lines = {line.get_label(): (list(line.get_xdata()), list(line.get_ydata())) for line in figure.axes[0].lines}
    assert lines == series
    assert figure.axes[0].get_title() == "$ 20 minutes $"
    assert (tmp_path / "c.png").read_bytes().startswith(b"\x89PNG")


@pytest.mark.parametrize("series", [{}, {"a": ([1, 2], [3.0])}])
def test_empty_and_uneven_series_are_refused(series):
    with pytest.raises(ValueError, match="`series` must hold pairs of as many x as y values. Received: lengths"):
        plot_curves(series)
