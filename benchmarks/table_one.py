"""Table 1 of "Attention Is All You Need", measured: how cost and path grow with length n and width d.

    KERAS_BACKEND=jax python -m benchmarks.table_one [--axes length width] [--memory] [--rounds 3] [--write]

Forward and backward of one layer, batch 1, float32: self-attention by the textbook, which holds all n² scores, and by
PyTorch's kernel or ours in blocks, which do not, all without the projections, which the paper's row leaves out too;
self-attention restricted to a window; an LSTM; a convolution over k tokens, full and separable. Exponents are slopes
of lines through the logarithms of the upper three sizes. Memory is the peak of a process of its own beyond what it had
before the step. The path is the smallest number of layers, or of steps of the recurrence, after which the gradient of
the last output with respect to the first input is not zero; convolutions are causal there. `--write` appends to
benchmarks/results; `--image FILE` draws what was measured.
"""

import argparse
import multiprocessing

import keras
import numpy as np

from benchmarks import contest
from benchmarks.scaling import exponent
from benchmarks.token_mixing import PATHS, ROWS, path_length, peak, step_of

AXES = {"length": [512, 1024, 2048, 4096], "width": [64, 128, 256, 512]}
FIXED = {"length": 128, "width": 512}  # the width while the length grows, and the length while the width does
NUM_FITTED = 3
PATH_LENGTHS = [8, 16, 32]


def shape_at(axis, size):
    """Length and width where one of them has a size."""
    return (size, FIXED[axis]) if axis == "length" else (FIXED[axis], size)


def measure_time(axis, sizes, rounds):
    """name: median milliseconds at each size; the rows take turns."""
    milliseconds = {name: [] for name in ROWS}
    for size in sizes:
        steps = {name: step_of(name, *shape_at(axis, size)) for name in ROWS}
        for name, seconds in contest.take_turns(steps, rounds).items():
            milliseconds[name].append(1e3 * float(np.median(seconds)))
    return milliseconds


def measure_memory(axis, sizes):
    """name: MiB at each size, each from a process of its own."""
    context = multiprocessing.get_context("forkserver")
    context.set_forkserver_preload(["benchmarks.token_mixing"])  # imported once for all
    mebibytes = {name: [] for name in ROWS}
    for size in sizes:
        for name in ROWS:
            with context.Pool(1) as pool:
                mebibytes[name].append(pool.apply(peak, (name, *shape_at(axis, size))))
    return mebibytes


def growth_table(what, axis, sizes, values, has_paper=True):
    """A Markdown table of a cost along an axis, with the fitted exponents, and the paper's where it has any."""
    letter, other = ("n", "d") if axis == "length" else ("d", "n")
    heads = [f"{letter} = {size:,}" for size in sizes] + ["exponent"]
    lines = [
        f"## {keras.backend.backend()}: {what} against {axis}, {other} = {FIXED[axis]}",
        "",
        f"| layer | {' | '.join(heads)} |{' paper: operations | exponent |' if has_paper else ''}",
        f"|---|{'---:|' * len(heads)}{'---|---:|' if has_paper else ''}",
    ]
    for name, row in values.items():
        _, complexity, exponents = ROWS[name]
        fitted = exponent(sizes[-NUM_FITTED:], np.maximum(row, 1e-3)[-NUM_FITTED:])
        cells = [f"{value:.1f}" for value in row] + [f"{fitted:.2f}"]
        cells += [complexity, str(exponents[axis == "width"])] if has_paper else []
        lines.append(f"| {name} | {' | '.join(cells)} |")
    return "\n".join(lines) + "\n"


def path_table(lengths, paths):
    """A Markdown table of path lengths beside the paper's."""
    lines = [
        "## Sequential operations of a layer, and layers (steps of the recurrence) from the first token to the last",
        "",
        f"| layer | sequential operations | {' | '.join(f'n = {length}' for length in lengths)} | paper: path |",
        f"|---|---|{'---:|' * len(lengths)}---|",
    ]
    for name, row in paths.items():
        _, sequential, path = PATHS[name]
        lines.append(f"| {name} | {sequential} | {' | '.join(map(str, row))} | {path} |")
    return "\n".join(lines) + "\n"


def draw(path, times, lengths, paths):
    """Draws the times along each axis that was measured, and the path lengths, all with logarithmic axes."""
    from matplotlib.figure import Figure
    from PIL import Image

    panels = {f"milliseconds, forward and backward, against {axis}": each for axis, each in times.items()}
    if paths:
        panels["layers or steps from the first token to the last, against length"] = (lengths, paths)
    names = {name.split(", r")[0]: None for _, values in panels.values() for name in values}
    colours = {name: f"C{number}" for number, name in enumerate(names)}
    figure = Figure(figsize=(4.4 * len(panels), 4.2), layout="constrained")
    for axes, (title, (sizes, values)) in zip(
        figure.subplots(1, len(panels), squeeze=False)[0], panels.items(), strict=True
    ):
        for name, row in values.items():
            axes.plot(
                sizes, row, marker="o", markersize=3.5, linewidth=1.4, label=name, color=colours[name.split(", r")[0]]
            )
        axes.set_xscale("log", base=2)
        axes.set_yscale("log")
        axes.set_xticks(sizes, [f"{size:,}" for size in sizes])
        axes.yaxis.set_major_formatter("{x:,g}")
        axes.set_title(title, fontsize=9)
        axes.grid(alpha=0.3)
        axes.legend(frameon=False, fontsize=7)
    figure.savefig(path, dpi=90)
    Image.open(path).convert("RGB").quantize(64).save(path, optimize=True)  # a third of the size


def main(arguments=None):
    """Measures, prints, and writes what the command line asks for."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--axes", nargs="*", choices=list(AXES), default=list(AXES))
    parser.add_argument("--sizes", nargs="+", type=int, help="in place of those of each axis")
    parser.add_argument("--path-lengths", nargs="*", type=int, default=PATH_LENGTHS)
    parser.add_argument("--memory", action="store_true", help="peaks of memory rather than times")
    parser.add_argument("--rounds", type=int, default=3)
    parser.add_argument("--image", metavar="FILE", help="draw the times and paths")
    parser.add_argument("--note", default="", help="a line above the tables, such as what else ran on the machine")
    parser.add_argument("--write", action="store_true", help="append to benchmarks/results")
    arguments = parser.parse_args(arguments)
    tables, measured = [arguments.note + "\n"] * bool(arguments.note), {}
    for axis in arguments.axes:
        sizes = arguments.sizes or AXES[axis]
        values = measure_memory(axis, sizes) if arguments.memory else measure_time(axis, sizes, arguments.rounds)
        measured[axis] = sizes, values
        what = "peak MiB" if arguments.memory else "milliseconds"
        tables.append(growth_table(what, axis, sizes, values, has_paper=not arguments.memory))
    paths = {}
    if arguments.path_lengths:
        paths = {name: [path_length(name, length) for length in arguments.path_lengths] for name in PATHS}
        tables.append(path_table(arguments.path_lengths, paths))
    print(*tables, sep="\n")
    if arguments.write:
        contest.write("table_one", "Table 1 of the paper, measured", "\n".join(tables))
    if arguments.image:
        draw(arguments.image, measured, arguments.path_lengths, paths)


if __name__ == "__main__":
    main()
