"""Line charts, such as learning curves."""

from keras_tfm.visualization.figures import finish_figure, new_figure
from keras_tfm.visualization.labels import readable_labels, show_label


def plot_curves(series, path=None, *, x_label="", y_label="", title=""):
    """Draws one line for each series.

    Args:
        series: Dict of name to a pair (x values, y values) of equal length.
        path: Where to write the picture, a PNG unless the suffix names another format. Default None: nowhere.
        x_label: String. Default "".
        y_label: String. Default "".
        title: String. Default "".

    Returns:
        The `matplotlib.figure.Figure`.

    Raises:
        ValueError: If there is no series, or one has not as many y values as x values.
        ImportError: If matplotlib, the extra `vis`, is not installed.

    Example:

    >>> figure = plot_curves({"jax": ([1, 2, 4], [3.0, 11.0, 24.0])}, x_label="minutes", y_label="BLEU")
    >>> figure.axes[0].get_xlabel()
    'minutes'
    """
    uneven = {name: (len(xs), len(ys)) for name, (xs, ys) in series.items() if len(xs) != len(ys)}
    if uneven or not series:
        raise ValueError(f"`series` must hold pairs of as many x as y values. Received: lengths {uneven or series}")
    figure = new_figure(7.0, 4.3)
    axes = figure.subplots()
    for name, (xs, ys) in series.items():
        axes.plot(xs, ys, marker="o", markersize=3.5, linewidth=1.5, label=name)
    axes.grid(alpha=0.3)
    axes.set(xlabel=x_label, ylabel=y_label, title=title)
    axes.legend(frameon=False)
    texts = [axes.xaxis.label, axes.yaxis.label, axes.title, *axes.get_legend().get_texts()]
    for text, (label, font) in zip(texts, readable_labels([text.get_text() for text in texts]), strict=True):
        text.set_text(label)
        show_label(text, font)
    return finish_figure(figure, path)
