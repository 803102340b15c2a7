"""One block of the Transformer's decoder."""

import keras

from keras_tfm.layers.attention_masks import all_of
from keras_tfm.layers.block_arguments import check_decoder_placement, check_memory
from keras_tfm.layers.block_specs import block_spec
from keras_tfm.layers.deep_norm import DeepNorm
from keras_tfm.layers.parts import resolve_config
from keras_tfm.layers.real_tokens import memory_in_a_row
from keras_tfm.layers.sublayer_calls import attend, cross_positions, real_tokens
from keras_tfm.layers.transformer_block import TransformerBlock


@keras.saving.register_keras_serializable(package="keras_tfm")
class TransformerDecoder(TransformerBlock):
    """Causal self-attention, cross attention if an encoder's output is given, and a feed-forward network.

    A drop-in superset of `keras_hub.layers.TransformerDecoder`; weights saved by it load. Whether there is cross
    attention is settled by the first call: `layer(decoder_sequence)` or `layer(decoder_sequence, encoder_sequence)`.

    Args:
        intermediate_dim, num_heads, dropout, activation, layer_norm_epsilon, kernel_initializer, bias_initializer,
            normalize_first, attention_dropout, activation_dropout, num_key_value_heads, normalization, feed_forward,
            placement, residual, stochastic_depth, use_bias, num_layers, skip_padding: as `TransformerEncoder` has
            them. The parallel placements need a decoder without cross attention.
        position: relative positions of the self-attention; cross attention has those of its own layer.
        attention: as `TransformerEncoder` has it, for the self-attention.
        cross_attention: `None` for `MultiHeadAttention` by the arguments above, or a layer to copy.
        **kwargs: `keras.layers.Layer` arguments.

    Call arguments:
        decoder_sequence: float `[B, T, D]`.
        encoder_sequence: float `[B, S, E]`; may be `None` once `cross_attention_cache` holds its keys and values.
        decoder_padding_mask: bool `[B, T]`, or with a cache of length M also `[B, M]`; True at real tokens.
        decoder_attention_mask: bool `[B, T, T]`, with a cache `[B, T, M]`.
        encoder_padding_mask: bool `[B, S]`.
        encoder_attention_mask: bool `[B, T, S]`, which query sees which encoder position.
        self_attention_cache: `KVCache` of `[B, M, K, H]`, or a tensor `[B, 2, M, K, H]`.
        self_attention_cache_update_index: int or int32 scalar, where the first of the T tokens stands.
        cross_attention_cache: `KVCache` of `[B, S, K, H]`, or a tensor `[B, 2, S, K, H]`.
        cross_attention_cache_update_index: 0 to fill that cache, `None` to use it as it is.
        use_causal_mask: whether a token sees only itself and those before. Defaults to `True`.
        training: whether dropout applies.
        return_attention_scores: also return the scores: `[B, N, T, T]` of self-attention, and `[B, N, T, S]` of cross
            attention if there is one.
        segment_ids: int `[B, T]`: tokens attend within their segment.
        key_segment_ids: int `[B, M]`, the segments of a self-attention cache.
        encoder_segment_ids: int `[B, S]`: tokens attend to the encoder's positions of their own segment.
        positions: int `[T]` or `[B, T]`, where the tokens stand; `None` means by index.
        key_positions: int `[M]` or `[B, M]`, where the whole cache stands; needed with `positions` and a cache.
        prefix_length: int `[B]`: all tokens see those before this position (prefix language model).
        mask, decoder_sequence_mask, encoder_sequence_mask: the implicit masks, filled in by Keras.

    Returns:
        `output [B, T, D]`; then, where they apply and in this order, self-attention's scores, cross attention's
        scores, self-attention's cache, cross attention's cache. Caches come back in the form they were given in.

    Masking:
        Explicit and implicit masks all apply; the decoder's implicit mask goes on to the output, the encoder's is left
        as it is.

    Raises:
        ValueError: cross attention without encoder sequence, or the other way round; one cache without the other; a
            mask that does not fit; arguments that contradict each other.

    Reference:
        Vaswani et al. 2017, section 3.1.

    Example:

    >>> import keras
    >>> block = TransformerDecoder(intermediate_dim=64, num_heads=4)
    >>> target, source = keras.random.normal((2, 5, 32)), keras.random.normal((2, 7, 32))
    >>> output, self_scores, cross_scores = block(target, source, return_attention_scores=True)
    >>> tuple(output.shape), tuple(cross_scores.shape)
    ((2, 5, 32), (2, 4, 5, 7))
    """

    def __init__(
        self,
        intermediate_dim,
        num_heads,
        dropout=0.0,
        activation="relu",
        layer_norm_epsilon=1e-05,
        kernel_initializer="glorot_uniform",
        bias_initializer="zeros",
        normalize_first=False,
        *,
        cross_attention=None,
        decoder_sequence_shape=None,
        encoder_sequence_shape=None,
        **kwargs,
    ):
        super().__init__(
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
        self._given.cross_attention = resolve_config(cross_attention)
        self.cross_attention = None
        self._shapes = None
        if decoder_sequence_shape is not None:
            self.build(decoder_sequence_shape, encoder_sequence_shape)
            self.built = True

    def build(self, decoder_sequence_shape, encoder_sequence_shape=None):
        """Makes the parts for a decoder sequence `[B, T, D]` and, if given, an encoder sequence `[B, S, E]`."""
        self._shapes = (decoder_sequence_shape, encoder_sequence_shape)
        self._has_encoder = encoder_sequence_shape is not None
        check_decoder_placement(self._placement, self._has_encoder)
        self._build_self_attention(decoder_sequence_shape, "self_attention")
        if self._has_encoder:
            self.cross_attention = self._make_attention(
                self._given.cross_attention, "cross_attention", decoder_sequence_shape, encoder_sequence_shape
            )
            self.cross_attention_connection = self._connect("cross_attention", decoder_sequence_shape)
        self._build_feed_forward(decoder_sequence_shape)
        self.feed_forward_connection = self._connect("feed_forward", decoder_sequence_shape)

    def _deep_norm_of(self, num_layers):
        return DeepNorm.of_decoder(num_layers, self._has_encoder)

    def call(
        self,
        decoder_sequence,
        encoder_sequence=None,
        decoder_padding_mask=None,
        decoder_attention_mask=None,
        encoder_padding_mask=None,
        encoder_attention_mask=None,
        self_attention_cache=None,
        self_attention_cache_update_index=None,
        cross_attention_cache=None,
        cross_attention_cache_update_index=None,
        use_causal_mask=True,
        training=None,
        return_attention_scores=False,
        *,
        segment_ids=None,
        key_segment_ids=None,
        encoder_segment_ids=None,
        positions=None,
        key_positions=None,
        prefix_length=None,
        mask=None,
        decoder_sequence_mask=None,
        encoder_sequence_mask=None,
    ):
        """Applies the block; see the class for arguments."""
        check_memory(self.cross_attention, encoder_sequence, self_attention_cache, cross_attention_cache)
        implicit_mask = all_of([mask, decoder_sequence_mask])
        index = self_attention_cache_update_index
        real = real_tokens(implicit_mask, "decoder_padding_mask", decoder_padding_mask, decoder_sequence, index)
        tokens = self._tokens_of_block(
            real,
            decoder_sequence,
            [layer for layer in (self.self_attention, self.cross_attention) if layer is not None],
            *(decoder_attention_mask, encoder_attention_mask, self_attention_cache, cross_attention_cache),
            *(segment_ids, encoder_segment_ids, key_positions, prefix_length, return_attention_scores),
            getattr(self.cross_attention, "position", None),
        )
        if tokens is not None:
            x = self.call(
                tokens.pack(decoder_sequence),
                use_causal_mask=use_causal_mask,
                training=training,
                segment_ids=tokens.rows,
                positions=tokens.positions(positions),
                **memory_in_a_row(encoder_sequence, encoder_padding_mask, encoder_sequence_mask),
            )
            return tokens.unpack(x)
        read = self.self_attention_connection.read(decoder_sequence, real, training)
        update, self_scores, self_cache = attend(
            self.self_attention,
            read,
            read,
            cache=self_attention_cache,
            cache_update_index=index,
            query_mask=implicit_mask,
            value_mask=implicit_mask,
            padding_mask=decoder_padding_mask,
            attention_mask=decoder_attention_mask,
            use_causal_mask=use_causal_mask,
            segment_ids=segment_ids,
            key_segment_ids=key_segment_ids,
            query_positions=positions,
            key_positions=key_positions,
            prefix_length=prefix_length,
            training=training,
            return_attention_scores=return_attention_scores,
        )
        x = self.self_attention_connection.write(decoder_sequence, update, real, training)

        cross_scores, cross_cache = None, None
        if self.cross_attention is not None:
            update, cross_scores, cross_cache = attend(
                self.cross_attention,
                self.cross_attention_connection.read(x, real, training),
                encoder_sequence,
                cache=cross_attention_cache,
                cache_update_index=cross_attention_cache_update_index,
                value_mask=encoder_sequence_mask,
                padding_mask=encoder_padding_mask,
                attention_mask=encoder_attention_mask,
                segment_ids=None if encoder_segment_ids is None else segment_ids,
                key_segment_ids=encoder_segment_ids,
                **cross_positions(
                    self.cross_attention, decoder_sequence, positions, index, encoder_sequence, cross_attention_cache
                ),
                training=training,
                return_attention_scores=return_attention_scores,
            )
            x = self.cross_attention_connection.write(x, update, real, training)

        x = self._feed_forward_update({"inputs": decoder_sequence, "normalized": read, "stream": x}, real, training)
        results = x, self_scores, cross_scores, self_cache, cross_cache
        results = tuple(result for result in results if result is not None)
        return results[0] if len(results) == 1 else results

    def compute_output_shape(self, decoder_sequence_shape, encoder_sequence_shape=None):
        """`[B, T, D]`, as the decoder sequence."""
        return tuple(decoder_sequence_shape)

    def compute_output_spec(
        self,
        decoder_sequence,
        encoder_sequence=None,
        decoder_padding_mask=None,
        decoder_attention_mask=None,
        encoder_padding_mask=None,
        encoder_attention_mask=None,
        self_attention_cache=None,
        self_attention_cache_update_index=None,
        cross_attention_cache=None,
        cross_attention_cache_update_index=None,
        use_causal_mask=True,
        training=None,
        return_attention_scores=False,
        **kwargs,
    ):
        """The specification of all outputs, scores and caches included."""
        check_memory(self.cross_attention, encoder_sequence, self_attention_cache, cross_attention_cache)
        own = self_attention_cache, decoder_sequence
        memory = cross_attention_cache, encoder_sequence
        heads = self.num_heads, getattr(self.cross_attention, "num_heads", self.num_heads)
        scores = [(n, *keys) for n, keys in zip(heads, (own, memory), strict=True)] if return_attention_scores else []
        return block_spec(decoder_sequence, self.compute_dtype, scores, [own[0], memory[0]])

    def get_config(self):
        """The constructor's arguments, and the shapes the layer was built for."""
        decoder_shape, encoder_shape = self._shapes or (None, None)
        return {
            **super().get_config(),
            "decoder_sequence_shape": decoder_shape,
            "encoder_sequence_shape": encoder_shape,
        }
