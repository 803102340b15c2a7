"""Do sliding windows save time? Ours against Keras' layer and our own full kernels, in one run, interleaved.

    KERAS_BACKEND=torch python -m benchmarks.sliding_window [--lengths 512 1024] [--window 64] [--rounds 7] [--write]

One layer, batch 1, 4 heads of 32, causal, forward and backward; `--write` puts the table into benchmarks/results.
"""

import argparse
import contextlib
import functools

import keras
import numpy as np

from benchmarks import contest
from keras_tfm import layers, ops

NUM_HEADS, KEY_DIM = 4, 32


def contestants(window):
    """name: `(layer, kernel to force)`."""
    ours = layers.MultiHeadAttention(NUM_HEADS, KEY_DIM, sliding_window=window)
    peer = keras.layers.MultiHeadAttention(NUM_HEADS, KEY_DIM, sliding_window=window)
    whole = next(name for name, reason in ops.explain_attention(*[np.zeros((1, 2, 2, 8), "float32")] * 3) if not reason)
    return {
        "keras.layers": (peer, None),
        f"ours, {whole}": (ours, whole),
        "ours, sliding_window": (ours, "sliding_window"),
    }


def make_step(layer, kernel):
    """A function of the input that runs forward and backward and waits for the result."""

    def attend(x):
        with ops.use_kernel(kernel) if kernel else contextlib.nullcontext():
            return layer(x, x, use_causal_mask=True)

    backend = keras.backend.backend()
    if backend == "torch":

        def step(x):
            x = keras.ops.convert_to_tensor(x).requires_grad_(True)
            attend(x).sum().backward()

        return step
    if backend == "jax":
        import jax

        compiled = jax.jit(jax.grad(lambda x: attend(x).sum()))
        return lambda x: compiled(x).block_until_ready()
    import tensorflow as tf

    @tf.function(jit_compile=True)
    def compiled(x):
        with tf.GradientTape() as tape:
            tape.watch(x)
            loss = tf.reduce_sum(attend(x))
        return tape.gradient(loss, x)

    return lambda x: compiled(tf.convert_to_tensor(x)).numpy()


def measure(length, window, rounds):
    """Seconds of each round by name, the contestants taking turns."""
    x = np.random.default_rng(0).normal(size=(1, length, NUM_HEADS * KEY_DIM)).astype("float32")
    steps = {}
    for name, (layer, kernel) in contestants(window).items():
        layer(x, x)
        steps[name] = make_step(layer, kernel)
    return contest.take_turns({name: functools.partial(step, x) for name, step in steps.items()}, rounds)


def report(lengths, window, rounds):
    """A Markdown table: medians in milliseconds, spread, and how many times as fast as Keras' layer."""
    backend = keras.backend.backend()
    lines = [
        f"## {backend}, window {window}",
        "",
        "| T | contestant | median ms | min-max ms | keras / it |",
        "|---:|---|---:|---:|---:|",
    ]
    for length in lengths:
        seconds = measure(length, window, rounds)
        base = np.median(seconds["keras.layers"])
        for name, values in seconds.items():
            median = np.median(values)
            span = f"{1e3 * min(values):.1f}-{1e3 * max(values):.1f}"
            lines.append(f"| {length} | {name} | {1e3 * median:.1f} | {span} | {base / median:.2f} |")
    return "\n".join(lines) + "\n"


def main():
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--lengths", type=int, nargs="+", default=[512, 1024, 2048, 4096])
    parser.add_argument("--window", type=int, default=64)
    parser.add_argument("--rounds", type=int, default=7)
    parser.add_argument("--write", action="store_true", help="append to benchmarks/results")
    arguments = parser.parse_args()
    table = report(arguments.lengths, arguments.window, arguments.rounds)
    print(table)
    if arguments.write:
        contest.write("sliding-window", "Sliding windows", table)


if __name__ == "__main__":
    main()
