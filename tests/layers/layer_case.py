"""LayerCase: a layer, how it is called, and what it does not promise."""

import dataclasses
from collections.abc import Callable
from typing import Any

import keras
from keras import ops

from tests.numerics import randomize


@dataclasses.dataclass(frozen=True)
class LayerCase:
    """A layer, how it is called, and what it does not promise.

    Args:
        make: function of `keras.layers.Layer`'s arguments that returns the layer.
        inputs: the positional arguments of the call: arrays, lists of arrays, or `None`.
        keywords: further arrays, by argument. All arrays have the batch as first axis.
        options: arguments that are no arrays, by name.
        output_dtype: of the float outputs, where it is not the compute dtype: one, or one for each output.
        passes_mask: whether the first output carries the mask of the first input; `None` if that can have none.
        own_mask: a mask that the layer makes itself, joined to that of the input.
        trains: whether gradients pass; on TensorFlow none pass the writing of a cache.
        zero_gradients: parts of the paths of weights that no output depends on.
        unused: arguments that are taken for compatibility and not read, or not in the config.
        tolerance: factor on the tolerance of reduced precision.
        int8_error: largest relative error of the outputs in int8.
        dynamo: whether `torch.compile` is tried, which takes its time.
    """

    make: Callable
    inputs: tuple
    keywords: dict = dataclasses.field(default_factory=dict)
    options: dict = dataclasses.field(default_factory=dict)
    output_dtype: Any = None
    passes_mask: bool | None = True
    own_mask: Any = None
    trains: bool = True
    zero_gradients: tuple = ()
    unused: tuple = ()
    tolerance: float = 2.0
    int8_error: float = 0.3
    dynamo: bool = False

    def arguments(self, convert=ops.convert_to_tensor):
        """`(inputs, keywords)`, each array converted."""
        return _map(convert, self.inputs), _map(convert, self.keywords)

    def call(self, layer, arguments=None, **others):
        """The outputs of the layer, flat."""
        inputs, keywords = self.arguments() if arguments is None else arguments
        return keras.tree.flatten(layer(*inputs, **keywords, **self.options, **others))

    def built(self, **arguments):
        """A fresh layer, built by a symbolic call, and every weight random."""
        layer = self.make(**arguments)
        self.call(layer, self.arguments(lambda x: keras.KerasTensor(x.shape, dtype=str(x.dtype))))
        return randomize(layer)

    def model(self, layer, outputs=slice(None)):
        """A Functional model of the layer with as many unknown sizes as it may have, and the arrays to call it with."""
        inputs, keywords = self.arguments(lambda x: keras.Input(dynamic_shape(x)[1:], dtype=str(x.dtype)))
        symbols = [x for x in keras.tree.flatten((inputs, keywords)) if x is not None]
        arrays = [x for x in keras.tree.flatten((self.inputs, self.keywords)) if x is not None]
        return keras.Model(symbols, self.call(layer, (inputs, keywords))[outputs]), arrays


def dynamic_shape(array):
    """The shape with unknown sizes: the batch and the length of vectors, and every axis of ids and masks."""
    if array.dtype.kind != "f":
        return (None,) * array.ndim
    return tuple(None if axis < min(2, array.ndim - 1) else size for axis, size in enumerate(array.shape))


def _map(function, structure):
    return keras.tree.map_structure(lambda x: None if x is None else function(x), structure)
