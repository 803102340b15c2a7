"""What the recurrent and the convolutional encoder block share: all of `TransformerEncoder` but its attention."""

from keras_tfm.layers.block_arguments import check_size
from keras_tfm.layers.token_mixer import refuse_pairs
from keras_tfm.layers.transformer_encoder import TransformerEncoder

_OF_ATTENTION = ("attention", "attention_dropout", "num_key_value_heads", "position")


class MixerEncoder(TransformerEncoder):
    """Base of `RecurrentEncoder` and `ConvolutionalEncoder`, which say what the arguments are.

    Args:
        mixer: the `TokenMixer` to copy in place of the self-attention.
        intermediate_dim, num_heads, *arguments, **kwargs: as `TransformerEncoder` has them; `num_heads` is not used.
    """

    def __init__(self, mixer, intermediate_dim, num_heads, *arguments, **kwargs):
        for argument in _OF_ATTENTION:
            value = kwargs.pop(argument, None)
            if value is not None:
                raise ValueError(
                    f"`{argument}` is of attention, which {type(self).__name__} has not. Received: {argument}={value!r}"
                )
        if num_heads is not None:
            check_size("num_heads", num_heads)
        super().__init__(intermediate_dim, None, *arguments, attention=mixer, **kwargs)
        self.num_heads = num_heads

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
        return {name: value for name, value in super().get_config().items() if name not in _OF_ATTENTION}
