"""What layers that mix tokens without attention share: the call of an attention layer, and padding that is zero."""

import keras

from keras_tfm.layers.attention_masks import all_of, without_padding
from keras_tfm.layers.sublayer_calls import real_tokens


def refuse_pairs(name, **arguments):
    """Refuses arguments that speak of pairs of tokens; `None` and `False` pass."""
    for argument, value in arguments.items():
        if value is not None and value is not False:
            raise ValueError(
                f"`{argument}` needs attention: {name} mixes the tokens of a row in the order in which they stand. "
                f"Received: {argument}={value!r}"
            )


class TokenMixer(keras.layers.Layer):
    """Base of `RecurrentMixer` and `ConvolutionalMixer`, which say what the arguments are.

    A subclass makes its parts in `build`, and mixes in `mix`.
    """

    def __init__(self, **kwargs):
        super().__init__(**kwargs)
        self.supports_masking = True

    def call(
        self,
        inputs,
        value=None,
        padding_mask=None,
        training=None,
        *,
        attention_mask=None,
        segment_ids=None,
        query_positions=None,
        return_attention_scores=False,
        query_mask=None,
        value_mask=None,
        mask=None,
        inputs_mask=None,
    ):
        """Mixes the tokens; see the class for arguments."""
        refuse_pairs(
            type(self).__name__,
            attention_mask=attention_mask,
            segment_ids=segment_ids,
            query_positions=query_positions,
            return_attention_scores=return_attention_scores,
        )
        if value is not None and tuple(value.shape) != tuple(inputs.shape):
            raise ValueError(
                "`value` must be None or the inputs again: one sequence is mixed. "
                f"Received: value.shape={tuple(value.shape)}, inputs.shape={tuple(inputs.shape)}"
            )
        real = real_tokens(all_of([mask, inputs_mask, query_mask, value_mask]), "padding_mask", padding_mask, inputs)
        return self.mix(without_padding(inputs, real), real, training)

    def mix(self, x, real, training):
        """From `x [B, T, D]`, zero where `real [B, T]` is False, to the update `[B, T, D]`."""
        raise NotImplementedError

    def compute_output_shape(self, inputs_shape, value_shape=None):
        """`[B, T, D]`, as the inputs."""
        return tuple(inputs_shape)
