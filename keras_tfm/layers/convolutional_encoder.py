"""One encoder block with a convolution in place of self-attention."""

import keras

from keras_tfm.layers.convolutional_mixer import ConvolutionalMixer
from keras_tfm.layers.mixer_encoder import MixerEncoder


@keras.saving.register_keras_serializable(package="keras_tfm")
class ConvolutionalEncoder(MixerEncoder):
    """A `TransformerEncoder` whose tokens are mixed by a convolution.

    Feed-forward network, norms, residuals and dropout are those of `TransformerEncoder`: only the mixing differs.

    Args:
        intermediate_dim: F, the inner size of the feed-forward network.
        num_heads: taken so that a swap is one word, and not used.
        dropout, activation, layer_norm_epsilon, kernel_initializer, bias_initializer, normalize_first: as in
            `TransformerEncoder`.
        kernel_size, dilation_rate, padding, convolution, gate: as in `ConvolutionalMixer`. A block that sees no future
            has `padding="causal"`.
        **kwargs: the other arguments of `TransformerEncoder`, but those of attention.

    Call arguments:
        inputs, padding_mask, training, mask, inputs_mask: as `TransformerEncoder`. Those that speak of pairs of tokens
            must stay at their defaults.

    Returns:
        `[B, T, D]`.

    Masking:
        As `ConvolutionalMixer`; the implicit mask goes on to the output.

    Raises:
        ValueError: an argument of attention is given; the arguments do not fit.

    Reference:
        Gehring et al. 2017 (ConvS2S); Vaswani et al. 2017, section 4, table 1 (the row "convolutional").

    Example:

    >>> import keras
    >>> block = ConvolutionalEncoder(intermediate_dim=64, num_heads=4, kernel_size=5, dilation_rate=2)
    >>> tuple(block(keras.random.normal((2, 5, 32))).shape)
    (2, 5, 32)
    """

    mixer = ConvolutionalMixer

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
        kernel_size=3,
        dilation_rate=1,
        padding="same",
        convolution="full",
        gate=None,
        **kwargs,
    ):
        of_mixer = dict(
            kernel_size=kernel_size,
            dilation_rate=dilation_rate,
            padding=padding,
            convolution=convolution,
            gate=gate,
        )
        super().__init__(
            of_mixer,
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
