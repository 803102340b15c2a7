"""Do sliding windows save time? Ours against Keras' layer and our own without a window, in one run, interleaved.

    KERAS_BACKEND=torch python -m benchmarks.sliding_window [--window 64] [--rounds 7] [--no-peers] [--write]

One layer, batch 1, 4 heads of 32, causal but for "ours, full", forward and backward; `--write` puts the table into
benchmarks/results.
"""

import argparse
import contextlib
import functools

import keras
import numpy as np

from benchmarks import contest
from keras_tfm import layers, ops

NUM_HEADS, KEY_DIM = 4, 32
FULL, CAUSAL = "ours, full", "ours, no window"


def contestants(window, length, peers=True):
    """name: `(layer, kernel to force, whether it is causal)`; the peer only with `peers`."""
    ours = layers.MultiHeadAttention(NUM_HEADS, KEY_DIM, sliding_window=window)
    unlimited = layers.MultiHeadAttention(NUM_HEADS, KEY_DIM)
    peer = keras.layers.MultiHeadAttention(NUM_HEADS, KEY_DIM, sliding_window=window)
    heads = np.zeros((1, length, NUM_HEADS, KEY_DIM), "float32")
    whole = next(name for name, reason in ops.explain_attention(heads, heads, heads) if not reason)
    return {
        **({"keras.layers": (peer, None, True)} if peers else {}),
        FULL: (unlimited, None, False),
        CAUSAL: (unlimited, None, True),
        f"ours, {whole}": (ours, whole, True),
        "ours, sliding_window": (ours, "sliding_window", True),
    }


def make_step(layer, kernel, is_causal):
    """A function of the input that runs forward and backward and waits for the result."""

    def attend(x):
        with ops.use_kernel(kernel) if kernel else contextlib.nullcontext():
            return layer(x, x, use_causal_mask=is_causal)

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


def measure(length, window, rounds, peers=True):
    """Seconds of each round by name, the contestants taking turns."""
    x = np.random.default_rng(0).normal(size=(1, length, NUM_HEADS * KEY_DIM)).astype("float32")
    steps = {}
    for name, (layer, kernel, is_causal) in contestants(window, length, peers).items():
        layer(x, x)
        steps[name] = make_step(layer, kernel, is_causal)
    return contest.take_turns({name: functools.partial(step, x) for name, step in steps.items()}, rounds)


def report(lengths, window, rounds, peers=True):
    """A Markdown table: medians in milliseconds, spread, how many times as fast as causal and as full attention."""
    backend = keras.backend.backend()
    lines = [
        f"## {backend}, window {window}",
        "",
        "| T | contestant | median ms | min-max ms | times as fast as no window | as full |",
        "|---:|---|---:|---:|---:|---:|",
    ]
    for length in lengths:
        seconds = measure(length, window, rounds, peers)
        causal, full = np.median(seconds[CAUSAL]), np.median(seconds[FULL])
        for name, values in seconds.items():
            median = np.median(values)
            span = f"{1e3 * min(values):.1f}-{1e3 * max(values):.1f}"
            ratios = f"{causal / median:.2f} | {full / median:.2f}"
            lines.append(f"| {length} | {name} | {1e3 * median:.1f} | {span} | {ratios} |")
    return "\n".join(lines) + "\n"


def main():
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--lengths", type=int, nargs="+", default=[512, 1024, 2048, 4096])
    parser.add_argument("--window", type=int, default=64)
    parser.add_argument("--rounds", type=int, default=7)
    parser.add_argument("--no-peers", action="store_true", help="without Keras' layer, which holds all scores")
    parser.add_argument("--write", action="store_true", help="append to benchmarks/results")
    arguments = parser.parse_args()
    table = report(arguments.lengths, arguments.window, arguments.rounds, not arguments.no_peers)
    print(table)
    if arguments.write:
        contest.write("sliding-window", "Sliding windows", table)


if __name__ == "__main__":
    main()
