"""The residual connection: what a sub-layer computes is added to what it read."""

import keras


@keras.saving.register_keras_serializable(package="keras_tfm")
class Residual(keras.layers.Layer):
    """Adds a sub-layer's update to the residual stream: `x + f(x)`.

    Base class of those that weigh the two. A block takes one by `residual=`, copies it for each of its sub-layers, and
    calls it where the sum would stand.

    Args:
        **kwargs: `keras.layers.Layer` arguments.

    Call arguments:
        inputs: float `[B, T, D]`, the residual stream.
        update: float `[B, T, D]`, what the sub-layer computed.

    Returns:
        float `[B, T, D]`.

    Masking:
        The mask of the inputs goes on to the output.

    Reference:
        He et al. 2016, "Deep Residual Learning", equation 1.

    Example:

    >>> import keras
    >>> x = keras.ops.ones((1, 2, 3))
    >>> float(Residual()(x, x)[0, 0, 0])
    2.0
    """

    initial_gain = 1.0  # factor on the initial kernels of values, attention outputs and feed-forward networks

    def __init__(self, **kwargs):
        super().__init__(**kwargs)
        self.supports_masking = True
        self.built = type(self).build is keras.layers.Layer.build

    def call(self, inputs, update):
        """Adds the two."""
        return inputs + update

    def compute_output_shape(self, inputs_shape, update_shape=None):
        """As the inputs."""
        return tuple(inputs_shape)
