"""Pictures of what each token has to do with an output."""

import numpy as np

from keras_tfm.visualization.figures import finish_figure, new_figure
from keras_tfm.visualization.labels import readable_labels, show_label, visible_token


def plot_saliency(scores, tokens, path=None, *, title=None):
    """Draws a line of coloured tokens for each measure, red for what speaks for the output and blue for what against.

    Args:
        scores: floats `[T]`, or a dict of name to floats `[T]`, a line for each. Each line has its own scale, written
            at its end.
        tokens: list of T strings, in any script.
        path: Where to write the picture, a PNG unless the suffix names another format. Default None: nowhere.
        title: String above the picture. Default None.

    Returns:
        The `matplotlib.figure.Figure`.

    Raises:
        ValueError: If there is not a finite score for each token.
        ImportError: If matplotlib, the extra `vis`, is not installed.

    Example:

    >>> figure = plot_saliency({"gradient": [0.1, 2.0], "times input": [-1.0, 0.5]}, ["not", "bad"])
    >>> [label.get_text() for label in figure.axes[0].get_yticklabels()]
    ['gradient', 'times input']
    """
    lines = scores if isinstance(scores, dict) else {"": scores}
    lines = {name: np.asarray(values, "float32") for name, values in lines.items()}
    for name, values in lines.items():
        if values.shape != (len(tokens),) or not len(tokens) or not np.isfinite(values).all():
            raise ValueError(
                f"`scores` must have a finite number for each of the {len(tokens)} tokens. "
                f"Received: {values.shape} for {name!r}"
            )
    labels = readable_labels([*map(visible_token, tokens), *lines, title or ""])
    widths = [max(len(text), 2) for text, _ in labels[: len(tokens)]]
    figure = new_figure(
        0.13 * sum(widths) + 0.09 * max(map(len, lines)) + 1.6, 0.42 * len(lines) + 0.5 + 0.3 * bool(title)
    )
    axes = figure.subplots()
    edges = np.concatenate([[0.0], np.cumsum(widths)])
    for y, values in enumerate(lines.values()):
        limit = np.abs(values).max() or 1.0
        rows = values[None] / limit
        axes.pcolormesh(edges, [y - 0.42, y + 0.42], rows, cmap="RdBu_r", vmin=-1.3, vmax=1.3)
        for i, (text, font) in enumerate(labels[: len(tokens)]):
            show_label(axes.text(edges[i : i + 2].mean(), y, text, ha="center", va="center", fontsize=9), font)
        axes.text(edges[-1] + 0.5, y, f"±{limit:.2g}", ha="left", va="center", fontsize=8, color="0.35")
    axes.set(xlim=(0, edges[-1] + 5), ylim=(len(lines) - 0.5, -0.5), xticks=[])
    axes.set_yticks(range(len(lines)), [text for text, _ in labels[len(tokens) : -1]], fontsize=9)
    for label, (_, font) in zip(axes.get_yticklabels(), labels[len(tokens) : -1], strict=True):
        show_label(label, font)
    axes.tick_params(length=0)
    axes.spines[:].set_visible(False)
    if title:
        show_label(axes.set_title(labels[-1][0], fontsize=11), labels[-1][1])
    return finish_figure(figure, path)
