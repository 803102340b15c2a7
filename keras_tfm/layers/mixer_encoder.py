"""What the recurrent and the convolutional encoder block share: all of `TransformerEncoder` but its attention."""

from keras_tfm.layers.block_arguments import check_size
from keras_tfm.layers.token_mixer import refuse_pairs
from keras_tfm.layers.transformer_encoder import TransformerEncoder

_OF_ATTENTION = ("attention", "attention_dropout", "num_key_value_heads", "position")


class MixerEncoder(TransformerEncoder):
    """Base of `RecurrentEncoder` and `ConvolutionalEncoder`, which say what the arguments are.

    A subclass has the class of its `TokenMixer` as `mixer`.

    Args:
        of_mixer: dict of the mixer's own arguments.
        intermediate_dim, kernel_initializer, bias_initializer, **kwargs: as `TransformerEncoder` has them.
        num_heads: not used.
    """

    mixer = None

    def __init__(self, of_mixer, intermediate_dim, num_heads, *, kernel_initializer, bias_initializer, **kwargs):
        for argument in _OF_ATTENTION:
            value = kwargs.pop(argument, None)
            if value is not None:
                raise ValueError(
                    f"`{argument}` is of attention, which {type(self).__name__} has not. Received: {argument}={value!r}"
                )
        if num_heads is not None:
            check_size("num_heads", num_heads)
        initializers = dict(kernel_initializer=kernel_initializer, bias_initializer=bias_initializer)
        mixer = self.mixer(**of_mixer, **initializers, use_bias=kwargs.get("use_bias", True))
        super().__init__(intermediate_dim, None, attention=mixer, **initializers, **kwargs)
        self.num_heads = num_heads
        config = mixer.get_config()
        self._of_mixer = {name: config[name] for name in of_mixer}

    def compute_output_spec(
        self, inputs, padding_mask=None, attention_mask=None, training=None, return_attention_scores=False, **kwargs
    ):
        """The specification of the output."""
        refuse_pairs(
            type(self).__name__, attention_mask=attention_mask, return_attention_scores=return_attention_scores
        )
        return super().compute_output_spec(inputs)

    def get_config(self):
        """The constructor's arguments."""
        config = {name: value for name, value in super().get_config().items() if name not in _OF_ATTENTION}
        return {**config, **self._of_mixer}
