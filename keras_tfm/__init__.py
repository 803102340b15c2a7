"""Transformer layers for Keras 3 that run unchanged on JAX, TensorFlow and PyTorch."""

from keras_tfm.backend.selection import choose_backend

choose_backend()

from keras_tfm import (  # noqa: E402
    generation,
    inspection,
    layers,
    models,
    ops,
    testing,
    text,
    training,
    visualization,
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
