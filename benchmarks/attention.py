"""How do time and memory of attention grow with the length? Ours against the reference, Keras and PyTorch's own.

    KERAS_BACKEND=torch python -m benchmarks.attention [--lengths 512 1024] [--rounds 3] [--write]

Self-attention alone, batch 1, 8 heads of 64, float32, gradients of query, key and value; full and causal. Memory is
what a process of its own needs beyond what it had after a call with 128 tokens; `--write` puts the tables into
benchmarks/results.
"""

import argparse
import contextlib
import functools
import subprocess
import sys

import keras
import numpy as np

from benchmarks.contest import peak_memory, table, take_turns, versions, write
from keras_tfm import ops
from keras_tfm.ops.attention_request import ScoreDropout

NUM_HEADS, KEY_DIM = 8, 64
SMALL = 128  # tokens


def contestants():
    """name: function of query, key, value and whether it is causal."""
    named = {
        "reference": functools.partial(_ours, kernel="reference"),
        "keras.ops": _keras,
        "chosen": _ours,
        "block": functools.partial(_ours, kernel="block"),
    }
    if keras.backend.backend() == "torch":
        return {**named, "torch SDPA": _sdpa}
    return {**named, "block, dropout": functools.partial(_ours, kernel="block", rate=0.1)}


def _ours(query, key, value, is_causal, kernel=None, rate=0.0):
    dropout = ScoreDropout.of(rate, _Seed(), seed=0)
    with ops.use_kernel(kernel) if kernel else contextlib.nullcontext():
        return ops.attention(query, key, value, ops.AttentionMask(is_causal=is_causal), dropout=dropout)[0]


class _Seed:
    """As a `keras.random.SeedGenerator`, without a state that a compiled function would have to hand back."""

    def next(self):
        return keras.ops.convert_to_tensor([0, 1], dtype="uint32")


def _keras(query, key, value, is_causal):
    return keras.ops.dot_product_attention(query, key, value, is_causal=is_causal)


def _sdpa(query, key, value, is_causal):
    import torch

    query, key, value = (x.transpose(1, 2) for x in (query, key, value))
    return torch.nn.functional.scaled_dot_product_attention(query, key, value, is_causal=is_causal).transpose(1, 2)


def heads(length, num_heads=NUM_HEADS, key_dim=KEY_DIM):
    """Query, key and value as tensors."""
    rng = np.random.default_rng(0)
    arrays = rng.normal(size=(3, 1, length, num_heads, key_dim)).astype("float32")
    return [keras.ops.convert_to_tensor(array) for array in arrays]


def make_step(attend, inputs, is_causal):
    """A function that runs forward and backward and waits for the result."""
    backend = keras.backend.backend()
    if backend == "torch":
        inputs = [x.detach().requires_grad_(True) for x in inputs]
        return lambda: attend(*inputs, is_causal).square().sum().backward()
    if backend == "jax":
        import jax

        compiled = jax.jit(jax.grad(lambda *heads: (attend(*heads, is_causal) ** 2).sum(), argnums=(0, 1, 2)))
        return lambda: jax.block_until_ready(compiled(*inputs))
    import tensorflow as tf

    @tf.function(jit_compile=True)
    def compiled(*heads):
        with tf.GradientTape() as tape:
            tape.watch(heads)
            loss = tf.reduce_sum(attend(*heads, is_causal) ** 2)
        return tape.gradient(loss, heads)

    return lambda: [x.numpy() for x in compiled(*inputs)]


def time_table(length, is_causal, rounds, names, inputs):
    """A table of the contestants that are named, at one length."""
    steps = {name: make_step(contestants()[name], inputs, is_causal) for name in names}
    kernel = next(name for name, reason in ops.explain_attention(*inputs) if reason is None)
    title = f"{length:,} tokens, {'causal' if is_causal else 'full'}; chosen: {kernel}"
    return table(title, take_turns(steps, rounds), ["reference", "torch SDPA"])


def peak(name, length, is_causal):
    """MiB that a contestant needs for two steps, beyond what the process had after a small one."""
    make_step(contestants()[name], heads(SMALL), is_causal)()  # loads what the backend compiles with
    step = make_step(contestants()[name], heads(length), is_causal)
    return peak_memory(lambda: (step(), step())) / 2**20


def memory_table(lengths, names):
    """A table of peaks, each from a process of its own."""
    lines = ["## Peak memory, MiB, full", "", f"| tokens | {' | '.join(names)} |", f"|---:|{'---:|' * len(names)}"]
    for length in lengths:
        peaks = [_peak_alone(name, length) for name in names]
        lines.append(f"| {length:,} | {' | '.join(f'{each:.0f}' for each in peaks)} |")
    return "\n".join(lines) + "\n"


def _peak_alone(name, length):
    command = [sys.executable, "-m", "benchmarks.attention", "--peak-of", name, "--lengths", str(length)]
    return float(subprocess.run(command, check=True, capture_output=True, text=True).stdout.split()[-1])


def main():
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--lengths", type=int, nargs="+", default=[128, 256, 512, 1024, 2048, 4096])
    parser.add_argument("--memory-lengths", type=int, nargs="*", default=[])
    parser.add_argument("--contestants", nargs="+", default=list(contestants()))
    parser.add_argument("--rounds", type=int, default=3)
    parser.add_argument("--write", action="store_true", help="append to benchmarks/results")
    parser.add_argument("--peak-of", help=argparse.SUPPRESS)
    arguments = parser.parse_args()
    if arguments.peak_of:
        print(peak(arguments.peak_of, arguments.lengths[0], is_causal=False))
        return
    tables = [
        time_table(length, is_causal, arguments.rounds, arguments.contestants, heads(length))
        for length in arguments.lengths
        for is_causal in (False, True)
    ]
    if arguments.memory_lengths:
        tables.append(memory_table(arguments.memory_lengths, arguments.contestants))
    print(versions(), *tables, sep="\n\n")
    if arguments.write:
        write("attention", "Attention alone against length", "\n".join(tables))


if __name__ == "__main__":
    main()
