"""One block of the Transformer's encoder."""

import keras

from keras_tfm.layers.attention_masks import all_of
from keras_tfm.layers.transformer_block import TransformerBlock


@keras.saving.register_keras_serializable(package="keras_tfm")
class TransformerEncoder(TransformerBlock):
    """Self-attention and a feed-forward network, each with a residual connection and a normalization.

    A drop-in superset of `keras_hub.layers.TransformerEncoder`; weights saved by it load.

    Args:
        intermediate_dim: F, the inner size of the feed-forward network.
        num_heads: N; it must divide the width D of the inputs.
        dropout: rate in [0, 1) on each sub-layer's output, before the residual; also on the scores unless
            `attention_dropout` is given.
        activation: of the feed-forward network. Defaults to `"relu"`.
        layer_norm_epsilon: added to the variance. Defaults to 1e-5.
        kernel_initializer, bias_initializer: of all projections.
        normalize_first: pre-norm (`x + f(norm(x))`) if `True`, post-norm (`norm(x + f(x))`, the paper's) if `False`.
        attention_dropout: rate on the scores; `None` means `dropout`.
        activation_dropout: rate on the feed-forward activations. Defaults to 0.
        num_key_value_heads: K, as in `MultiHeadAttention`.
        position: relative positions, as in `MultiHeadAttention`.
        normalization: `"layer"`, `"rms"`, or a layer or config to copy.
        feed_forward: `None` for `FeedForward`, or a layer or config that maps `[B, T, D]` to itself.
        **kwargs: `keras.layers.Layer` arguments.

    Call arguments:
        inputs: float `[B, T, D]`.
        padding_mask: bool `[B, T]`, True at real tokens.
        attention_mask: bool `[B, T, T]` or `[B, N, T, T]`, True where attention is allowed.
        training: whether dropout applies.
        return_attention_scores: also return the scores `[B, N, T, T]`.
        segment_ids: int `[B, T]`: tokens attend within their segment.
        mask, inputs_mask: the implicit mask of `inputs`, filled in by Keras.

    Returns:
        `[B, T, D]`, or `([B, T, D], [B, N, T, T])`.

    Masking:
        Explicit and implicit masks all apply, and the implicit mask goes on to the output, through any number of
        blocks.

    Raises:
        ValueError: `num_heads` does not divide D; a mask does not fit.

    Reference:
        Vaswani et al. 2017, section 3.1.

    Example:

    >>> import keras
    >>> block = TransformerEncoder(intermediate_dim=64, num_heads=4)
    >>> tuple(block(keras.random.normal((2, 5, 32))).shape)
    (2, 5, 32)
    """

    def build(self, inputs_shape):
        """Makes the parts for inputs `[B, T, D]`."""
        self._build_self_attention(inputs_shape, "self_attention_layer")
        self._build_feed_forward_norm(
            inputs_shape
        )  # before the feed-forward network, the order of `keras_hub`'s weights
        self._build_feed_forward(inputs_shape)

    def call(
        self,
        inputs,
        padding_mask=None,
        attention_mask=None,
        training=None,
        return_attention_scores=False,
        *,
        segment_ids=None,
        mask=None,
        inputs_mask=None,
    ):
        """Applies the block; see the class for arguments."""
        implicit_mask = all_of([mask, inputs_mask])
        x = self._enter(inputs, self.self_attention_norm)
        update = self.self_attention(
            x,
            x,
            query_mask=implicit_mask,
            value_mask=implicit_mask,
            padding_mask=padding_mask,
            attention_mask=attention_mask,
            segment_ids=segment_ids,
            training=training,
            return_attention_scores=return_attention_scores,
        )
        update, scores = update if return_attention_scores else (update, None)
        x = self._leave(inputs, update, self.self_attention_norm, self.self_attention_dropout, training)
        x = self._feed_forward_update(x, training)
        return (x, scores) if return_attention_scores else x

    def compute_output_shape(self, inputs_shape):
        """`[B, T, D]`, as the inputs."""
        return tuple(inputs_shape)

    def compute_output_spec(
        self, inputs, padding_mask=None, attention_mask=None, training=None, return_attention_scores=False, **kwargs
    ):
        """The specification of the outputs, scores included."""
        output = keras.KerasTensor(inputs.shape, dtype=self.compute_dtype)
        if not return_attention_scores:
            return output
        batch, length = inputs.shape[:2]
        return output, keras.KerasTensor((batch, self.num_heads, length, length), dtype=self.compute_dtype)
