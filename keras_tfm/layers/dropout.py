"""Keras' dropout, drawn at almost no cost."""

import keras

from keras_tfm.layers.direct_calls import DirectCalls
from keras_tfm.ops.dropout import dropout


@keras.saving.register_keras_serializable(package="keras_tfm")
class Dropout(DirectCalls, keras.layers.Dropout):
    """`keras.layers.Dropout` with the mask of `keras_tfm.ops.dropout`: a hash that compilers fuse into its use.

    Args:
        rate: probability in [0, 1] of an element to be set to zero in training.
        noise_shape: shape of a mask that is broadcast, drawn as Keras draws it; `None` for one of the inputs' shape.
        seed: seed of the draws.
        **kwargs: `keras.layers.Layer` arguments.

    Call arguments:
        inputs: float `[...]`.
        training: whether elements are dropped.

    Returns:
        As the inputs.

    Masking:
        Passes the mask of its input on.

    Reference:
        Srivastava et al. 2014, "Dropout: A Simple Way to Prevent Neural Networks from Overfitting".

    Example:

    >>> import keras
    >>> layer = Dropout(0.5)
    >>> keras.ops.convert_to_numpy(layer(keras.ops.ones((1, 3)))).tolist()  # not in training
    [[1.0, 1.0, 1.0]]
    """

    first_weight, reads_training = None, True

    def call(self, inputs, training=False):
        """Drops elements if `training`."""
        if not training or self.rate == 0:
            return inputs
        if self.noise_shape is not None:
            return super().call(inputs, training=training)
        return dropout(inputs, self.rate, self.seed_generator)
