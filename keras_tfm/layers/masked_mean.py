"""One vector out of many: the mean over what is real."""

import keras
from keras import ops

from keras_tfm import backend


@keras.saving.register_keras_serializable(package="keras_tfm")
class MaskedMean(keras.layers.Layer):
    """The mean over real tokens.

    Call arguments:
        inputs: float `[B, T, D]`.
        mask: bool `[B, T]`, True at real tokens; filled from the inputs' implicit mask.

    Returns:
        float `[B, D]`; zeros for a sequence without real tokens.

    Masking:
        The mask ends here: the output has no axis it could speak of.

    Example:

    >>> import keras
    >>> x = keras.ops.convert_to_tensor([[[1.0], [3.0], [9.0]]])
    >>> mask = keras.ops.convert_to_tensor([[True, True, False]])
    >>> float(MaskedMean()(x, mask=mask)[0, 0])
    2.0
    """

    def __init__(self, **kwargs):
        super().__init__(**kwargs)
        self.supports_masking = True
        self.built = True

    def call(self, inputs, mask=None):
        """Averages over axis 1."""
        if mask is None:
            return ops.mean(inputs, axis=1)
        mask = ops.expand_dims(mask, -1)
        real = backend.zeroed(inputs, mask)  # 0 · NaN would be NaN
        return ops.sum(real, axis=1) / ops.maximum(ops.sum(ops.cast(mask, inputs.dtype), axis=1), 1)

    def compute_mask(self, inputs, mask=None):
        """No mask: one vector a sequence."""
        return None

    def compute_output_shape(self, input_shape):
        """`[B, D]`."""
        return (input_shape[0], input_shape[2])

    def get_config(self):
        """The constructor's arguments, a `DTypePolicy` too; Keras' automatic configuration refuses one."""
        return super().get_config()
