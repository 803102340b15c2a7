"""How long do many layers take to compile, and what do a step and its memory cost with blocks in a loop?

    KERAS_BACKEND=jax python -m benchmarks.compile_time [--depths 6 12 24 48] [--contestants ...] [--rounds N]
        [--steps N] [--write]

Encoder blocks of width 64, 4 heads, feed-forward 128 on a batch of 2 × 32 tokens, all in one Functional model. Each
number is the median of `--rounds` processes, the depths and contestants taking turns. `gradients` is the time until
value and gradients of a mean squared error come out for the first time, without any optimizer: tracing, compiling and
one step. `train_on_batch` is the first call of that, with Adam; `--steps 0` leaves it out. The difference is the
optimizer's: it updates every weight by itself, in blocks in a loop as well. `--memory` compares the peak memory and the
time of training steps of 12 blocks on 8 × 256 tokens at width 256, with and without rematerialization.
"""

import argparse
import subprocess
import sys
import time

import keras
import numpy as np

from benchmarks import contest

LARGE = {"width": 256, "heads": 8, "batch": 8, "length": 256}
SMALL = {"width": 64, "heads": 4, "batch": 2, "length": 32}
CONTESTANTS = {
    "unrolled": {},
    "scan": {"layer_loop": "scan"},
    "unrolled, full": {"rematerialization": "full"},
    "scan, full": {"layer_loop": "scan", "rematerialization": "full"},
    "unrolled, selective": {"rematerialization": "selective"},
    "scan, selective": {"layer_loop": "scan", "rematerialization": "selective"},
}
LOOPS = ("unrolled", "scan", "keras_hub")


def make_model(contestant, depth, size, optimizer):
    """A compiled model of `depth` encoder blocks."""
    inputs = keras.Input((size["length"], size["width"]), batch_size=size["batch"])
    x, intermediate_dim = inputs, size["width"] * 2
    if contestant == "keras_hub":
        import keras_hub

        for _ in range(depth):
            x = keras_hub.layers.TransformerEncoder(intermediate_dim, size["heads"], normalize_first=True)(x)
    else:
        from keras_tfm import layers

        options = {"placement": "pre", **CONTESTANTS[contestant]}
        x = layers.TransformerEncoderStack(depth, intermediate_dim, size["heads"], **options)(x)
    model = keras.Model(inputs, x)
    model.compile(optimizer, "mse", jit_compile=keras.backend.backend() != "torch")
    return model


def batch(size):
    """Random features float32 `[B, T, D]`."""
    return np.random.default_rng(0).normal(size=(size["batch"], size["length"], size["width"])).astype("float32")


def first_gradients(model, x):
    """Seconds until value and gradients have come out once."""
    gradients = {"jax": _jax_gradients, "tensorflow": _tensorflow_gradients, "torch": _torch_gradients}
    start = time.perf_counter()
    gradients[keras.backend.backend()](model, x)
    return time.perf_counter() - start


def _jax_gradients(model, x):
    import jax

    def loss(trainable, others):
        outputs, others = model.stateless_call(trainable, others, x, training=True)
        return ((outputs - x) ** 2).mean(), others

    values = [[v.value for v in each] for each in (model.trainable_variables, model.non_trainable_variables)]
    jax.block_until_ready(jax.jit(jax.value_and_grad(loss, has_aux=True))(*values))


def _tensorflow_gradients(model, x):
    import tensorflow as tf

    @tf.function(jit_compile=True)
    def gradients():
        with tf.GradientTape() as tape:
            loss = tf.reduce_mean((model(x, training=True) - x) ** 2)
        return tape.gradient(loss, [variable.value for variable in model.trainable_variables])

    gradients()[0].numpy()


def _torch_gradients(model, x):
    ((model(x, training=True) - keras.ops.convert_to_tensor(x)) ** 2).mean().backward()


