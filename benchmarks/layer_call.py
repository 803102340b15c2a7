"""What does calling a block cost beside its arithmetic? Eager calls on a tiny input, and the time of the import.

    KERAS_BACKEND=torch python -m benchmarks.layer_call [--rounds 15] [--write]

One encoder block of width 16, 2 heads, feed-forward 32, on 1 × 4 tokens, called without compilation: there the time is
Python's. A round is 20 calls; in training with a dropout of 0.1. On PyTorch `torch.nn.TransformerEncoderLayer` takes
part. The import is that of the package after that of Keras, each in a fresh process, with bytecode that an import
before has written.
"""

import argparse
import importlib.util
import os
import subprocess
import sys
import tempfile

import keras
import numpy as np

from benchmarks import contest, steps
from keras_tfm import layers

WIDTH, INTERMEDIATE_DIM, NUM_HEADS, LENGTH = 16, 32, 2, 4
IMPORTS = {"keras": ("sys", "keras"), "keras_tfm after it": ("keras", "keras_tfm")}
PEERS = {"keras_hub after it": ("keras", "keras_hub")}


def ours():
    """Keras_tfm's encoder block."""
    block = layers.TransformerEncoder(INTERMEDIATE_DIM, NUM_HEADS, dropout=0.1)
    return lambda x, training: block(x, training=training)


def keras_hub():
    """KerasHub's encoder block."""
    import keras_hub

    block = keras_hub.layers.TransformerEncoder(INTERMEDIATE_DIM, NUM_HEADS, dropout=0.1)
    return lambda x, training: block(x, training=training)


def keras_dense():
    """One Dense layer of Keras: what a bare call costs."""
    dense = keras.layers.Dense(WIDTH)
    return lambda x, training: dense(x)


def contestants():
    """name: function of an input and of whether it is training."""
    makers = {"keras_tfm": ours, "keras_hub": keras_hub}
    if keras.backend.backend() == "torch":
        makers["torch.nn"] = torch_nn
    return contest.make_all({**makers, "keras.layers.Dense": keras_dense})


def torch_nn():
    """`torch.nn.TransformerEncoderLayer`, whose prediction takes its fast path."""
    import torch

    block = torch.nn.TransformerEncoderLayer(WIDTH, NUM_HEADS, INTERMEDIATE_DIM, 0.1, batch_first=True)
    block = block.to(steps.torch_device())

    def call(x, training):
        if block.training != training:
            block.train(training)
        return block(x)

    return call


def repeat(call, x, training, count):
    """A function that calls often, on PyTorch without gradients unless training, and waits for the last."""

    def run():
        for _ in range(count):
            outputs = call(x, training)
        return keras.ops.convert_to_numpy(outputs)

    if keras.backend.backend() != "torch":
        return run
    import torch

    return torch.set_grad_enabled(training)(run)


def call_tables(rounds, count=20, modes=(False, True)):
    """Markdown tables of microseconds a call, in prediction (`False`) and in training."""
    x = keras.ops.convert_to_tensor(np.random.default_rng(0).normal(size=(1, LENGTH, WIDTH)).astype("float32"))
    calls, tables = contestants(), []
    for training in modes:
        runs = {name: repeat(call, x, training, count) for name, call in calls.items()}
        seconds = contest.take_turns(runs, rounds)
        seconds = {name: [value / count for value in values] for name, values in seconds.items()}
        title = f"{keras.backend.backend()}, a call in {'training' if training else 'prediction'}, eager"
        tables.append(contest.table(title, seconds, ["keras_hub", "torch.nn"], unit="µs"))
    return "\n".join(tables)


def import_seconds(first, package, environment):
    """Seconds that a fresh process takes to import a package after another."""
    code = f"import time, {first}; start = time.perf_counter(); import {package}; print(time.perf_counter() - start)"
    result = subprocess.run([sys.executable, "-c", code], env=environment, capture_output=True, text=True, check=True)
    return float(result.stdout.split()[-1])


def import_table(imports, rounds):
    """A Markdown table of milliseconds of imports that take turns; the first, which write bytecode, do not count."""
    seconds = {name: [] for name in imports}
    with tempfile.TemporaryDirectory() as folder:
        # A folder of bytecode that the environment names is used: it may be full already.
        environment = {"PYTHONPYCACHEPREFIX": folder, **os.environ, "KERAS_BACKEND": keras.backend.backend()}
        environment.pop("PYTHONDONTWRITEBYTECODE", None)  # with it every import would compile every file anew
        for counts in [False, *[True] * rounds]:
            for name, (first, package) in imports.items():
                value = import_seconds(first, package, environment)
                seconds[name] += [value] * counts
    return contest.table(f"{keras.backend.backend()}, imports", seconds, ["keras"])


def main():
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--rounds", type=int, default=15, help="0 leaves the calls out")
    parser.add_argument("--imports", type=int, default=5, help="imports of each package; 0 leaves them out")
    parser.add_argument("--write", action="store_true", help="append to benchmarks/results")
    arguments = parser.parse_args()
    tables = call_tables(arguments.rounds) if arguments.rounds else ""
    if arguments.imports:
        imports = IMPORTS | (PEERS if importlib.util.find_spec("keras_hub") else {})
        tables = "\n".join([tables, import_table(imports, arguments.imports)])
    print(tables)
    if arguments.write:
        contest.write("layer-call", "Calls of a block on a tiny input, and imports", tables)


if __name__ == "__main__":
    main()
