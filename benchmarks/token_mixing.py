"""The rows of the paper's table 1 as layers, and how far each carries a gradient."""

import keras
import numpy as np
from keras import ops

from benchmarks.layer_step import gradient, make_step, peak_of
from keras_tfm import layers
from keras_tfm import ops as attention_ops

KERNEL_SIZE, RESTRICTION = 3, 32
PATH_WIDTH, PATH_RESTRICTION = 4, 4


class Attention(keras.layers.Layer):
    """Self-attention of one head without projections, by one kernel.

    Args:
        kernel: its name.
        window: tokens nearer than this are seen; `None` for all.
    """

    def __init__(self, kernel, window=None):
        super().__init__()
        self.kernel, self.window = kernel, window

    def call(self, x):
        """From `[B, T, D]` to the same."""
        heads = ops.expand_dims(x, 2)
        with attention_ops.use_kernel(self.kernel):
            outputs, _ = attention_ops.attention(heads, heads, heads, attention_ops.AttentionMask(window=self.window))
        return ops.squeeze(outputs, 2)


def _kernel_without_scores():
    return "torch_sdpa" if keras.backend.backend() == "torch" else "block"


ROWS = {  # name: (layer, the paper's complexity, its exponents of length and width)
    "self-attention": (lambda: Attention("reference"), "O(n² d)", (2, 1)),
    "self-attention, scores not held": (lambda: Attention(_kernel_without_scores()), "O(n² d)", (2, 1)),
    f"restricted, r = {RESTRICTION}": (lambda: Attention("sliding_window", RESTRICTION), "O(r n d)", (1, 1)),
    "recurrent": (lambda: layers.RecurrentMixer("lstm", bidirectional=False), "O(n d²)", (1, 2)),
    f"convolutional, k = {KERNEL_SIZE}": (lambda: layers.ConvolutionalMixer(KERNEL_SIZE), "O(k n d²)", (1, 2)),
    f"separable, k = {KERNEL_SIZE}": (
        lambda: layers.ConvolutionalMixer(KERNEL_SIZE, convolution="separable"),
        "O(k n d + n d²)",
        (1, 2),
    ),
}


def built(layer, width):
    """The layer, built for inputs of a width."""
    layer.build((None, None, width))
    layer.built = True
    return layer


def step_of(name, length, width):
    """A function that runs a row's layer forward and backward."""
    x = np.random.default_rng(0).normal(size=(1, length, width)).astype("float32")
    return make_step(built(ROWS[name][0](), width), x)


def peak(name, length, width):
    """MiB that a row's step needs, in a process of its own."""
    step_of(name, 256, 8)()  # loads what first calls load
    return peak_of(step_of(name, length, width)) / 2**20


def _repeated(make):
    """Layers on top of each other, the l-th made by `make(l)`."""

    def stack(depth):
        chain = [built(make(depth), PATH_WIDTH) for depth in range(depth)]

        def call(x):
            for layer in chain:
                x = layer(x)
            return x

        return call

    return stack


def _recurrence(depth):
    """`depth` steps of an LSTM for all tokens at once: a step takes the state of the token before it."""
    cell = built(keras.layers.LSTMCell(PATH_WIDTH), PATH_WIDTH)

    def call(x):
        tokens = ops.reshape(x, (-1, PATH_WIDTH))
        states = [ops.zeros_like(tokens)] * 2
        for _ in range(depth):
            _, states = cell(tokens, [ops.pad(state[:-1], ((1, 0), (0, 0))) for state in states])
        return ops.reshape(states[0], x.shape)

    return call


PATHS = {  # name: (function of a depth that gives a function of x [1, n, d], sequential operations, the paper's path)
    "self-attention": (_repeated(lambda depth: Attention("reference")), "O(1)", "O(1)"),
    f"restricted, r = {PATH_RESTRICTION}": (
        _repeated(lambda depth: Attention("reference", PATH_RESTRICTION)),
        "O(1)",
        "O(n / r)",
    ),
    "recurrent": (_recurrence, "O(n)", "O(n)"),
    f"convolutional, k = {KERNEL_SIZE}": (
        _repeated(lambda depth: layers.ConvolutionalMixer(KERNEL_SIZE, padding="causal")),
        "O(1)",
        "O(n / k)",
    ),
    f"dilated, k = {KERNEL_SIZE}": (
        _repeated(
            lambda depth: layers.ConvolutionalMixer(KERNEL_SIZE, padding="causal", dilation_rate=KERNEL_SIZE**depth)
        ),
        "O(1)",
        "O(log_k n)",
    ),
}


def path_length(name, length):
    """The smallest depth at which the last of n outputs has a gradient with respect to the first input."""
    low, high = 0, 1  # no gradient at `low`
    while not _reaches(name, length, high):
        low, high = high, 2 * high
        if low > length:
            raise ArithmeticError(f"The gradient of {name} never reaches over {length} tokens")
    while high - low > 1:
        middle = (low + high) // 2
        low, high = (low, middle) if _reaches(name, length, middle) else (middle, high)
    return high


def _reaches(name, length, depth):
    keras.utils.set_random_seed(0)
    x = np.random.default_rng(0).normal(size=(1, length, PATH_WIDTH)).astype("float32")
    call = PATHS[name][0](depth)
    return bool(np.any(gradient(lambda x: call(x)[:, -1], x)[:, 0]))
