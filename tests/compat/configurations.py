"""Configurations of `MultiHeadAttention`, and an original and ours of each."""

import keras

from keras_tfm.layers import MultiHeadAttention
from tests.compat.pairs import normal, pair

Original = keras.layers.MultiHeadAttention

B, T, S = 2, 5, 7

# name: (constructor arguments, shape of the query, shape of the value, shape of the key)
CONFIGURATIONS = {
    "self": ({}, (B, T, 11), (B, T, 11), None),
    "cross": ({}, (B, T, 11), (B, S, 13), None),
    "own key": ({}, (B, T, 11), (B, S, 13), (B, S, 3)),
    "value_dim": ({"value_dim": 6}, (B, T, 11), (B, S, 13), None),
    "output_shape int": ({"output_shape": 9}, (B, T, 11), (B, S, 13), None),
    "output_shape tuple": ({"output_shape": (4, 9)}, (B, T, 11), (B, S, 13), None),
    "no bias": ({"use_bias": False}, (B, T, 11), (B, S, 13), None),
    "gate": ({"use_gate": True, "value_dim": 6}, (B, T, 11), (B, S, 13), None),
    "window": ({"sliding_window": 2}, (B, T, 11), (B, T, 11), None),
    "dropout": ({"dropout": 0.4}, (B, T, 11), (B, S, 13), None),
    "all axes of images": ({}, (B, 3, 4, 11), (B, 2, 5, 13), None),
    "rows of images": ({"attention_axes": (2,)}, (B, 3, 4, 11), (B, 3, 5, 11), None),
    "columns of images": ({"attention_axes": 1, "use_gate": True}, (B, 3, 4, 11), (B, 5, 4, 11), None),
    "last axis, negative": ({"attention_axes": -2}, (B, 3, 4, 11), (B, 3, 5, 11), None),
    "two of three axes": ({"attention_axes": (2, 3), "value_dim": 6}, (B, 2, 3, 4, 7), (B, 2, 4, 3, 7), None),
    "first and last axis": ({"attention_axes": (1, 3)}, (B, 2, 3, 4, 7), (B, 5, 3, 2, 7), None),
}


def inputs_of(query_shape, value_shape, key_shape):
    """Random arrays, distinct though the shapes may be equal."""
    given = [query_shape, value_shape, key_shape]
    return [normal(*shape, seed=seed) for seed, shape in enumerate(given) if shape is not None]


def made(name):
    """`(original, ours, inputs)` of a configuration."""
    arguments, *given = CONFIGURATIONS[name]
    given = [shape for shape in given if shape is not None]
    original, ours = pair(Original, MultiHeadAttention, *given, num_heads=2, key_dim=3, **arguments)
    return original, ours, inputs_of(*CONFIGURATIONS[name][1:])
