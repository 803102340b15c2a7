"""ReZero: a residual whose updates start at zero."""

import keras

from keras_tfm.layers.residual import Residual


@keras.saving.register_keras_serializable(package="keras_tfm")
class ReZero(Residual):
    """Adds an update times one trained number that starts at zero: `x + α · f(x)`.

    Every block is the identity at first, so deep stacks train without normalization (`normalization="none"`).

    Args:
        **kwargs: `keras.layers.Layer` arguments.

    Call arguments:
        inputs, update: float `[B, T, D]`.

    Returns:
        float `[B, T, D]`.

    Reference:
        Bachlechner et al. 2020, "ReZero is All You Need", equation 4.

    Example:

    >>> import keras
    >>> x = keras.ops.ones((1, 2, 3))
    >>> keras.ops.convert_to_numpy(ReZero()(x, x)).max().item()
    1.0
    """

    def build(self, inputs_shape, update_shape=None):
        """Makes the weight."""
        self.alpha = self.add_weight(name="alpha", shape=(), initializer="zeros")

    def call(self, inputs, update):
        """Adds the update times `alpha`."""
        return inputs + self.alpha * update
