"""Gives vectors a padding mask, as an embedding gives one to ids."""

import keras
from keras import ops

from keras_tfm.layers.attention_masks import all_of


@keras.saving.register_keras_serializable(package="keras_tfm")
class AttachMask(keras.layers.Layer):
    """Returns its first input unchanged, carrying the second as its implicit mask.

    Call arguments:
        inputs: a list of float `[B, T, D]` and bool `[B, T]`, True at real steps.

    Returns:
        float `[B, T, D]`.

    Masking:
        What follows sees the mask: attention, losses and metrics.

    Example:

    >>> import keras
    >>> frames, real = keras.Input((None, 8)), keras.Input((None,), dtype="bool")
    >>> masked = AttachMask()([frames, real])
    >>> tuple(masked.shape)
    (None, None, 8)
    """

    def __init__(self, **kwargs):
        super().__init__(**kwargs)
        self.supports_masking = True
        self.built = True

    def call(self, inputs):
        """Returns the first of the inputs."""
        return ops.copy(inputs[0])

    def compute_mask(self, inputs, previous_mask=None):
        """The second of the inputs, and the mask that the first carries already."""
        return all_of([previous_mask and previous_mask[0], ops.cast(inputs[1], "bool")])

    def compute_output_shape(self, input_shape):
        """As the first of the inputs."""
        return tuple(input_shape[0])

    def get_config(self):
        """The constructor's arguments, a `DTypePolicy` too; Keras' automatic configuration refuses one."""
        return super().get_config()
