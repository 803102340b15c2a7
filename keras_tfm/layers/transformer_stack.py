"""N blocks in a row and a final normalization: the encoder and the decoder for those who don't want a loop."""

from typing import Any, NamedTuple

import keras

from keras_tfm.layers.parts import clone_part, make_normalization, serialize_part
from keras_tfm.layers.transformer_decoder import TransformerDecoder
from keras_tfm.layers.transformer_encoder import TransformerEncoder


class DecoderCache(NamedTuple):
    """The caches of a `TransformerDecoderStack`, one value for a decoding loop. Every leaf is batch-first.

    Args:
        self_attention: tuple of one `KVCache` a block.
        cross_attention: tuple of one `KVCache` a block; empty without cross attention.
    """

    self_attention: Any
    cross_attention: Any = ()


class TransformerStack(keras.layers.Layer):
    """Base of the two stacks."""

    block_class = None

    def __init__(
        self,
        num_layers,
        intermediate_dim,
        num_heads,
        *,
        final_normalization=None,
        name=None,
        dtype=None,
        trainable=True,
        **block,
    ):
        super().__init__(name=name, dtype=dtype, trainable=trainable)
        if not isinstance(num_layers, int) or num_layers <= 0:
            raise ValueError(f"`num_layers` must be a positive integer. Received: num_layers={num_layers!r}")
        self.supports_masking = True
        self.num_layers = num_layers
        self.final_normalization = final_normalization
        template = self.block_class(intermediate_dim, num_heads, dtype=self.dtype_policy, **block)
        self._block_config = template.get_config()
        self.blocks = [clone_part(template) for _ in range(num_layers)]

    def _build_final_norm(self, shape):
        kind = self.final_normalization
        if kind is None:
            kind = self.blocks[0].normalization if self.blocks[0].normalize_first else "none"
        self.final_norm = None
        if kind != "none":
            self.final_norm = make_normalization(
                kind, self.blocks[0].layer_norm_epsilon, self.dtype_policy, "final_norm"
            )
            self.final_norm.build(shape)

    def _finish(self, x):
        return x if self.final_norm is None else self.final_norm(x)

    def get_config(self):
        """The constructor's arguments."""
        block = {key: value for key, value in self._block_config.items() if key not in ("name", "trainable", "dtype")}
        return {
            **super().get_config(),
            **block,
            "num_layers": self.num_layers,
            "final_normalization": serialize_part(self.final_normalization),
        }


@keras.saving.register_keras_serializable(package="keras_tfm")
class TransformerEncoderStack(TransformerStack):
    """N encoder blocks and a final normalization.

    Args:
        num_layers: L, the number of blocks.
        intermediate_dim, num_heads, **block: as `TransformerEncoder` has them; every block gets the same.
        final_normalization: `"layer"`, `"rms"`, a layer, `"none"`; `None` means the blocks' own kind if they are
            pre-norm, else none.

    Call arguments:
        inputs, padding_mask, attention_mask, training, return_attention_scores, segment_ids, mask, inputs_mask: as
            `TransformerEncoder`.

    Returns:
        `[B, T, D]`; with scores `([B, T, D], list of L scores [B, N, T, T])`.

    Masking:
        As `TransformerEncoder`, in every block.

    Reference:
        Vaswani et al. 2017, section 3.1.

    Example:

    >>> import keras
    >>> encoder = TransformerEncoderStack(num_layers=2, intermediate_dim=64, num_heads=4)
    >>> tuple(encoder(keras.random.normal((2, 5, 32))).shape)
    (2, 5, 32)
    """

    block_class = TransformerEncoder

    def build(self, inputs_shape):
        """Makes the blocks for inputs `[B, T, D]`."""
        for block in self.blocks:
            block.build(inputs_shape)
        self._build_final_norm(inputs_shape)

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
        """Applies the blocks in order."""
        x, scores = inputs, []
        for block in self.blocks:
            x = block(
                x,
                padding_mask=padding_mask,
                attention_mask=attention_mask,
                training=training,
                return_attention_scores=return_attention_scores,
                segment_ids=segment_ids,
                mask=mask,
                inputs_mask=inputs_mask,
            )
            if return_attention_scores:
                x, block_scores = x
                scores.append(block_scores)
        x = self._finish(x)
        return (x, scores) if return_attention_scores else x

    def compute_output_spec(self, inputs, *args, return_attention_scores=False, **kwargs):
        """The specification of the outputs, scores included."""
        spec = self.blocks[0].compute_output_spec(inputs, return_attention_scores=return_attention_scores)
        return (spec[0], [spec[1]] * self.num_layers) if return_attention_scores else spec

    def compute_output_shape(self, inputs_shape):
        """`[B, T, D]`, as the inputs."""
        return tuple(inputs_shape)


