"""What does never holding the logits cost? The chunked loss of a linear map against the dense one, interleaved.

    KERAS_BACKEND=jax python -m benchmarks.linear_cross_entropy [--vocabularies 8000 32000] [--rounds 3] [--write]

Value and gradients of features and kernel: 4,096 tokens of width 512, float32. Dense is what the backend offers: a
product and Keras' sparse cross-entropy on JAX and TensorFlow (with XLA, as `fit` compiles it, and without),
`torch.nn.functional.cross_entropy` on PyTorch. Each contestant's peak memory is measured in a process of its own,
above what the process held after a small call and beyond the gradients themselves; `--write` puts the table into
benchmarks/results.
"""

import argparse
import subprocess
import sys
from typing import NamedTuple

import keras
import numpy as np

from benchmarks import contest
from keras_tfm import ops


class Setting(NamedTuple):
    """Sizes of the task."""

    num_tokens: int = 4096
    width: int = 512

    def arrays(self, num_classes):
        """Features float32 `[M, D]`, kernel `[D, V]`, targets int32 `[M]`."""
        rng = np.random.default_rng(0)
        features = rng.standard_normal((self.num_tokens, self.width), "float32")
        kernel = rng.standard_normal((self.width, num_classes), "float32") * 0.02
        return features, kernel, rng.integers(0, num_classes, self.num_tokens, "int32")

    def gradient_bytes(self, num_classes):
        """What the gradients of features and kernel take."""
        return 4 * self.width * (self.num_tokens + num_classes)


def dense(features, kernel, targets):
    """The sum of the losses by way of all logits."""
    logits = keras.ops.matmul(features, kernel)
    if keras.backend.backend() == "torch":
        import torch

        return torch.nn.functional.cross_entropy(logits, targets.long(), reduction="sum")
    return keras.ops.sum(keras.losses.sparse_categorical_crossentropy(targets, logits, from_logits=True))


def ours(features, kernel, targets):
    """The sum of the losses, a chunk of tokens at a time."""
    return ops.linear_cross_entropy(features, kernel, targets)


def contestants():
    """name: `(loss, whether XLA compiles it)`; the name of the peer is that of ours with "dense"."""
    if keras.backend.backend() != "tensorflow":
        return {"dense": (dense, None), "ours": (ours, None)}
    return {
        "dense, XLA": (dense, True),
        "ours, XLA": (ours, True),
        "dense, graph": (dense, False),
        "ours, graph": (ours, False),
    }


def make_step(loss, xla, arrays):
    """A function that computes value and gradients and waits for them; it is compiled as far as the backend can."""
    features, kernel, targets = (keras.ops.convert_to_tensor(array) for array in arrays)
    backend = keras.backend.backend()
    if backend == "torch":

        def step():
            inputs = [x.detach().requires_grad_(True) for x in (features, kernel)]
            loss(*inputs, targets).backward()
            return [x.grad for x in inputs]

        return step
    if backend == "jax":
        import jax

        compiled = jax.jit(jax.value_and_grad(loss, (0, 1))).lower(features, kernel, targets).compile()
        return lambda: jax.block_until_ready(compiled(features, kernel, targets))
    import tensorflow as tf

    @tf.function(jit_compile=xla)
    def compiled(features, kernel, targets):
        with tf.GradientTape() as tape:
            tape.watch([features, kernel])
            value = loss(features, kernel, targets)
        return value, tape.gradient(value, [features, kernel])

    def step():
        value, gradients = compiled(features, kernel, targets)
        value.numpy()  # waits
        return gradients

    return step


def measure(setting, num_classes, rounds):
    """Seconds of each round by name, the contestants taking turns."""
    arrays = setting.arrays(num_classes)
    steps = {name: make_step(loss, xla, arrays) for name, (loss, xla) in contestants().items()}
    return contest.take_turns(steps, rounds)


def peak_memory(setting, num_classes, name):
    """MB that the loss holds at its peak beyond the gradients, measured in a process of its own."""
    command = [sys.executable, "-m", "benchmarks.linear_cross_entropy", "--vocabularies", str(num_classes)]
    command += ["--tokens", str(setting.num_tokens), "--width", str(setting.width), "--peak-of", name]
    return float(subprocess.run(command, capture_output=True, text=True, check=True).stdout.split()[-1])


def print_peak(setting, num_classes, name):
    """For `peak_memory`: prints how far the peak of two calls is above what the process held after a small one."""
    make_step(*contestants()[name], setting.arrays(16))()  # loads what the backend compiles with
    step = make_step(*contestants()[name], setting.arrays(num_classes))

    def twice():
        step()
        step()

    peak = contest.peak_memory(twice)
    print((peak - setting.gradient_bytes(num_classes)) / 1e6)


def report(setting, vocabularies, rounds, memory=True):
    """A Markdown table: medians, spread, ratio to the dense loss, peak memory."""
    lines = [
        f"## {keras.backend.backend()} {_version()}, {setting.num_tokens} tokens, width {setting.width}",
        "",
        "| V | contestant | median s | min-max s | × dense | peak MB beyond gradients | × dense |",
        "|---:|---|---:|---:|---:|---:|---:|",
    ]
    for num_classes in vocabularies:
        peaks = {name: peak_memory(setting, num_classes, name) if memory else np.nan for name in contestants()}
        seconds = measure(setting, num_classes, rounds)
        for name, values in seconds.items():
            peer = name.replace("ours", "dense")
            ratio = np.median(values) / np.median(seconds[peer])
            span = f"{min(values):.3f}-{max(values):.3f}"
            row = f"| {num_classes} | {name} | {np.median(values):.3f} | {span} | {ratio:.2f} "
            lines.append(row + (f"| {peaks[name]:.0f} | {peaks[name] / peaks[peer]:.3f} |" if memory else "| | |"))
    return "\n".join(lines) + "\n"


def _version():
    return __import__(keras.backend.backend()).__version__


def main():
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--vocabularies", type=int, nargs="+", default=[8000, 32000, 128000])
    parser.add_argument("--tokens", type=int, default=4096)
    parser.add_argument("--width", type=int, default=512)
    parser.add_argument("--rounds", type=int, default=3)
    parser.add_argument("--no-memory", action="store_true", help="time only")
    parser.add_argument("--write", action="store_true", help="append to benchmarks/results")
    parser.add_argument("--peak-of", help=argparse.SUPPRESS)
    arguments = parser.parse_args()
    setting = Setting(arguments.tokens, arguments.width)
    if arguments.peak_of:
        print_peak(setting, arguments.vocabularies[0], arguments.peak_of)
        return
    table = report(setting, arguments.vocabularies, arguments.rounds, not arguments.no_memory)
    print(table)
    if arguments.write:
        contest.write("linear-cross-entropy", "Linear cross-entropy", table)


if __name__ == "__main__":
    main()
