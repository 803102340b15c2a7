"""One block of the Transformer's decoder."""

import keras

from keras_tfm.layers.attention_masks import all_of
from keras_tfm.layers.cache_forms import cache_length
from keras_tfm.layers.transformer_block import TransformerBlock


@keras.saving.register_keras_serializable(package="keras_tfm")
class TransformerDecoder(TransformerBlock):
    """Causal self-attention, cross attention if an encoder's output is given, and a feed-forward network.

    A drop-in superset of `keras_hub.layers.TransformerDecoder`; weights saved by it load. Whether there is cross
    attention is settled by the
    first call: `layer(decoder_sequence)` or `layer(decoder_sequence, encoder_sequence)`.

    Args:
        intermediate_dim, num_heads, dropout, activation, layer_norm_epsilon, kernel_initializer, bias_initializer,
        normalize_first,
            attention_dropout, activation_dropout, num_key_value_heads, normalization, feed_forward: as
                `TransformerEncoder` has them.
        position: relative positions of the self-attention; cross attention has none.
        **kwargs: `keras.layers.Layer` arguments.

    Call arguments:
        decoder_sequence: float `[B, T, D]`.
        encoder_sequence: float `[B, S, E]`; may be `None` once `cross_attention_cache` holds its keys and values.
        decoder_padding_mask: bool `[B, T]`, or with a cache of length M also `[B, M]`; True at real tokens.
        decoder_attention_mask: bool `[B, T, T]`, with a cache `[B, T, M]`.
        encoder_padding_mask: bool `[B, S]`.
        encoder_attention_mask: bool `[B, T, S]`, which query sees which encoder position.
        self_attention_cache: `KVCache` of `[B, M, K, H]`, or a tensor `[B, 2, M, K, H]`.
        self_attention_cache_update_index: int or int32 scalar, position of the first of the T tokens.
        cross_attention_cache: `KVCache` of `[B, S, K, H]`, or a tensor `[B, 2, S, K, H]`.
        cross_attention_cache_update_index: 0 to fill the cross attention's cache, `None` to use it as it is.
        use_causal_mask: whether a token sees only itself and those before. Defaults to `True`.
        training: whether dropout applies.
        return_attention_scores: also return the scores: `[B, N, T, T]` of self-attention, and `[B, N, T, S]` of cross
            attention if there is one.
        segment_ids: int `[B, T]`: tokens attend within their segment.
        mask, decoder_sequence_mask, encoder_sequence_mask: the implicit masks, filled in by Keras.

    Returns:
        `output [B, T, D]`; then, where they apply and in this order, self-attention's scores, cross attention's
        scores, self-attention's cache, cross attention's cache. Caches come back in the form they were given in.

    Masking:
        Explicit and implicit masks all apply; the decoder's implicit mask goes on to the output, the encoder's is left
        as it is.

    Raises:
        ValueError: cross attention is there and no encoder sequence, or the other way round; one cache without the
            other; a mask that does not fit.

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
        self.cross_attention = None
        self._shapes = None
        if decoder_sequence_shape is not None:
            self.build(decoder_sequence_shape, encoder_sequence_shape)
            self.built = True

    def build(self, decoder_sequence_shape, encoder_sequence_shape=None):
        """Makes the parts for a decoder sequence `[B, T, D]` and, if given, an encoder sequence `[B, S, E]`."""
        self._shapes = (decoder_sequence_shape, encoder_sequence_shape)
        self._build_self_attention(decoder_sequence_shape, "self_attention")
        if encoder_sequence_shape is not None:
            self.cross_attention = self._make_attention(
                "cross_attention", decoder_sequence_shape, encoder_sequence_shape
            )
            self.cross_attention_norm = self._make_norm("cross_attention_layer_norm", decoder_sequence_shape)
            self.cross_attention_dropout = self._make_dropout("cross_attention_dropout")
        self._build_feed_forward(decoder_sequence_shape)
        self._build_feed_forward_norm(decoder_sequence_shape)

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
        mask=None,
        decoder_sequence_mask=None,
        encoder_sequence_mask=None,
    ):
        """Applies the block; see the class for arguments."""
        self._check_call(encoder_sequence, self_attention_cache, cross_attention_cache)
        implicit_mask = all_of([mask, decoder_sequence_mask])
        x = self._enter(decoder_sequence, self.self_attention_norm)
        update, self_scores, self_cache = _attend(
            self.self_attention,
            x,
            x,
            return_attention_scores,
            self_attention_cache,
            self_attention_cache_update_index,
            query_mask=implicit_mask,
            value_mask=implicit_mask,
            padding_mask=decoder_padding_mask,
            attention_mask=decoder_attention_mask,
            use_causal_mask=use_causal_mask,
            segment_ids=segment_ids,
            training=training,
        )
        x = self._leave(decoder_sequence, update, self.self_attention_norm, self.self_attention_dropout, training)

        cross_scores, cross_cache = None, None
        if self.cross_attention is not None:
            update, cross_scores, cross_cache = _attend(
                self.cross_attention,
                self._enter(x, self.cross_attention_norm),
                encoder_sequence,
                return_attention_scores,
                cross_attention_cache,
                cross_attention_cache_update_index,
                value_mask=encoder_sequence_mask,
                padding_mask=encoder_padding_mask,
                attention_mask=encoder_attention_mask,
                training=training,
            )
            x = self._leave(x, update, self.cross_attention_norm, self.cross_attention_dropout, training)

        x = self._feed_forward_update(x, training)
        results = [x, self_scores, cross_scores, self_cache, cross_cache]
        results = tuple(result for result in results if result is not None)
        return results[0] if len(results) == 1 else results

    def _check_call(self, encoder_sequence, self_cache, cross_cache):
        has_memory = encoder_sequence is not None or cross_cache is not None
        if (self.cross_attention is not None) != has_memory:
            built, called = ("without", "with") if self.cross_attention is None else ("with", "without")
            raise ValueError(
                f"This layer was built {built} cross attention and is called {called} `encoder_sequence`: "
                f"the inputs of a `TransformerDecoder` must not change. Received: encoder_sequence={encoder_sequence}"
            )
        if self.cross_attention is not None and (self_cache is None) != (cross_cache is None):
            raise ValueError(
                "`self_attention_cache` and `cross_attention_cache` must both be given or both be `None`. Received: "
                f"self_attention_cache={type(self_cache).__name__}, cross_attention_cache={type(cross_cache).__name__}"
            )

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
        self._check_call(encoder_sequence, self_attention_cache, cross_attention_cache)
        results = [keras.KerasTensor(decoder_sequence.shape, dtype=self.compute_dtype)]
        if return_attention_scores:
            batch, length = decoder_sequence.shape[:2]
            lengths = [length if self_attention_cache is None else cache_length(self_attention_cache)]
            if cross_attention_cache is not None:
                lengths.append(cache_length(cross_attention_cache))
            elif encoder_sequence is not None:
                lengths.append(encoder_sequence.shape[1])
            shapes = [(batch, self.num_heads, length, keys) for keys in lengths]
            results += [keras.KerasTensor(shape, dtype=self.compute_dtype) for shape in shapes]
        caches = [cache for cache in (self_attention_cache, cross_attention_cache) if cache is not None]
        results += [
            keras.tree.map_structure(lambda x: keras.KerasTensor(x.shape, dtype=x.dtype), cache) for cache in caches
        ]
        return results[0] if len(results) == 1 else tuple(results)

    def get_config(self):
        """The constructor's arguments, and the shapes the layer was built for."""
        decoder_shape, encoder_shape = self._shapes or (None, None)
        return {
            **super().get_config(),
            "decoder_sequence_shape": decoder_shape,
            "encoder_sequence_shape": encoder_shape,
        }

    _cross_attention_layer = property(lambda self: self.cross_attention)
    _cross_attention_layer_norm = property(lambda self: self.cross_attention_norm)
    _cross_attention_dropout = property(lambda self: self.cross_attention_dropout)


def _attend(layer, query, value, return_scores, cache, index, **masks):
    """Calls an attention layer; returns `(output, scores or None, cache or None)`."""
    results = layer(query, value, cache=cache, cache_update_index=index, return_attention_scores=return_scores, **masks)
    if cache is None and not return_scores:
        return results, None, None
    output, *rest = results
    scores = rest.pop(0) if return_scores else None
    return output, scores, rest[0] if rest else None
