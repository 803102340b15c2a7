"""What does dropout cost? Ours against Keras' layer and the backend's own function, in one run, interleaved.

    KERAS_BACKEND=jax python -m benchmarks.dropout [--rate 0.1] [--rounds 15] [--write]

Float32 `[16, 128, 1024]`, the inner activations of a feed-forward network, forward alone and with the gradient of the
input, compiled as `fit` compiles: `jax.jit`; TensorFlow's graph, which is what it takes on a CPU, and XLA, which it
takes elsewhere; PyTorch eagerly. `a product` multiplies by a number instead: it reads and writes the same memory and
draws nothing, which is the limit.
"""

import argparse
import itertools

import keras
import numpy as np

from benchmarks import contest
from keras_tfm import layers

SHAPE = (16, 128, 1024)


def of_layer(layer):
    """A function of `x` and a seed's state that returns what is left and the next state."""

    def drop(x, state):
        if keras.backend.backend() != "jax":
            return layer(x, training=True), state
        outputs, (state,) = layer.stateless_call([], [state], x, training=True)
        return outputs, state

    return drop


def bare(rate):
    """The backend's own function, likewise."""
    backend = keras.backend.backend()
    if backend == "torch":
        import torch

        return lambda x, state: (torch.nn.functional.dropout(x, rate), state)
    if backend == "tensorflow":
        import tensorflow as tf

        return lambda x, state: (tf.nn.dropout(x, rate), state)
    import jax

    def drop(x, state):
        is_kept = jax.random.bernoulli(jax.random.key(state[1]), 1 - rate, x.shape)
        return jax.numpy.where(is_kept, x / (1 - rate), 0), state + 1

    return drop


def contestants(rate):
    """name: function of `x` and a seed's state."""
    return {
        "keras_tfm": of_layer(layers.Dropout(rate, seed=1)),
        "keras.layers": of_layer(keras.layers.Dropout(rate, seed=1)),
        f"{keras.backend.backend()} itself": bare(rate),
        "a product": lambda x, state: (x * (1 - rate), state),
    }


def make_step(drop, x, has_gradient, xla=False):
    """A function that drops once, with the gradient of `x` if wanted, and waits for the result."""
    backend = keras.backend.backend()
    x = keras.ops.convert_to_tensor(x)
    if backend == "torch":
        return torch_step(drop, x, has_gradient)
    return jax_step(drop, x, has_gradient) if backend == "jax" else tensorflow_step(drop, x, has_gradient, xla)


def torch_step(drop, x, has_gradient):
    """Eager; the gradient that comes in is `x` itself."""
    import torch

    x = x.detach().requires_grad_(has_gradient)

    def step():
        x.grad = None
        outputs, _ = drop(x, None)
        if has_gradient:
            outputs.backward(x.detach())
        if outputs.is_cuda:
            torch.cuda.synchronize()

    return step


def jax_step(drop, x, has_gradient):
    """Compiled, with the state of the seed handed on."""
    import jax

    state = jax.numpy.array([1, 0], "uint32")

    @jax.jit
    def compiled(x, state):
        outputs, pull_back, state = jax.vjp(lambda x: drop(x, state), x, has_aux=True)
        return outputs, pull_back(x) if has_gradient else None, state

    def step():
        nonlocal state
        *results, state = compiled(x, state)
        jax.block_until_ready(results)

    return step


def tensorflow_step(drop, x, has_gradient, xla):
    """A graph, compiled by XLA or not."""
    import tensorflow as tf

    @tf.function(jit_compile=xla)
    def compiled(x):
        with tf.GradientTape() as tape:
            tape.watch(x)
            outputs, _ = drop(x, None)
        return [outputs, *([tape.gradient(outputs, x, x)] if has_gradient else [])]

    return lambda: [each[0, 0, 0].numpy() for each in compiled(x)]


def report(shape, rate, rounds):
    """Markdown tables of the forward pass and of that with the gradient."""
    x = np.random.default_rng(0).normal(size=shape).astype("float32")
    backend, tables = keras.backend.backend(), []
    modes = {", graph": False, ", XLA": True} if backend == "tensorflow" else {"": None}
    for (mode, xla), has_gradient in itertools.product(modes.items(), (False, True)):
        steps = {name: make_step(drop, x, has_gradient, xla) for name, drop in contestants(rate).items()}
        seconds = contest.take_turns(steps, rounds)
        title = f"{backend}{mode}, rate {rate:g}, {'with gradient' if has_gradient else 'forward'}"
        tables.append(contest.table(title, seconds, [name for name in steps if name != "keras_tfm"]))
    return "\n".join(tables)


def main():
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--rate", type=float, default=0.1)
    parser.add_argument("--rounds", type=int, default=15)
    parser.add_argument("--write", action="store_true", help="append to benchmarks/results")
    arguments = parser.parse_args()
    tables = report(SHAPE, arguments.rate, arguments.rounds)
    print(tables)
    if arguments.write:
        contest.write("dropout", "Dropout", tables)


if __name__ == "__main__":
    main()
