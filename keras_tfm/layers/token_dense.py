"""Keras' dense layers, computed as one product of matrices over all tokens."""

import keras

from keras_tfm.layers.direct_calls import DirectCalls
from keras_tfm.ops.linear import linear


class TokenDense(DirectCalls, keras.layers.Dense):
    """`keras.layers.Dense`, with the arguments, weights, quantization and LoRA of Keras' layer."""

    num_input_axes = 1

    def call(self, inputs, training=None):
        """Maps `[..., D]` to `[..., units]`."""
        return linear(inputs, self.kernel, self.bias, activation=self.activation)

    def quantize(self, mode=None, type_check=True, config=None):
        """Quantizes the weights, as Keras' layer does."""
        super().quantize(mode, type_check=False, config=config)  # Keras' class refuses subclasses


class TokenEinsumDense(DirectCalls, keras.layers.EinsumDense):
    """`keras.layers.EinsumDense` for kernels `[*inputs, *outputs]` whose inputs are the last axes of what is mapped.

    Args:
        equation: as Keras has it, `...x,xyz->...yz` or `...yz,yzx->...x`.
        **kwargs: as Keras has them.
    """

    def __init__(self, equation, **kwargs):
        super().__init__(equation, **kwargs)
        _, kernel, outputs = equation.replace("->", ",").split(",")
        self.num_input_axes = sum(letter not in outputs for letter in kernel)

    def call(self, inputs, training=None):
        """Maps `[..., *inputs]` to `[..., *outputs]`."""
        return linear(inputs, self.kernel, self.bias, self.num_input_axes, self.activation)

    def quantize(self, mode=None, type_check=True, config=None):
        """Quantizes the weights, as Keras' layer does."""
        super().quantize(mode, type_check=False, config=config)  # Keras' class refuses subclasses