@keras.saving.register_keras_serializable(package="keras_tfm")
class TransformerDecoderStack(TransformerStack):
    """N decoder blocks and a final normalization, with one cache object for all.

    Args:
        num_layers: L, the number of blocks.
        intermediate_dim, num_heads, **block: as `TransformerDecoder` has them; every block gets the same.
        final_normalization: as `TransformerEncoderStack`.

    Call arguments:
        decoder_sequence, encoder_sequence, decoder_padding_mask, decoder_attention_mask, encoder_padding_mask,
        encoder_attention_mask,
            use_causal_mask, training, return_attention_scores, segment_ids: as `TransformerDecoder`.
        cache: a `DecoderCache` from `create_cache` or an earlier call; then `cache_update_index` says where the T
            tokens stand.
        cache_update_index: int or int32 scalar.

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
        mask=None,
        decoder_sequence_mask=None,
        encoder_sequence_mask=None,
    ):
        """Applies the blocks in order."""
        x, outputs = decoder_sequence, []
        for i, block in enumerate(self.blocks):
            results = block(
                x,
                encoder_sequence,
                decoder_padding_mask=decoder_padding_mask,
                decoder_attention_mask=decoder_attention_mask,
                encoder_padding_mask=encoder_padding_mask,
                encoder_attention_mask=encoder_attention_mask,
                self_attention_cache=None if cache is None else cache[0][i],
                self_attention_cache_update_index=cache_update_index,
                cross_attention_cache=cache[1][i] if cache is not None and cache[1] else None,
                use_causal_mask=use_causal_mask,
                training=training,
                return_attention_scores=return_attention_scores,
                segment_ids=segment_ids,
                mask=mask,
                decoder_sequence_mask=decoder_sequence_mask,
                encoder_sequence_mask=encoder_sequence_mask,
            )
            x, *rest = results if isinstance(results, tuple) else (results,)
            outputs.append(rest)
        x = self._finish(x)
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

    def create_cache(self, batch_size, length, encoder_sequence=None):
        """An empty cache for `length` positions; the cross attention's keys and values are already computed.

        The stack must be built.

        Args:
            batch_size: B, an int or int32 scalar.
            length: how many positions are going to be decoded.
            encoder_sequence: float `[B, S, E]`, needed with cross attention.

        Raises:
            ValueError: `encoder_sequence` is missing, or given to a stack without cross attention.
        """
        if self.has_cross_attention != (encoder_sequence is not None):
            raise ValueError(
                "`encoder_sequence` is needed exactly if the stack has cross attention. "
                f"Received: encoder_sequence={encoder_sequence if encoder_sequence is None else encoder_sequence.shape}"
            )
        own = tuple(block.self_attention.create_cache(batch_size, length) for block in self.blocks)
        if not self.has_cross_attention:
            return DecoderCache(own)
        return DecoderCache(own, tuple(block.cross_attention.project_memory(encoder_sequence) for block in self.blocks))

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
            for i, block in enumerate(self.blocks)
        ]
        specs = [spec if isinstance(spec, tuple) else (spec,) for spec in specs]
        return self._pack(specs[0][0], [spec[1:] for spec in specs], cache is not None)

    def compute_output_shape(self, decoder_sequence_shape, encoder_sequence_shape=None):
        """`[B, T, D]`, as the decoder sequence."""
        return tuple(decoder_sequence_shape)
