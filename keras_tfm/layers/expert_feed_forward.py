"""Many feed-forward networks of one size, computed together."""

import keras

from keras_tfm.layers.activations import get_activation
from keras_tfm.layers.dropout import Dropout
from keras_tfm.layers.gated_feed_forward import GATED_ACTIVATIONS
from keras_tfm.layers.parts import clone_initializer


@keras.saving.register_keras_serializable(package="keras_tfm")
class ExpertFeedForward(keras.layers.Layer):
    """E feed-forward networks, each for tokens of its own: what `MixtureOfExperts` sends tokens to.

    Args:
        num_experts: E.
        intermediate_dim, activation, dropout, use_bias, kernel_initializer, bias_initializer, seed: as `FeedForward`.
        feed_forward: `None`, `"gated"`, or a name from `GATED_ACTIVATIONS`.
        **kwargs: `keras.layers.Layer` arguments.

    Call arguments:
        inputs: float `[E, tokens, D]`.
        training: whether dropout applies.

    Returns:
        float `[E, tokens, D]`.

    Example:

    >>> import keras
    >>> layer = ExpertFeedForward(num_experts=3, intermediate_dim=16, feed_forward="swiglu")
    >>> tuple(layer(keras.random.normal((3, 5, 8))).shape)
    (3, 5, 8)
    """

    def __init__(
        self,
        num_experts,
        intermediate_dim,
        *,
        feed_forward=None,
        activation="relu",
        dropout=0.0,
        use_bias=True,
        kernel_initializer="glorot_uniform",
        bias_initializer="zeros",
        seed=None,
        **kwargs,
    ):
        super().__init__(**kwargs)
        self.num_experts = num_experts
        self.intermediate_dim = intermediate_dim
        self.feed_forward = feed_forward
        self.activation = get_activation(activation)
        self.dropout = dropout
        self.use_bias = use_bias
        self.kernel_initializer = keras.initializers.get(kernel_initializer)
        self.bias_initializer = keras.initializers.get(bias_initializer)
        self.seed = seed

    def build(self, input_shape):
        """Makes the dense layers for inputs `[E, tokens, D]`."""
        width, inner = input_shape[-1], self.intermediate_dim
        activation = get_activation(GATED_ACTIVATIONS.get(self.feed_forward, self.activation))
        is_gated = self.feed_forward is not None
        self.gate_dense = self._dense(width, inner, "gate_dense", activation) if is_gated else None
        self.intermediate_dense = self._dense(width, inner, "intermediate_dense", None if is_gated else activation)
        self.output_dense = self._dense(inner, width, "output_dense")
        self.activation_dropout = Dropout(
            self.dropout, seed=self.seed, dtype=self.dtype_policy, name="activation_dropout"
        )

    def _dense(self, width, units, name, activation=None):
        dense = keras.layers.EinsumDense(
            "ecd,edf->ecf",
            output_shape=(None, units),
            bias_axes="ef" if self.use_bias else None,
            activation=activation,
            kernel_initializer=_of_each_expert(self.kernel_initializer),
            bias_initializer=clone_initializer(self.bias_initializer),
            dtype=self.dtype_policy,
            name=name,
        )
        dense.build((self.num_experts, None, width))
        return dense

    def call(self, inputs, training=None):
        """Applies each network to its own tokens."""
        hidden = self.intermediate_dense(inputs)
        if self.gate_dense is not None:
            hidden = self.gate_dense(inputs) * hidden
        return self.output_dense(self.activation_dropout(hidden, training=training))

    def compute_output_shape(self, input_shape):
        """As the inputs."""
        return tuple(input_shape)

    def get_config(self):
        """The constructor's arguments."""
        return {
            **super().get_config(),
            "num_experts": self.num_experts,
            "intermediate_dim": self.intermediate_dim,
            "feed_forward": self.feed_forward,
            "activation": keras.activations.serialize(self.activation),
            "dropout": self.dropout,
            "use_bias": self.use_bias,
            "kernel_initializer": keras.initializers.serialize(self.kernel_initializer),
            "bias_initializer": keras.initializers.serialize(self.bias_initializer),
            "seed": self.seed,
        }


def _of_each_expert(initializer):
    """A fresh initializer that draws each kernel of `[E, D, F]` as if it were alone."""
    if not isinstance(initializer, keras.initializers.VarianceScaling):
        return clone_initializer(initializer)
    return type(initializer).from_config({**initializer.get_config(), "input_axes": (1,), "output_axes": (2,)})
