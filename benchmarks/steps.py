"""A training step and a prediction of a model of Keras or PyTorch on one batch, as their users write them."""

import contextlib
import warnings
from collections.abc import Callable
from typing import NamedTuple

import keras


class Setting(NamedTuple):
    """Sizes of a model and of its batch: a vocabulary if it reads ids, a number of outputs if it reads features."""

    num_layers: int
    width: int
    intermediate_dim: int
    num_heads: int
    batch_size: int
    length: int
    vocabulary_size: int = 8000
    num_outputs: int = 17
    jit_compile: bool | str = "auto"

    @property
    def num_tokens(self):
        """Places of a batch."""
        return self.batch_size * self.length


class Steps(NamedTuple):
    """What is timed: functions without arguments that wait for their result."""

    train: Callable
    predict: Callable


def of_keras(model, loss, inputs, targets, jit_compile="auto"):
    """Of a Keras model with Adam: `train_on_batch` and `predict_on_batch`.

    Args:
        model: a Keras model.
        loss: a Keras loss or its name.
        inputs, targets: arrays, in any structure that the model takes.
        jit_compile: as `compile` takes it; `"auto"` is no XLA where TensorFlow has only a CPU.
    """
    model.compile(keras.optimizers.Adam(1e-3), loss, jit_compile=jit_compile)
    if keras.backend.backend() == "torch":
        inputs, targets = to_torch((inputs, targets))
    return Steps(lambda: model.train_on_batch(inputs, targets), lambda: model.predict_on_batch(inputs))


def of_torch(module, loss, inputs, targets):
    """Of a PyTorch module with Adam, under autocast where Keras' policy is `mixed_bfloat16`.

    Args:
        module: a PyTorch module, called with the inputs.
        loss: function of outputs and targets.
        inputs, targets: a list of arrays and an array.
    """
    import torch

    warnings.filterwarnings("ignore", "The PyTorch API of nested tensors is in prototype stage", UserWarning)
    module = module.to(torch_device())
    optimizer = torch.optim.Adam(module.parameters(), 1e-3)
    inputs, targets = to_torch((inputs, targets))

    def precision():
        if keras.config.dtype_policy().name != "mixed_bfloat16":
            return contextlib.nullcontext()
        return torch.autocast(torch_device(), torch.bfloat16)

    def train():
        module.train()
        optimizer.zero_grad()
        with precision():
            value = loss(module(*inputs), targets)
        value.backward()
        optimizer.step()
        return float(value.detach())

    def predict():
        module.eval()
        with torch.no_grad(), precision():
            return module(*inputs).float().cpu().numpy()

    return Steps(train, predict)


def torch_device():
    """Where Keras computes with PyTorch unless told otherwise."""
    import torch

    return "cuda" if torch.cuda.is_available() else "cpu"


def to_torch(arrays):
    """The arrays of a structure as tensors on the device."""
    import torch

    return keras.tree.map_structure(lambda array: torch.as_tensor(array, device=torch_device()), arrays)
