"""A recurrent network in place of self-attention."""

import keras
from keras import ops

from keras_tfm.layers.float32_initializer import Float32Initializer
from keras_tfm.layers.parts import clone_initializer
from keras_tfm.layers.token_mixer import TokenMixer

CELLS = {"lstm": keras.layers.LSTM, "gru": keras.layers.GRU}


@keras.saving.register_keras_serializable(package="keras_tfm")
class RecurrentMixer(TokenMixer):
    """Mixes the tokens of a sequence by an LSTM or a GRU, one way or both ways.

    It is called as self-attention is, so that it serves as the `attention` of a `TransformerEncoder`.

    Args:
        cell: `"lstm"` or `"gru"`. Defaults to `"lstm"`.
        bidirectional: whether half of the features come from a network that reads from the end. Without it nothing
            sees what follows. Defaults to `True`.
        kernel_initializer, recurrent_initializer, bias_initializer: of the networks. Default to `"glorot_uniform"`,
            `"orthogonal"` and `"zeros"`.
        use_bias: whether the networks have biases. Defaults to `True`.
        **kwargs: `keras.layers.Layer` arguments.

    Call arguments:
        inputs: float `[B, T, D]`.
        value: `None`, or `inputs` again, as self-attention takes them.
        padding_mask, query_mask, value_mask, mask, inputs_mask: bool `[B, T]`, True at real tokens; all of them apply.
        training: whether it is a training step.
        attention_mask, segment_ids, query_positions, return_attention_scores: must stay at their defaults.

    Returns:
        float `[B, T, D]`: the states after each token.

    Masking:
        States pass over padding unchanged, wherever it is: each way begins at the first real token that it meets.

    Raises:
        ValueError: there is no such cell; the width cannot be halved; what needs pairs of tokens is given.

    Reference:
        Hochreiter & Schmidhuber 1997 (LSTM); Cho et al. 2014 (GRU); Schuster & Paliwal 1997 (both ways).

    Example:

    >>> import keras
    >>> mixer = RecurrentMixer("gru")
    >>> tuple(mixer(keras.random.normal((2, 5, 8))).shape)
    (2, 5, 8)
    """

    def __init__(
        self,
        cell="lstm",
        *,
        bidirectional=True,
        kernel_initializer="glorot_uniform",
        recurrent_initializer="orthogonal",
        bias_initializer="zeros",
        use_bias=True,
        **kwargs,
    ):
        super().__init__(**kwargs)
        if cell not in CELLS:
            raise ValueError(f"`cell` must be one of {sorted(CELLS)}. Received: cell={cell!r}")
        self.cell = cell
        self.bidirectional = bidirectional
        self.kernel_initializer = keras.initializers.get(kernel_initializer)
        self.recurrent_initializer = keras.initializers.get(recurrent_initializer)
        self.bias_initializer = keras.initializers.get(bias_initializer)
        self.use_bias = use_bias

    def build(self, inputs_shape, value_shape=None):
        """Makes the networks for inputs `[B, T, D]`; together they have D units."""
        width = inputs_shape[-1]
        if self.bidirectional and width < 2:
            raise ValueError(
                f"`bidirectional` needs a width of at least 2, which both ways share. Received: inputs of width {width}"
            )
        units = width // 2 if self.bidirectional else 0
        self.forward_network = self._make_network(width - units, "forward_network", inputs_shape)
        self.backward_network = None
        if self.bidirectional:
            self.backward_network = self._make_network(units, "backward_network", inputs_shape, go_backwards=True)

    def _make_network(self, units, name, shape, **options):
        network = CELLS[self.cell](
            units,
            use_bias=self.use_bias,
            kernel_initializer=clone_initializer(self.kernel_initializer),
            recurrent_initializer=Float32Initializer(clone_initializer(self.recurrent_initializer)),
            bias_initializer=clone_initializer(self.bias_initializer),
            return_sequences=True,
            dtype=self.dtype_policy,
            name=name,
            **options,
        )
        network.build(shape)
        return network

    def mix(self, x, real, training):
        """The states of both ways, side by side."""
        states = self.forward_network(x, mask=real, training=training)
        if self.backward_network is None:
            return ops.copy(states)  # a tensor of its own: Keras' network hung its mask on the states
        reversed_states = self.backward_network(x, mask=real, training=training)
        return ops.concatenate([states, ops.flip(reversed_states, axis=1)], axis=-1)

    def get_config(self):
        """The constructor's arguments."""
        return {
            **super().get_config(),
            "cell": self.cell,
            "bidirectional": self.bidirectional,
            "kernel_initializer": keras.initializers.serialize(self.kernel_initializer),
            "recurrent_initializer": keras.initializers.serialize(self.recurrent_initializer),
            "bias_initializer": keras.initializers.serialize(self.bias_initializer),
            "use_bias": self.use_bias,
        }