def measure(contestant, depth, size, steps):
    """`(gradients s, first train_on_batch s, median step ms, peak MB of steps)`, in this process."""
    x = batch(size)
    gradients = 0.0 if size is LARGE else first_gradients(make_model(contestant, depth, size, "sgd"), x)
    if not steps:
        return gradients, 0.0, 0.0, 0.0
    model = make_model(contestant, depth, size, "adam" if size is SMALL else "sgd")
    seconds = []

    def train():
        for _ in range(steps + 1):
            start = time.perf_counter()
            float(model.train_on_batch(x, x))
            seconds.append(time.perf_counter() - start)

    peak = contest.peak_memory(train) / 1e6
    return gradients, seconds[0], 1e3 * float(np.median(seconds[1:])), peak


def in_own_process(contestant, depth, size, steps):
    """`measure` in a fresh process."""
    name = "large" if size is LARGE else "small"
    command = [sys.executable, "-m", "benchmarks.compile_time", "--one", contestant, str(depth), name, str(steps)]
    result = subprocess.run(command, capture_output=True, text=True, check=True)
    return [float(number) for number in result.stdout.splitlines()[-1].split()]


def compile_table(depths, contestants, steps=5, run=in_own_process, rounds=1):
    """A Markdown table of compile times against depth, each as a multiple of that of the first depth."""
    models = [(depth, contestant) for depth in depths for contestant in contestants]
    measured = {model: [] for model in models}
    for _ in range(rounds):
        for depth, contestant in models:
            measured[depth, contestant].append(run(contestant, depth, SMALL, steps))
    lines = [
        f"## {keras.backend.backend()}: compile time",
        "",
        "| contestant | blocks | gradients s | × first | train_on_batch s | × first | step ms |",
        "|---|---:|---:|---:|---:|---:|---:|",
    ]
    first = {}
    for (depth, contestant), each in measured.items():
        gradients, whole, step, _ = np.median(each, axis=0)
        base = first.setdefault(contestant, (gradients, whole))
        span = f" ({min(row[0] for row in each):.1f}-{max(row[0] for row in each):.1f})" if rounds > 1 else ""
        training = f"{whole:.1f} | {whole / base[1]:.2f} | {step:.1f}" if steps else "| |"
        lines.append(f"| {contestant} | {depth} | {gradients:.1f}{span} | {gradients / base[0]:.2f} | {training} |")
    return "\n".join(lines) + "\n"


def memory_table(depth, contestants, steps=3, run=in_own_process, size=LARGE):
    """A Markdown table of step time and peak memory, with the ratio to the first contestant."""
    sizes = f"{size['batch']} × {size['length']} tokens, width {size['width']}"
    lines = [
        f"## {keras.backend.backend()}: {depth} blocks, {sizes}",
        "",
        "| contestant | step ms | × first | peak MB | × first |",
        "|---|---:|---:|---:|---:|",
    ]
    first = None
    for contestant in contestants:
        *_, step, peak = run(contestant, depth, size, steps)
        first = first or (step, max(peak, 1.0))
        lines.append(f"| {contestant} | {step:.0f} | {step / first[0]:.2f} | {peak:.0f} | {peak / first[1]:.2f} |")
    return "\n".join(lines) + "\n"


def main():
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--depths", type=int, nargs="+", default=[6, 12, 24, 48])
    parser.add_argument("--contestants", nargs="+", choices=[*CONTESTANTS, "keras_hub"])
    parser.add_argument("--rounds", type=int, default=1, help="processes a number")
    parser.add_argument("--steps", type=int, default=5, help="with Adam; 0: the gradients alone")
    parser.add_argument("--memory", action="store_true", help="step time and peak memory of rematerialization")
    parser.add_argument("--one", nargs=4, help=argparse.SUPPRESS)
    parser.add_argument("--write", action="store_true", help="append to benchmarks/results")
    arguments = parser.parse_args()
    if arguments.one:
        contestant, depth, name, steps = arguments.one
        print(*measure(contestant, int(depth), LARGE if name == "large" else SMALL, int(steps)))
        return
    if arguments.memory:
        every = [name for name in CONTESTANTS if keras.backend.backend() != "tensorflow" or "selective" not in name]
        table = memory_table(12, arguments.contestants or every)
    else:
        table = compile_table(
            arguments.depths, arguments.contestants or LOOPS, arguments.steps, rounds=arguments.rounds
        )
    print(table)
    if arguments.write:
        contest.write("compile-time", "Compile time against depth, and rematerialization", table)


if __name__ == "__main__":
    main()
