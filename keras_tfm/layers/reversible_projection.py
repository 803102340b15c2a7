"""A linear map that also goes back, by its transpose."""

import keras
from keras import ops


@keras.saving.register_keras_serializable(package="keras_tfm")
class ReversibleProjection(keras.layers.Layer):
    """`x W + b`, and with `reverse=True` `x Wᵀ`: from the narrow tables of a factorized embedding to D and back.

    Args:
        units: D, size of the output.
        kernel_initializer, bias_initializer: of the weights.
        **kwargs: `keras.layers.Layer` arguments.

    Call arguments:
        inputs: float `[..., E]`; with `reverse=True` `[..., D]`.
        reverse: go back. Defaults to `False`.

    Returns:
        float `[..., D]`; with `reverse=True` `[..., E]`.

    Reference:
        Lan et al. 2020, ALBERT, section 3.1.

    Example:

    >>> import keras
    >>> layer = ReversibleProjection(units=8)
    >>> x = layer(keras.random.normal((2, 5, 3)))
    >>> tuple(x.shape), tuple(layer(x, reverse=True).shape)
    ((2, 5, 8), (2, 5, 3))
    """

    def __init__(self, units, kernel_initializer="glorot_uniform", bias_initializer="zeros", **kwargs):
        super().__init__(**kwargs)
        self.supports_masking = True
        self.units = units
        self.kernel_initializer = keras.initializers.get(kernel_initializer)
        self.bias_initializer = keras.initializers.get(bias_initializer)

    def build(self, input_shape):
        """Makes the weights for inputs `[..., E]`."""
        self.kernel = self.add_weight(
            name="kernel", shape=(input_shape[-1], self.units), initializer=self.kernel_initializer
        )
        self.bias = self.add_weight(name="bias", shape=(self.units,), initializer=self.bias_initializer)

    def call(self, inputs, reverse=False):
        """Maps vectors, there or back."""
        if reverse:
            return ops.matmul(inputs, ops.transpose(self.kernel))
        return ops.matmul(inputs, self.kernel) + self.bias

    def compute_output_spec(self, inputs, reverse=False):
        """float `[..., D]`, or `[..., E]` if reversed."""
        size = self.kernel.shape[0] if reverse else self.units
        return keras.KerasTensor((*inputs.shape[:-1], size), dtype=self.compute_dtype)

    def get_config(self):
        """The constructor's arguments."""
        return {
            **super().get_config(),
            "units": self.units,
            "kernel_initializer": keras.initializers.serialize(self.kernel_initializer),
            "bias_initializer": keras.initializers.serialize(self.bias_initializer),
        }
