"""Figures that touch no global state: neither pyplot nor matplotlib's registered fonts."""


def new_figure(width, height):
    """Makes an empty matplotlib Figure with its own Agg canvas.

    Args:
        width: Float, inches.
        height: Float, inches.

    Returns:
        A `matplotlib.figure.Figure` with constrained layout.

    Raises:
        ImportError: If matplotlib is not installed.
    """
    try:
        from matplotlib.backends.backend_agg import FigureCanvasAgg
        from matplotlib.figure import Figure
    except ImportError as error:
        raise ImportError("Pictures need matplotlib, the extra `vis`: pip install keras_tfm[vis]") from error
    figure = Figure(figsize=(width, height), layout="constrained")
    FigureCanvasAgg(figure)
    return figure


def finish_figure(figure, path):
    """Writes the figure to `path`, a PNG unless the suffix names another format, or nowhere for None; returns it."""
    if path is not None:
        figure.savefig(path, dpi=150)
    return figure
