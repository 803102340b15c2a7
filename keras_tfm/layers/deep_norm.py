"""DeepNorm: a residual for post-norm stacks of a thousand blocks."""

import keras

from keras_tfm.layers.residual import Residual


@keras.saving.register_keras_serializable(package="keras_tfm")
class DeepNorm(Residual):
    """Weighs the residual stream more than an update, `α · x + f(x)`, and starts the updates smaller, by β.

    The block's post-norm follows the sum. A block multiplies by β the initial kernels of its values, of its attention
    outputs and of its feed-forward network. Stacks fill both constants in for `residual="deepnorm"`; the encoder of an
    encoder-decoder model needs those of `DeepNorm.of_encoder`, as they depend on both depths.

    Args:
        alpha: α, factor on the residual stream.
        beta: β, factor on the initial kernels.
        **kwargs: `keras.layers.Layer` arguments.

    Call arguments:
        inputs, update: float `[B, T, D]`.

    Returns:
        float `[B, T, D]`.

    Reference:
        Wang et al. 2022, "DeepNet: Scaling Transformers to 1,000 Layers", figure 2 (the table of constants).

    Example:

    >>> round(DeepNorm.of_decoder(num_layers=100).alpha, 3)
    3.761
    """

    def __init__(self, alpha, beta, **kwargs):
        super().__init__(**kwargs)
        for argument, value in (("alpha", alpha), ("beta", beta)):
            if not value > 0:
                raise ValueError(f"`{argument}` must be positive. Received: {argument}={value!r}")
        self.alpha = alpha
        self.beta = beta

    @classmethod
    def of_encoder(cls, num_layers, num_decoder_layers=None, **kwargs):
        """The constants of an encoder of `num_layers` blocks, alone or before a decoder of `num_decoder_layers`."""
        if num_decoder_layers is None:
            return cls((2 * num_layers) ** 0.25, (8 * num_layers) ** -0.25, **kwargs)
        depth = (num_layers**4 * num_decoder_layers) ** (1 / 16)
        return cls(0.81 * depth, 0.87 / depth, **kwargs)

    @classmethod
    def of_decoder(cls, num_layers, has_encoder=False, **kwargs):
        """The constants of a decoder of `num_layers` blocks, alone or after an encoder."""
        if not has_encoder:
            return cls((2 * num_layers) ** 0.25, (8 * num_layers) ** -0.25, **kwargs)
        return cls((3 * num_layers) ** 0.25, (12 * num_layers) ** -0.25, **kwargs)

    @property
    def initial_gain(self):
        """β, what a block multiplies its initial kernels by."""
        return self.beta

    def call(self, inputs, update):
        """Adds the update to `alpha` times the stream."""
        return inputs * keras.ops.cast(self.alpha, inputs.dtype) + update

    def get_config(self):
        """The constructor's arguments."""
        return {**super().get_config(), "alpha": self.alpha, "beta": self.beta}
