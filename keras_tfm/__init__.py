"""Transformer layers for Keras 3 that run unchanged on JAX, TensorFlow and PyTorch."""

import importlib

from keras_tfm.backend.selection import choose_backend

choose_backend()

from keras_tfm import (  # noqa: E402
    generation,
    layers,
    models,
    ops,
    training,
)
from keras_tfm.version import __version__  # noqa: E402

__all__ = [
    "__version__",
    "generation",
    "inspection",
    "layers",
    "models",
    "ops",
    "testing",
    "text",
    "training",
    "visualization",
]

_LATER = ("inspection", "testing", "text", "visualization")  # rooms without classes that saved files name


def __getattr__(name):
    if name not in _LATER:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    return importlib.import_module(f"{__name__}.{name}")
