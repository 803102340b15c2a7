"""Activations by name: Keras' own, and what it has no name for."""

import keras
from keras import ops


@keras.saving.register_keras_serializable(package="keras_tfm")
def gelu_tanh(x):
    """GELU by its tanh approximation, as GPT-2, T5 1.1 and Gemma have it; `"gelu"` is the exact one.

    Reference:
        Hendrycks & Gimpel 2016, section 2.

    Example:

    >>> round(float(gelu_tanh(1.0)), 4)
    0.8412
    """
    return ops.gelu(x, approximate=True)


ACTIVATIONS = {"gelu_tanh": gelu_tanh}


def get_activation(identifier):
    """A function from its name (one of `ACTIVATIONS` or of Keras'), its config, itself, or `None` for none."""
    is_ours = isinstance(identifier, str) and identifier in ACTIVATIONS
    return ACTIVATIONS[identifier] if is_ours else keras.activations.get(identifier)
