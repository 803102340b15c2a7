"""Heat maps of attention scores."""

import math

import numpy as np

from keras_tfm.visualization.figures import finish_figure, new_figure
from keras_tfm.visualization.labels import readable_labels, show_label, visible_token

CELL_INCHES = 0.3


def plot_attention(scores, source_tokens, target_tokens, path=None, *, title=None, heads="mean"):
    """Draws what each target token attends to, one row a target token and one column a source token.

    Tokens of any script are labelled in an installed font that has their glyphs; where there is none, in code points
    such as U+4E8C, with one warning that names the script.

    Args:
        scores: Floats `[T, S]`, or `[N, T, S]` for N heads: the scores of one sentence in one layer.
        source_tokens: List of S strings.
        target_tokens: List of T strings.
        path: Where to write the picture, a PNG unless the suffix names another format. Default None: nowhere.
        title: String above the picture. Default None.
        heads: `"mean"`: one panel with the mean of the heads; `"all"`: a grid with one panel a head. Default `"mean"`.

    Returns:
        The `matplotlib.figure.Figure`.

    Raises:
        ValueError: If the shape of `scores` does not match the tokens, or a score is not a finite number.
        ImportError: If matplotlib, the extra `vis`, is not installed.

    Example:

    >>> import numpy as np
    >>> scores = np.array([[0.9, 0.1], [0.2, 0.8], [0.5, 0.5]])
    >>> figure = plot_attention(scores, ["the", "cat"], ["die", "Katze", "."])
    >>> [label.get_text() for label in figure.axes[0].get_yticklabels()]
    ['die', 'Katze', '.']
    """
    panels = _panels(scores, source_tokens, target_tokens, heads)
    columns = math.ceil(math.sqrt(len(panels)))
    rows = math.ceil(len(panels) / columns)
    width, height = (max(len(tokens) * CELL_INCHES, 1.0) + 1.2 for tokens in (source_tokens, target_tokens))
    figure = new_figure(columns * width + 0.8, rows * height + 0.4 * bool(title))
    grid = figure.subplots(rows, columns, squeeze=False)
    labels = readable_labels([*map(visible_token, [*source_tokens, *target_tokens]), title or ""])
    for index, axes in enumerate(grid.flat):
        if index >= len(panels):
            axes.axis("off")
            continue
        image = axes.imshow(panels[index], cmap="Blues", vmin=0.0, vmax=panels.max() or 1.0, aspect="auto")
        _label_axis(axes.xaxis, labels[: len(source_tokens)], rotation=90)
        _label_axis(axes.yaxis, labels[len(source_tokens) : -1], rotation=0)
        if len(panels) > 1:
            axes.set_title(f"head {index}", fontsize=9)
    figure.colorbar(image, ax=grid, fraction=0.05, aspect=30)
    if title:
        text, font = labels[-1]
        show_label(figure.suptitle(text, fontsize=11), font)
    return finish_figure(figure, path)


def _panels(scores, source_tokens, target_tokens, heads):
    scores = np.asarray(scores, dtype="float32")
    expected = (len(target_tokens), len(source_tokens))
    if scores.ndim not in (2, 3) or scores.shape[-2:] != expected or 0 in scores.shape:
        raise ValueError(
            "`scores` must be [T, S] or [N, T, S] with a row for each of the T target tokens and a column for each of "
            f"the S source tokens. Received: scores.shape={scores.shape}, T={expected[0]}, S={expected[1]}"
        )
    if not np.isfinite(scores).all():
        raise ValueError(f"`scores` must be finite. Received: scores={scores}")
    if heads not in ("mean", "all"):
        raise ValueError(f"`heads` must be 'mean' or 'all'. Received: heads={heads!r}")
    panels = scores.reshape(-1, *expected)
    return panels if heads == "all" else panels.mean(axis=0, keepdims=True)


def _label_axis(axis, labels, rotation):
    axis.set_ticks(range(len(labels)), [text for text, _ in labels], rotation=rotation, fontsize=9)
    for tick_label, (_, font) in zip(axis.get_ticklabels(), labels, strict=True):
        show_label(tick_label, font)
