"""The Transformer of the paper: an encoder, a decoder, and translation by either search."""

import keras
import numpy as np
from keras import ops

from keras_tfm.generation import get_strategy
from keras_tfm.layers import Dropout, PositionalEmbedding, TransformerDecoderStack, TransformerEncoderStack
from keras_tfm.layers.decoder_cache import DecoderCache
from keras_tfm.models.encoder_block import encoder_block
from keras_tfm.models.generation_mixin import Generated, Generates
from keras_tfm.models.packed_inputs import PackedInputs
from keras_tfm.models.source_rows import pad_sources
from keras_tfm.models.token_ids import CheckedTokenIds
from keras_tfm.models.translating import Translates


@keras.saving.register_keras_serializable(package="keras_tfm")
class Seq2SeqTransformer(CheckedTokenIds, Generates, Translates, keras.Model):
    """Encoder-decoder Transformer over token ids; a Functional model.

    Args:
        vocabulary_size: V of the source, and of the target too unless `target_vocabulary_size` is given.
        num_layers: blocks of the encoder and of the decoder: an int or a pair.
        hidden_dim: D.
        intermediate_dim: F.
        num_heads: N.
        target_vocabulary_size: V of the target. `None` means one joint vocabulary: encoder, decoder and output share
            one matrix, as in the paper.
        dropout: rate on embeddings, on each sub-layer's output and on the scores.
        attention_dropout, activation_dropout, activation, normalize_first, num_key_value_heads, normalization,
            layer_loop, rematerialization: as in `TransformerEncoderStack`.
        position: `"sinusoidal"`, `"learned"`, or `"rope"` for rotary positions inside self-attention.
        sequence_length: the most positions that learned positions have.
        start_id, end_id: ids that begin and end a target. Id 0 is padding.
        encoder: `"attention"`, or what mixes the source's tokens in its place: `"lstm"`, `"gru"` (both ways) or
            `"conv"` (over three tokens). Then rotary positions, packed rows and arguments of attention are refused.
        packed: whether rows hold several pairs, as `keras_tfm.text.PackedTranslationBatches` has them. The weights are
            the same, and `generate`, `decode` and `score` take what they always take. Defaults to `False`.
        **kwargs: `keras.Model` arguments.

    Call arguments:
        inputs: dict of `"source_ids"` int `[B, S]` and `"target_ids"` int `[B, T]`, the target shifted right: it
            begins with `start_id`. If `packed`, also `"source_segment_ids"`, `"source_positions"`,
            `"target_segment_ids"` and `"target_positions"`: a target sees itself and the source of its own segment.

    Returns:
        logits `[B, T, V]`.

    Masking:
        Id 0 is padding on both sides. The logits carry the target's mask, so that losses and metrics leave padding out.

    Raises:
        ValueError: sizes that do not fit, or ids outside the vocabulary.

    Reference:
        Vaswani et al. 2017, section 3.

    Example:

    >>> import numpy as np
    >>> model = Seq2SeqTransformer(20, num_layers=1, hidden_dim=16, intermediate_dim=32, num_heads=2)
    >>> sequences, scores, lengths = model.decode(np.array([[5, 6, 7, 2]]), max_length=4)
    >>> sequences.shape
    (1, 4)
    """

    forbidden_ids = (0,)

    def __init__(
        self,
        vocabulary_size,
        num_layers=6,
        hidden_dim=512,
        intermediate_dim=2048,
        num_heads=8,
        *,
        target_vocabulary_size=None,
        dropout=0.1,
        attention_dropout=None,
        activation_dropout=0.0,
        activation="relu",
        normalize_first=False,
        num_key_value_heads=None,
        normalization="layer",
        position="sinusoidal",
        sequence_length=512,
        start_id=1,
        end_id=2,
        encoder="attention",
        layer_loop="unrolled",
        rematerialization=None,
        packed=False,
        dtype=None,
        **kwargs,
    ):
        if position not in ("sinusoidal", "learned", "rope"):
            raise ValueError(f"`position` must be 'sinusoidal', 'learned' or 'rope'. Received: position={position!r}")
        target_size = vocabulary_size if target_vocabulary_size is None else target_vocabulary_size
        for argument, value in (("start_id", start_id), ("end_id", end_id)):
            if not 0 < value < target_size:
                raise ValueError(
                    f"`{argument}` must be an id of the target vocabulary other than 0, which is padding. "
                    f"Received: {argument}={value}, {target_size} target ids"
                )
        dtype = keras.dtype_policies.get(dtype)
        absolute, relative = (None, "rope") if position == "rope" else (position, None)
        encoder_layers, decoder_layers = (num_layers, num_layers) if isinstance(num_layers, int) else num_layers

        def embedding(size, name):
            return PositionalEmbedding(
                size,
                sequence_length,
                hidden_dim,
                embeddings_initializer=keras.initializers.RandomNormal(stddev=hidden_dim**-0.5),
                mask_zero=True,
                position=absolute,
                embedding_scale="sqrt",
                dtype=dtype,
                name=name,
            )

        block = dict(
            intermediate_dim=intermediate_dim,
            num_heads=num_heads,
            dropout=dropout,
            activation=activation,
            normalize_first=normalize_first,
            attention_dropout=attention_dropout,
            activation_dropout=activation_dropout,
            num_key_value_heads=num_key_value_heads,
            normalization=normalization,
            position=relative,
            layer_loop=layer_loop,
            rematerialization=rematerialization,
            dtype=dtype,
        )
        is_joint = target_vocabulary_size is None
        source_embedding = embedding(vocabulary_size, "embedding" if is_joint else "source_embedding")
        target_embedding = source_embedding if is_joint else embedding(target_vocabulary_size, "target_embedding")
        encoder_stack = TransformerEncoderStack(encoder_layers, name="encoder", **encoder_block(encoder, block, packed))
        decoder = TransformerDecoderStack(decoder_layers, name="decoder", **block)
        sides = ("source", "target")
        drop = [Dropout(dropout, dtype=dtype, name=f"{side}_dropout") for side in sides]
        source_ids, target_ids = (keras.Input((None,), dtype="int32", name=f"{side}_ids") for side in sides)
        source, target = (PackedInputs(packed, f"{side}_") for side in sides)
        memory = encoder_stack(
            drop[0](source_embedding(source_ids, positions=source.positions)),
            segment_ids=source.segment_ids,
            positions=source.positions_of_attention(relative),
        )
        hidden = decoder(
            drop[1](target_embedding(target_ids, positions=target.positions)),
            memory,
            segment_ids=target.segment_ids,
            encoder_segment_ids=source.segment_ids,
            positions=target.positions_of_attention(relative),
        )
        inputs = {"source_ids": source_ids, **source.named, "target_ids": target_ids, **target.named}
        super().__init__(inputs=inputs, outputs=target_embedding(hidden, reverse=True), **kwargs)

        self.dtype_policy = dtype
        self.source_embedding, self.target_embedding = source_embedding, target_embedding
        self.encoder, self.decoder = encoder_stack, decoder
        self.start_id, self.end_id = start_id, end_id
        self.token_id_limits = {"source_ids": vocabulary_size, "target_ids": target_size}
        self.max_positions = sequence_length if position == "learned" else None
        self._config = {
            **block,
            "dtype": keras.dtype_policies.serialize(dtype),
            "activation": keras.activations.serialize(keras.activations.get(activation)),
            **dict(vocabulary_size=vocabulary_size, target_vocabulary_size=target_vocabulary_size),
            **dict(num_layers=num_layers, hidden_dim=hidden_dim, encoder=encoder, packed=packed),
            **dict(position=position, sequence_length=sequence_length, start_id=start_id, end_id=end_id),
        }

    def encode(self, source):
        """The decoder's keys and values of int `source [B, S]`, and where it is real: what every step reads."""
        (source_ids,) = source
        is_real = ops.not_equal(source_ids, 0)
        return self.decoder.project_memory(self._encode(source_ids), is_real), is_real

    def _encode(self, source_ids):
        return self.encoder(self.source_embedding(source_ids), training=False)

    def create_cache(self, batch_size, length, kind=None):
        """Empty caches of the decoder's self-attention."""
        return self.decoder.create_self_attention_caches(batch_size, length, kind=kind)

    def extend(self, tokens, index, positions, padding_mask, cache, memory):
        """Reads target tokens that stand at `index` in the cache, and scores what follows each.

        Args:
            tokens: int `[R, T]`.
            index: int32 scalar or `[R]`, where in the cache the first of them goes.
            positions: int `[R, T]` or `[R, 1]`, where they stand in the target.
            padding_mask: bool `[R, M]`, True at places of the cache that hold real tokens, or `None`.
            cache: what `create_cache` returned.
            memory: what `encode` returned for B sources; R is a multiple of B.

        Returns:
            `(logits [R, T, V], cache)`.
        """
        cross_attention, is_real = memory
        x, cache = self.decoder(
            self.target_embedding(tokens, positions=positions),
            decoder_padding_mask=padding_mask,
            encoder_padding_mask=is_real,
            cache=DecoderCache(cache, cross_attention),
            cache_update_index=index,
            training=False,
        )
        return self.target_embedding(x, reverse=True), cache.self_attention

    def generate(self, source_ids, *, max_length, strategy="greedy", prefix=None, **options):
        """Translates ids to ids by any strategy, compiled once for each batch size, length bucket and set of settings.

        Args:
            source_ids: int `[B, S]`, padded with 0, or B sequences of ids.
            max_length: L, the most tokens of an output, END included, `prefix` not counted.
            strategy, **options: as `CausalLM.generate` has them.
            prefix: B sequences of ids that outputs have to begin with, or `None`. They are no part of the results.

        Returns:
            `Generated`. Padding is never generated: probabilities are those of the other ids.

        Raises:
            ValueError: bad settings; ids outside the vocabulary; lengths beyond learned positions.
        """
        starts, source = self._starts(source_ids, prefix)
        return super().generate(starts, max_length=max_length, strategy=strategy, source=source, **options)

    def stream(self, source_ids, *, max_length, strategy="greedy", prefix=None, **options):
        """As `generate`, an iterator that yields the tokens of each step, see `CausalLM.stream`."""
        starts, source = self._starts(source_ids, prefix)
        return super().stream(starts, max_length=max_length, strategy=strategy, source=source, **options)

    def score(self, source_ids, target_ids, *, prefix=None, **options):
        """The log-probability of each token of given translations, as `generate` would count it.

        Args:
            source_ids, prefix: as `generate` has them.
            target_ids: B sequences of ids without START, with END where it is to count; 0 behind them is padding.
            **options: as `CausalLM.score` has them.

        Returns:
            `Scored`.
        """
        starts, source = self._starts(source_ids, prefix)
        targets = [np.trim_zeros(np.asarray(row, "int32"), "b") for row in target_ids]
        return super().score(starts, targets, source=source, **options)

    def _starts(self, source_ids, prefix):
        """What targets begin with, and what `encode` takes."""
        source_ids = pad_sources(source_ids, self.token_id_limits["source_ids"], self.max_positions)
        prefix = [()] * len(source_ids) if prefix is None else prefix
        if len(prefix) != len(source_ids):
            raise ValueError(
                "`prefix` must hold one sequence for each source. "
                f"Received: {len(prefix)} prefixes, {len(source_ids)} sources"
            )
        return [[self.start_id, *each] for each in prefix], (source_ids,)

    def decode(self, source_ids, *, max_length, num_beams=1, length_penalty=0.6):
        """The best translation of each source by greedy or beam search: `generate` in its simplest form.

        Args:
            source_ids: int `[B, S]`, padded with 0.
            max_length: the most tokens of an output, END included.
            num_beams: 1 is greedy search.
            length_penalty: α of Wu et al. 2016, for more than one beam.

        Returns:
            `(sequences [B, max_length] int32, scores [B] float32, lengths [B] int32)` as numpy arrays: the best
            hypothesis without START, padded with 0 after END; the sum of its log-probabilities; its length with END.
        """
        if num_beams == 1:
            return self.generate(source_ids, max_length=max_length)
        strategy = get_strategy("beam", num_beams=num_beams, length_penalty=length_penalty, num_results=1)
        return Generated(*(each[:, 0] for each in self.generate(source_ids, max_length=max_length, strategy=strategy)))

    def cross_attention_scores(self, source_ids, target_ids):
        """What each target position attends to: numpy `[L, B, N, T, S]` for int `[B, S]` and `[B, T]`."""
        source_ids, target_ids = (ops.convert_to_tensor(ids, dtype="int32") for ids in (source_ids, target_ids))
        _, _, scores = self.decoder(
            self.target_embedding(target_ids), self._encode(source_ids), return_attention_scores=True, training=False
        )
        return np.stack([ops.convert_to_numpy(layer) for layer in scores])

    def get_config(self):
        """The constructor's arguments."""
        return {**self._config, "name": self.name, "trainable": self.trainable}

    @classmethod
    def from_config(cls, config, custom_objects=None):
        """Makes the model from its configuration."""
        return cls(**config)
