"""The pictures of the questions: heat maps, curves and bars beside each other, labelled in English for both pages."""

import io

import numpy as np
from matplotlib.ticker import MaxNLocator
from PIL import Image

from keras_tfm.visualization.figures import new_figure

DPI = 100


def write(figure, path):
    """Writes a PNG of 64 colours: a third of the bytes."""
    buffer = io.BytesIO()
    figure.savefig(buffer, dpi=DPI)
    Image.open(buffer).convert("RGB").quantize(64).save(path, optimize=True)


def heat_maps(panels, path, *, x_label="", y_label="", symmetric=False):
    """One heat map for each title; all share the range of their colours.

    Args:
        panels: dict of title to a matrix.
        path: where to write the PNG.
        x_label, y_label: of all panels.
        symmetric: whether blue and red stand for below and above zero.
    """
    panels = {title: np.asarray(matrix, "float64") for title, matrix in panels.items()}
    top = max(abs(matrix).max() for matrix in panels.values())
    figure = new_figure(3.0 * len(panels) + 0.8, 3.0)
    colours = dict(cmap="RdBu_r", vmin=-top, vmax=top) if symmetric else dict(cmap="Blues", vmin=0.0, vmax=top)
    grid = figure.subplots(1, len(panels), squeeze=False)[0]
    for axes, (title, matrix) in zip(grid, panels.items(), strict=True):
        image = axes.imshow(matrix, aspect="auto", interpolation="nearest", **colours)
        axes.set_title(title, fontsize=10)
        axes.set(xlabel=x_label, ylabel=y_label)
        for axis in (axes.xaxis, axes.yaxis):
            axis.set_major_locator(MaxNLocator(integer=True))
    figure.colorbar(image, ax=grid, fraction=0.05, aspect=25)
    write(figure, path)


def curves(panels, path, *, x_label="", x_scale="linear", y_scale="linear", x_ticks=None):
    """One chart for each title, with a line for each series.

    Args:
        panels: dict of title to a dict of name to a pair (x values, y values).
        path: where to write the PNG.
        x_label: of all panels.
        x_scale, y_scale: `"linear"` or `"log"`.
        x_ticks: the values that are marked; `None` for matplotlib's choice.
    """
    figure = new_figure(3.6 * max(len(panels), 1.4), 3.0)
    for axes, (title, series) in zip(figure.subplots(1, len(panels), squeeze=False)[0], panels.items(), strict=True):
        for name, (xs, ys) in series.items():
            axes.plot(xs, ys, marker="o" if len(xs) < 30 else None, markersize=3.5, linewidth=1.5, label=name)
        axes.set_title(title, fontsize=10)
        axes.set(xlabel=x_label, xscale=x_scale, yscale=y_scale)
        if x_ticks is not None:
            axes.set_xticks(x_ticks, [f"{tick:g}" for tick in x_ticks])
            axes.set_xticks([], minor=True)
        axes.grid(alpha=0.3)
        axes.legend(framealpha=0.8, edgecolor="none", fontsize=8)
    write(figure, path)


def bars(panels, path, *, labels, y_top=None):
    """Groups of bars: one chart for each title, one group for each label, one colour for each series.

    Args:
        panels: dict of title to a dict of name to values, one for each label.
        path: where to write the PNG.
        labels: names of the groups.
        y_top: top of the charts; `None` for matplotlib's choice.
    """
    figure = new_figure(max(3.6 * len(panels), 0.9 * len(labels) + 1.5, 4.5), 3.0)
    for axes, (title, series) in zip(figure.subplots(1, len(panels), squeeze=False)[0], panels.items(), strict=True):
        width = 0.8 / len(series)
        for index, (name, values) in enumerate(series.items()):
            places = np.arange(len(labels)) + (index - (len(series) - 1) / 2) * width
            axes.bar_label(axes.bar(places, values, width * 0.95, label=name), fmt="%.3g", fontsize=7)
        axes.set_title(title, fontsize=10)
        axes.set_xticks(range(len(labels)), labels, fontsize=8)
        axes.set_ylim(0, y_top)
        axes.grid(alpha=0.3, axis="y")
        if len(series) > 1:
            axes.legend(framealpha=0.8, edgecolor="none", fontsize=8)
    write(figure, path)
