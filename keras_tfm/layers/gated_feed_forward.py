"""The feed-forward network with a gate: SwiGLU and its kin."""

import keras

from keras_tfm.layers.feed_forward import FeedForward

GATED_ACTIVATIONS = {"bilinear": "linear", "glu": "sigmoid", "reglu": "relu", "geglu": "gelu", "swiglu": "silu"}


@keras.saving.register_keras_serializable(package="keras_tfm")
class GatedFeedForward(FeedForward):
    """A feed-forward network whose inner features are multiplied by a gate: `(act(x W_g) · x W₁) W₂`.

    The activation makes its name: `"silu"` is SwiGLU (Llama), `"gelu"` GeGLU, `"gelu_tanh"` that of Gemma and T5 1.1,
    `"relu"` ReGLU, `"sigmoid"` the original gated linear unit, `"linear"` the bilinear one. Blocks know them as
    `feed_forward="swiglu"` and so on. With three kernels in place of two, 2/3 of F keeps the number of weights.

    Args:
        intermediate_dim: F, the size of the gate and of what it is multiplied with.
        activation: of the gate. Defaults to `"silu"`.
        dropout, kernel_initializer, bias_initializer, use_bias, output_dim, seed: as `FeedForward` has them.
        **kwargs: `keras.layers.Layer` arguments.

    Call arguments:
        inputs: float `[..., D]`.
        training: whether dropout applies.

    Returns:
        float `[..., D]`, or `[..., output_dim]`.

    Masking:
        Passes the mask of its input on.

    Reference:
        Shazeer 2020, "GLU Variants Improve Transformer", equation 6.

    Example:

    >>> import keras
    >>> layer = GatedFeedForward(intermediate_dim=32, use_bias=False)
    >>> tuple(layer(keras.random.normal((2, 5, 8))).shape), len(layer.weights)
    ((2, 5, 8), 3)
    """

    def __init__(self, intermediate_dim, activation="silu", dropout=0.0, **kwargs):
        super().__init__(intermediate_dim, activation, dropout, **kwargs)

    def build(self, input_shape):
        """Makes the three dense layers for inputs `[..., D]`."""
        self.gate_dense = self._dense(input_shape, self.intermediate_dim, "gate_dense", self.activation)
        super().build(input_shape)

    @property
    def _intermediate_activation(self):
        return None

    def call(self, inputs, training=None):
        """Applies the network to every position."""
        return self._project(self.gate_dense(inputs) * self.intermediate_dense(inputs), training)
