"""One encoder block with a recurrent network in place of self-attention."""

import keras

from keras_tfm.layers.mixer_encoder import MixerEncoder
from keras_tfm.layers.recurrent_mixer import RecurrentMixer


@keras.saving.register_keras_serializable(package="keras_tfm")
class RecurrentEncoder(MixerEncoder):
    """A `TransformerEncoder` whose tokens are mixed by an LSTM or a GRU.

    Feed-forward network, norms, residuals and dropout are those of `TransformerEncoder`: only the mixing differs.

    Args:
        intermediate_dim: F, the inner size of the feed-forward network.
        num_heads: taken so that a swap is one word, and not used.
        dropout, activation, layer_norm_epsilon, kernel_initializer, bias_initializer, normalize_first: as in
            `TransformerEncoder`.
        cell, bidirectional: as in `RecurrentMixer`. A block that sees no future has `bidirectional=False`.
        **kwargs: the other arguments of `TransformerEncoder`, but those of attention.

    Call arguments:
        inputs, padding_mask, training, mask, inputs_mask: as `TransformerEncoder`. Those that speak of pairs of tokens
            must stay at their defaults.

    Returns:
        `[B, T, D]`.

    Masking:
        As `RecurrentMixer`; the implicit mask goes on to the output.

    Raises:
        ValueError: an argument of attention is given; the arguments do not fit.

    Reference:
        Vaswani et al. 2017, section 4, table 1 (the row "recurrent").

    Example:

    >>> import keras
    >>> block = RecurrentEncoder(intermediate_dim=64, num_heads=4, cell="gru")
    >>> tuple(block(keras.random.normal((2, 5, 32))).shape)
    (2, 5, 32)
    """

    mixer = RecurrentMixer

    def __init__(
        self,
        intermediate_dim,
        num_heads=None,
        dropout=0.0,
        activation="relu",
        layer_norm_epsilon=1e-05,
        kernel_initializer="glorot_uniform",
        bias_initializer="zeros",
        normalize_first=False,
        *,
        cell="lstm",
        bidirectional=True,
        **kwargs,
    ):
        super().__init__(
            dict(cell=cell, bidirectional=bidirectional),
            intermediate_dim,
            num_heads,
            dropout=dropout,
            activation=activation,
            layer_norm_epsilon=layer_norm_epsilon,
            kernel_initializer=kernel_initializer,
            bias_initializer=bias_initializer,
            normalize_first=normalize_first,
            **kwargs,
        )
        self.cell = cell
        self.bidirectional = bidirectional
