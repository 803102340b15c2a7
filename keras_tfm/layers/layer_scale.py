"""LayerScale: a residual with a trained weight for each feature of the update."""

import keras

from keras_tfm.layers.residual import Residual


@keras.saving.register_keras_serializable(package="keras_tfm")
class LayerScale(Residual):
    """Adds an update times a trained vector that starts small: `x + γ ⊙ f(x)`.

    Args:
        initial_value: of every entry of γ. The paper has 0.1 for up to 18 blocks, 1e-5 for up to 24 and 1e-6 for more.
            Defaults to 0.1. With `trainable=False` a constant factor, as Granite's residual multiplier.
        **kwargs: `keras.layers.Layer` arguments.

    Call arguments:
        inputs, update: float `[B, T, D]`.

    Returns:
        float `[B, T, D]`.

    Reference:
        Touvron et al. 2021, "Going deeper with Image Transformers", equation 4.

    Example:

    >>> import keras
    >>> x = keras.ops.ones((1, 2, 3))
    >>> round(keras.ops.convert_to_numpy(LayerScale()(x, x)).max().item(), 4)
    1.1
    """

    def __init__(self, initial_value=0.1, **kwargs):
        super().__init__(**kwargs)
        self.initial_value = initial_value

    def build(self, inputs_shape, update_shape=None):
        """Makes the weight."""
        self.gamma = self.add_weight(
            name="gamma", shape=(inputs_shape[-1],), initializer=keras.initializers.Constant(self.initial_value)
        )

    def call(self, inputs, update):
        """Adds the update times `gamma`."""
        return inputs + self.gamma * update

    def get_config(self):
        """The constructor's arguments."""
        return {**super().get_config(), "initial_value": self.initial_value}
