"""Pictures of position encodings: the values, and which positions are alike."""

import numpy as np

from keras_tfm.visualization.figures import finish_figure, new_figure


def plot_positions(encodings, path=None, *, title=None):
    """Draws position encodings as a heat map, and beside it the products of each position with each other.

    Args:
        encodings: floats `[T, D]`, one row a position.
        path: Where to write the picture, a PNG unless the suffix names another format. Default None: nowhere.
        title: String above the picture. Default None.

    Returns:
        The `matplotlib.figure.Figure`.

    Raises:
        ValueError: If `encodings` is not `[T, D]`, or a value is not a finite number.
        ImportError: If matplotlib, the extra `vis`, is not installed.

    Example:

    >>> import numpy as np
    >>> figure = plot_positions(np.eye(5)[:, :3])
    >>> figure.axes[1].get_title()
    'product of positions'
    """
    encodings = np.asarray(encodings, "float32")
    if encodings.ndim != 2 or 0 in encodings.shape or not np.isfinite(encodings).all():
        raise ValueError(f"`encodings` must be finite [T, D]. Received: encodings of shape {encodings.shape}")
    figure = new_figure(9.0, 4.0)
    left, right = figure.subplots(1, 2)
    for axes, values, name, x_label in (
        (left, encodings, "position encodings", "unit"),
        (right, encodings @ encodings.T, "product of positions", "position"),
    ):
        limit = np.abs(values).max() or 1.0
        image = axes.imshow(values, cmap="RdBu_r", vmin=-limit, vmax=limit, aspect="auto", interpolation="nearest")
        axes.set(title=name, xlabel=x_label, ylabel="position")
        figure.colorbar(image, ax=axes, fraction=0.05, aspect=30)
    if title:
        figure.suptitle(title, fontsize=11, parse_math=False)
    return finish_figure(figure, path)
