"""The products of matrices of a step alone, as the backend multiplies them: where gains around them end.

Each product runs as often as the step needs it, one after the other, on operands that are there; a training step has
two more of each, for the gradients of its operands. There is nothing else: no softmax, no norm, no sum, no optimizer.
What runs several products at once may be a little faster.
"""

from typing import NamedTuple

import keras
import numpy as np

from benchmarks.steps import Steps


class Product(NamedTuple):
    """`times` products of `[*, rows, inner]` and `[*, inner, columns]`, for each of a batch unless it is `None`."""

    rows: int
    inner: int
    columns: int
    times: int
    batch: int | None = None

    @property
    def flops(self):
        """Operations of all of them, forward."""
        return 2 * self.times * (self.batch or 1) * self.rows * self.inner * self.columns

    def operands(self):
        """Left, right, and a gradient of the result, in the dtype that Keras' policy computes in."""
        shapes = (self.rows, self.inner), (self.inner, self.columns), (self.rows, self.columns)
        lead = () if self.batch is None else (self.batch,)
        arrays = [np.random.default_rng(0).standard_normal((*lead, *shape), "float32") for shape in shapes]
        return [keras.ops.convert_to_tensor(x, keras.config.dtype_policy().compute_dtype) for x in arrays]


def of_encoder(setting):
    """The products of encoder blocks and a Dense layer."""
    tokens, width, depth = setting.num_tokens, setting.width, setting.num_layers
    length, head_dim = setting.length, setting.width // setting.num_heads
    rows = setting.batch_size * setting.num_heads
    return [
        Product(tokens, width, width, 4 * depth),  # queries, keys, values, output
        Product(length, head_dim, length, depth, rows),
        Product(length, length, head_dim, depth, rows),
        Product(tokens, width, setting.intermediate_dim, depth),
        Product(tokens, setting.intermediate_dim, width, depth),
        Product(tokens, width, setting.num_outputs, 1),
    ]


def steps_of(products):
    """`Steps` of these products."""
    forward, of_left, of_right = _multiply()
    made = [(each.times, each.operands()) for each in products]

    def predict():
        for times, (left, right, _) in made:
            for _ in range(times):
                result = forward(left, right)
            _wait(result)

    def train():
        predict()
        for times, (left, right, upstream) in made:
            for _ in range(times):
                results = of_left(upstream, right), of_right(left, upstream)
            _wait(results)

    return Steps(train, predict)


def _multiply():
    """The backend's products: of two matrices, of one and another turned, of one turned and another."""
    backend = keras.backend.backend()
    if backend == "tensorflow":
        import tensorflow as tf

        return (
            tf.matmul,
            lambda a, b: tf.matmul(a, b, transpose_b=True),
            lambda a, b: tf.matmul(a, b, transpose_a=True),
        )
    functions = (lambda a, b: a @ b), (lambda a, b: a @ b.mT), (lambda a, b: a.mT @ b)
    if backend == "jax":
        import jax

        return tuple(jax.jit(function) for function in functions)
    return functions


def _wait(results):
    """Until they are computed; PyTorch on a CPU and TensorFlow's eager products there have been."""
    if keras.backend.backend() == "jax":
        import jax

        jax.block_until_ready(results)
    elif keras.backend.backend() == "torch":
        import torch

        if torch.cuda.is_available():
            torch.cuda.synchronize()
