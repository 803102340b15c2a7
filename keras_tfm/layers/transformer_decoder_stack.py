"""N decoder blocks in a row and a final normalization, with one cache object for all."""

import keras

from keras_tfm.layers.attention_masks import all_of
from keras_tfm.layers.decoder_cache import DecoderCache
from keras_tfm.layers.sublayer_calls import project_memory, real_tokens
from keras_tfm.layers.transformer_decoder import TransformerDecoder
from keras_tfm.layers.transformer_stack import TransformerStack


@keras.saving.register_keras_serializable(package="keras_tfm")
class TransformerDecoderStack(TransformerStack):
    """N decoder blocks and a final normalization, with one cache object for all.

    Args:
        num_layers: L, how many blocks are passed through.
        intermediate_dim, num_heads, **block: as `TransformerDecoder` has them; every block gets the same, as in
            `TransformerEncoderStack`.
        final_normalization, num_distinct_layers, layer_loop, rematerialization: as `TransformerEncoderStack`.

    Call arguments:
        decoder_sequence, encoder_sequence, decoder_padding_mask, decoder_attention_mask, encoder_padding_mask,
            encoder_attention_mask, use_causal_mask, training, return_attention_scores, segment_ids, key_segment_ids,
            encoder_segment_ids, positions, key_positions, prefix_length: as `TransformerDecoder`.
        cache: a `DecoderCache` from `create_cache` or an earlier call, with a cache for each pass through a block;
            then `cache_update_index` says where the T tokens stand.
        cache_update_index: int or int32 scalar, or int32 `[B]` for rows that stand at different places.

    Returns:
        `[B, T, D]`; then, if asked for, a list of L self-attention scores and (with cross attention) one of L
        cross-attention scores; then the new `DecoderCache` if one was given.

    Masking:
        As `TransformerDecoder`, in every block.

    Example:

    >>> import keras
    >>> decoder = TransformerDecoderStack(num_layers=2, intermediate_dim=64, num_heads=4)
    >>> x = keras.random.normal((2, 5, 32))
    >>> whole = decoder(x)
    >>> cache = decoder.create_cache(batch_size=2, length=5)
    >>> first, cache = decoder(x[:, :3], cache=cache, cache_update_index=0)
    >>> second, cache = decoder(x[:, 3:], cache=cache, cache_update_index=3)
    >>> bool(keras.ops.max(keras.ops.abs(whole[:, 3:] - second)) < 1e-5)
    True
    """

    block_class = TransformerDecoder

    def build(self, decoder_sequence_shape, encoder_sequence_shape=None):
        """Makes the blocks for the shapes of the sequences."""
        for block in self.blocks:
            block.build(decoder_sequence_shape, encoder_sequence_shape)
        self._build_final_norm(decoder_sequence_shape)

    def call(
        self,
        decoder_sequence,
        encoder_sequence=None,
        decoder_padding_mask=None,
        decoder_attention_mask=None,
        encoder_padding_mask=None,
        encoder_attention_mask=None,
        cache=None,
        cache_update_index=None,
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
        """Applies the blocks in order."""
        arguments = {
            "encoder_sequence": encoder_sequence,
            "decoder_padding_mask": decoder_padding_mask,
            "decoder_attention_mask": decoder_attention_mask,
            "encoder_padding_mask": encoder_padding_mask,
            "encoder_attention_mask": encoder_attention_mask,
            "self_attention_cache_update_index": cache_update_index,
            "use_causal_mask": use_causal_mask,
            "training": training,
            "return_attention_scores": return_attention_scores,
            "segment_ids": segment_ids,
            "key_segment_ids": key_segment_ids,
            "encoder_segment_ids": encoder_segment_ids,
            "positions": positions,
            "key_positions": key_positions,
            "prefix_length": prefix_length,
            "mask": mask,
            "decoder_sequence_mask": decoder_sequence_mask,
            "encoder_sequence_mask": encoder_sequence_mask,
        }
        x, outputs = self._call_blocks(decoder_sequence, arguments, _arguments_of_passes(cache))
        implicit_mask = all_of([mask, decoder_sequence_mask])
        real = real_tokens(
            implicit_mask, "decoder_padding_mask", decoder_padding_mask, decoder_sequence, cache_update_index
        )
        x = self._end(x, real, training)
        return self._pack(x, outputs, cache is not None)

    def _pack(self, x, outputs, has_cache):
        columns = [list(column) for column in zip(*outputs, strict=True)]
        if has_cache:
            num_caches = 1 + self.has_cross_attention
            caches = DecoderCache(*(tuple(column) for column in columns[-num_caches:]))
            columns = [*columns[:-num_caches], caches]
        return (x, *columns) if columns else x

    @property
    def has_cross_attention(self):
        """Whether the blocks were built with cross attention."""
        return self.blocks[0].cross_attention is not None

    def create_cache(self, batch_size, length, encoder_sequence=None, encoder_padding_mask=None, *, kind=None):
        """An empty cache for `length` positions; the cross attention's keys and values are already computed.

        The stack must be built.

        Args:
            batch_size: B, an int or int32 scalar.
            length: how many positions are going to be decoded.
            encoder_sequence: float `[B, S, E]`, needed with cross attention.
            encoder_padding_mask: bool `[B, S]`, for attention layers whose caches are sums over what is real
                (`LinearAttention`). Others get it by each call.
            kind: of the self-attention's caches, as `MultiHeadAttention.create_cache` has it; `None` leaves it to each
                attention layer.

        Raises:
            ValueError: `encoder_sequence` is missing, or given to a stack without cross attention.
        """
        if self.has_cross_attention != (encoder_sequence is not None):
            raise ValueError(
                "`encoder_sequence` is needed exactly if the stack has cross attention. "
                f"Received: encoder_sequence={encoder_sequence if encoder_sequence is None else encoder_sequence.shape}"
            )
        own = self.create_self_attention_caches(batch_size, length, kind=kind)
        if not self.has_cross_attention:
            return DecoderCache(own)
        return DecoderCache(own, self.project_memory(encoder_sequence, encoder_padding_mask))

    def create_self_attention_caches(self, batch_size, length, *, kind=None):
        """A tuple of one empty cache for each pass through a block; see `create_cache`."""
        options = {} if kind is None else {"kind": kind}
        return tuple(block.self_attention.create_cache(batch_size, length, **options) for block in self.passes)

    def project_memory(self, encoder_sequence, encoder_padding_mask=None):
        """A tuple of the cross attention's keys and values for each pass through a block; see `create_cache`.

        A cache with these may be called with more rows than they have, such as the K beams of each sentence: row r
        attends to the memory of row r // K.
        """
        return tuple(
            project_memory(block.cross_attention, encoder_sequence, encoder_padding_mask) for block in self.passes
        )

    def compute_output_spec(
        self, decoder_sequence, encoder_sequence=None, *args, cache=None, return_attention_scores=False, **kwargs
    ):
        """The specification of all outputs, scores and caches included."""
        specs = [
            block.compute_output_spec(
                decoder_sequence,
                encoder_sequence,
                self_attention_cache=None if cache is None else cache[0][i],
                cross_attention_cache=cache[1][i] if cache is not None and cache[1] else None,
                return_attention_scores=return_attention_scores,
            )
            for i, block in enumerate(self.passes)
        ]
        specs = [spec if isinstance(spec, tuple) else (spec,) for spec in specs]
        return self._pack(specs[0][0], [spec[1:] for spec in specs], cache is not None)

    def compute_output_shape(self, decoder_sequence_shape, encoder_sequence_shape=None):
        """`[B, T, D]`, as the decoder sequence."""
        return tuple(decoder_sequence_shape)


def _arguments_of_passes(cache):
    """What of a `DecoderCache` each pass through a block gets; `None` for `None`."""
    if cache is None:
        return None
    own, memories = cache[0], cache[1] or [None] * len(cache[0])
    names = ("self_attention_cache", "cross_attention_cache")
    return [dict(zip(names, pair, strict=True)) for pair in zip(own, memories, strict=True)]
