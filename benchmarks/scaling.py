"""How does the time of our encoder grow with length, width and depth? Fitted exponents beside those of the FLOPs.

    KERAS_BACKEND=jax python -m benchmarks.scaling [--axes length width] [--training] [--rounds 3] [--write]

Batch 1; one size is doubled while the others stay at 512 tokens, width 256 and 2 blocks; 8 heads, a feed-forward
network of 4 times the width. The exponent is the slope of a line through the logarithms of size and median time; the
expected one is the slope of the floating-point operations over the same sizes. A time that grows more slowly has a
share that does not grow, such as calls, or larger products that run closer to the machine's limit.
"""

import argparse

import keras
import numpy as np

from benchmarks import contest, encoders, steps

SETTING = steps.Setting(2, 256, 1024, 8, batch_size=1, length=512)
AXES = {
    "length": [128, 256, 512, 1024, 2048],
    "width": [64, 128, 256, 512, 1024],
    "depth": [1, 2, 4, 8],
}


def resized(setting, axis, size):
    """The setting with one size changed."""
    if axis == "width":
        return setting._replace(width=size, intermediate_dim=4 * size)
    return setting._replace(**{"num_layers" if axis == "depth" else axis: size})


def flops(setting):
    """Floating-point operations of a prediction: of the projections, the feed-forward networks and the attention."""
    width, length = setting.width, setting.length
    a_token = 2 * (4 * width**2 + 2 * width * setting.intermediate_dim) + 4 * length * width
    return setting.num_layers * setting.num_tokens * a_token


def exponent(sizes, values):
    """The slope of a line through the logarithms."""
    return np.polyfit(np.log(sizes), np.log(values), 1)[0]


def measure(settings, training, rounds):
    """Median seconds of each setting, which take turns."""
    made = [encoders.ours(setting, dropout=0) for setting in settings]
    steps = {number: each.train if training else each.predict for number, each in enumerate(made)}
    return [np.median(values) for values in contest.take_turns(steps, rounds, warm_up=2).values()]


def report(setting, axes, training, rounds):
    """A Markdown table of the times along each axis, and the exponents."""
    what = "training step" if training else "prediction"
    lines = [
        f"## {keras.backend.backend()}, {what}",
        "",
        "| axis | sizes | median ms | exponent | of the last two sizes | expected | of the last two sizes |",
        "|---|---|---|---:|---:|---:|---:|",
    ]
    for axis, sizes in axes.items():
        settings = [resized(setting, axis, size) for size in sizes]
        seconds = measure(settings, training, rounds)
        cells = [", ".join(f"{size:,}" for size in sizes), ", ".join(f"{1e3 * value:.1f}" for value in seconds)]
        for values in (seconds, [flops(each) for each in settings]):
            cells += [f"{exponent(sizes[start:], values[start:]):.2f}" for start in (0, -2)]
        lines.append(f"| {axis} | {' | '.join(cells)} |")
    return "\n".join(lines) + "\n"


def main():
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--axes", nargs="+", choices=list(AXES), default=list(AXES))
    parser.add_argument("--training", action="store_true", help="training steps rather than predictions")
    parser.add_argument("--rounds", type=int, default=3)
    parser.add_argument("--write", action="store_true", help="append to benchmarks/results")
    arguments = parser.parse_args()
    axes = {axis: AXES[axis] for axis in arguments.axes}
    table = report(SETTING, axes, arguments.training, arguments.rounds)
    print(table)
    if arguments.write:
        contest.write("scaling", "Exponents of the time in length, width and depth", table)


if __name__ == "__main__":
    main()
