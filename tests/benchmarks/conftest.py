"""What keeps the tiny runs short."""

import sys

import keras
import pytest

from benchmarks import encoders


@pytest.fixture
def few_peers(monkeypatch):
    """Hides the peers where each of their operations is a program to compile; PyTorch runs them all."""
    if keras.backend.backend() != "torch":
        monkeypatch.setitem(sys.modules, "keras_hub", None)
        monkeypatch.setattr(encoders, "keras_layers", missing)


def missing(*arguments):
    """As a contestant whose package is not installed."""
    raise ModuleNotFoundError("hidden by the test")
