"""The position-wise feed-forward network."""

import keras

from keras_tfm.layers.activations import get_activation
from keras_tfm.layers.direct_calls import DirectCalls
from keras_tfm.layers.dropout import Dropout
from keras_tfm.layers.parts import clone_initializer
from keras_tfm.layers.token_dense import TokenDense


@keras.saving.register_keras_serializable(package="keras_tfm")
class FeedForward(DirectCalls, keras.layers.Layer):
    """Two dense layers with an activation between them, applied to every position alike: `act(x W₁ + b₁) W₂ + b₂`.

    Args:
        intermediate_dim: F, the size between the two layers.
        activation: name or function; `"gelu"` is the exact one, `"gelu_tanh"` its approximation. Defaults to
            `"relu"`.
        dropout: rate in [0, 1] on the activations. Defaults to 0.
        kernel_initializer: for all kernels. Defaults to `"glorot_uniform"`.
        bias_initializer: for all biases. Defaults to `"zeros"`.
        use_bias: whether the dense layers have biases. Defaults to `True`.
        output_dim: size of the output; `None` means that of the input.
        seed: seed of the dropout.
        **kwargs: `keras.layers.Layer` arguments.

    Call arguments:
        inputs: float `[..., D]`.
        training: whether dropout applies.

    Returns:
        float `[..., D]`, or `[..., output_dim]`.

    Masking:
        Passes the mask of its input on.

    Raises:
        ValueError: `intermediate_dim` is not a positive integer, or `dropout` is outside [0, 1].

    Reference:
        Vaswani et al. 2017, equation 2.

    Example:

    >>> import keras
    >>> layer = FeedForward(intermediate_dim=32)
    >>> tuple(layer(keras.random.normal((2, 5, 8))).shape)
    (2, 5, 8)
    """

    first_weight, reads_training = "intermediate_dense.kernel", True

    def __init__(
        self,
        intermediate_dim,
        activation="relu",
        dropout=0.0,
        kernel_initializer="glorot_uniform",
        bias_initializer="zeros",
        *,
        use_bias=True,
        output_dim=None,
        seed=None,
        **kwargs,
    ):
        super().__init__(**kwargs)
        if not isinstance(intermediate_dim, int) or intermediate_dim <= 0:
            raise ValueError(
                f"`intermediate_dim` must be a positive integer. Received: intermediate_dim={intermediate_dim!r}"
            )
        if not 0 <= dropout <= 1:
            raise ValueError(f"`dropout` must be in [0, 1]. Received: dropout={dropout!r}")
        self.supports_masking = True
        self.intermediate_dim = intermediate_dim
        self.activation = get_activation(activation)
        self.dropout = dropout
        self.kernel_initializer = keras.initializers.get(kernel_initializer)
        self.bias_initializer = keras.initializers.get(bias_initializer)
        self.use_bias = use_bias
        self.output_dim = output_dim
        self.seed = seed

    def build(self, input_shape):
        """Makes the dense layers for inputs `[..., D]`."""
        self.intermediate_dense = self._dense(
            input_shape, self.intermediate_dim, "intermediate_dense", self._intermediate_activation
        )
        intermediate_shape = (*input_shape[:-1], self.intermediate_dim)
        self.output_dense = self._dense(intermediate_shape, self.output_dim or input_shape[-1], "output_dense")
        self.activation_dropout = Dropout(
            self.dropout, seed=self.seed, dtype=self.dtype_policy, name="activation_dropout"
        )

    @property
    def _intermediate_activation(self):
        return self.activation

    def _dense(self, input_shape, units, name, activation=None):
        dense = TokenDense(
            units,
            activation=activation,
            use_bias=self.use_bias,
            kernel_initializer=clone_initializer(self.kernel_initializer),
            bias_initializer=clone_initializer(self.bias_initializer),
            dtype=self.dtype_policy,
            name=name,
        )
        dense.build(input_shape)
        return dense

    def call(self, inputs, training=None):
        """Applies the network to every position."""
        return self._project(self.intermediate_dense(inputs), training)

    def _project(self, hidden, training):
        if self.dropout and training:
            hidden = self.activation_dropout(hidden, training=training)
        return self.output_dense(hidden)

    def compute_output_shape(self, input_shape):
        """`[..., D]` or `[..., output_dim]`."""
        return (*input_shape[:-1], self.output_dim or input_shape[-1])

    def get_config(self):
        """The constructor's arguments."""
        return {
            **super().get_config(),
            "intermediate_dim": self.intermediate_dim,
            "activation": keras.activations.serialize(self.activation),
            "dropout": self.dropout,
            "kernel_initializer": keras.initializers.serialize(self.kernel_initializer),
            "bias_initializer": keras.initializers.serialize(self.bias_initializer),
            "use_bias": self.use_bias,
            "output_dim": self.output_dim,
            "seed": self.seed,
        }
