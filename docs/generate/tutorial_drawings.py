"""Boxes, arrows and heat maps of the tutorial's pictures."""

import numpy as np


def new_figure(width, height):
    """A figure of so many inches, without pyplot."""
    from matplotlib.backends.backend_agg import FigureCanvasAgg
    from matplotlib.figure import Figure

    figure = Figure(figsize=(width, height), layout="constrained")
    FigureCanvasAgg(figure)
    return figure


def save(figure, path):
    """Writes a PNG of at most 256 colours, a third as large."""
    from PIL import Image

    figure.savefig(path, dpi=110)
    with Image.open(path) as picture:
        small = picture.convert("RGB").quantize(256, dither=Image.Dither.NONE)
    small.save(path, optimize=True)


def block(axes, left, bottom, text, is_sublayer):
    """A box; a sub-layer has the sum and the norm on top."""
    from matplotlib.patches import FancyBboxPatch

    colour = "#deebf7" if is_sublayer else "#eeeeee"
    style = dict(boxstyle="round,pad=0.02", facecolor=colour, edgecolor="#3182bd" if is_sublayer else "gray")
    axes.add_patch(FancyBboxPatch((left, bottom), 3.0, 0.5, **style))
    axes.text(left + 1.5, bottom + 0.25, text, ha="center", va="center", fontsize=10)
    if is_sublayer:
        style.update(facecolor="#fff3d6", edgecolor="#d9a400")
        axes.add_patch(FancyBboxPatch((left, bottom + 0.54), 3.0, 0.2, **style))
        axes.text(left + 1.5, bottom + 0.63, "add, normalize", ha="center", va="center", fontsize=7)


def arrow(axes, start, end, style="-|>"):
    """A line, by default with a head."""
    axes.annotate("", end, start, arrowprops=dict(arrowstyle=style, color="#444444", shrinkA=0, shrinkB=0))


def heat_map(axes, values, title, numbers=False, **style):
    """Values as colours, and as numbers where there are few."""
    axes.imshow(values, **style)
    axes.set_title(title, fontsize=10)
    axes.set_xticks([])
    axes.set_yticks([])
    for (row, column), value in np.ndenumerate(values) if numbers else ():
        if np.isfinite(value):
            colour = "white" if abs(value) > 0.6 * style["vmax"] else "black"
            axes.text(column, row, f"{value:.1f}", ha="center", va="center", fontsize=7, color=colour)


def show_mask(axes, mask, title):
    """True in blue."""
    axes.imshow(np.asarray(mask), cmap="Blues", vmin=0, vmax=1.4)
    rows, columns = np.shape(mask)
    axes.set_xticks(np.arange(columns + 1) - 0.5, minor=True)
    axes.set_yticks(np.arange(rows + 1) - 0.5, minor=True)
    axes.grid(which="minor", color="white", lw=1)
    axes.tick_params(which="both", length=0, labelbottom=False, labelleft=False)
    axes.set_title(title, fontsize=10)
