"""The Transformer of the paper: an encoder, a decoder, and translation by either search."""

import math

import keras
import numpy as np
from keras import ops

from keras_tfm import backend
from keras_tfm.generation import beam_search, greedy_search
from keras_tfm.layers import PositionalEmbedding, TransformerDecoderStack, TransformerEncoderStack
from keras_tfm.models.token_ids import CheckedTokenIds, check_token_ids


@keras.saving.register_keras_serializable(package="keras_tfm")
class Seq2SeqTransformer(CheckedTokenIds, keras.Model):
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
        attention_dropout, activation_dropout, activation, normalize_first, num_key_value_heads, normalization: as in
            `TransformerEncoder`.
        position: `"sinusoidal"`, `"learned"`, or `"rope"` for rotary positions inside self-attention.
        sequence_length: the most positions that learned positions have.
        start_id, end_id: ids that begin and end a target. Id 0 is padding.
        **kwargs: `keras.Model` arguments.

    Call arguments:
        inputs: dict of `"source_ids"` int `[B, S]` and `"target_ids"` int `[B, T]`, the target shifted right: it
            begins with `start_id`.

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
            dtype=dtype,
        )
        is_joint = target_vocabulary_size is None
        source_embedding = embedding(vocabulary_size, "embedding" if is_joint else "source_embedding")
        target_embedding = source_embedding if is_joint else embedding(target_vocabulary_size, "target_embedding")
        encoder = TransformerEncoderStack(encoder_layers, name="encoder", **block)
        decoder = TransformerDecoderStack(decoder_layers, name="decoder", **block)
        drop = [keras.layers.Dropout(dropout, dtype=dtype, name=f"{side}_dropout") for side in ("source", "target")]

        source_ids = keras.Input((None,), dtype="int32", name="source_ids")
        target_ids = keras.Input((None,), dtype="int32", name="target_ids")
        memory = encoder(drop[0](source_embedding(source_ids)))
        hidden = decoder(drop[1](target_embedding(target_ids)), memory)
        logits = target_embedding(hidden, reverse=True)
        super().__init__(inputs={"source_ids": source_ids, "target_ids": target_ids}, outputs=logits, **kwargs)

        self.dtype_policy = dtype
        self.source_embedding, self.target_embedding = source_embedding, target_embedding
        self.encoder, self.decoder = encoder, decoder
        self.start_id, self.end_id = start_id, end_id
        self.token_id_limits = {"source_ids": vocabulary_size, "target_ids": target_size}
        self.max_positions = sequence_length if position == "learned" else None
        self._programs = {}
        self._config = {
            **block,
            "dtype": keras.dtype_policies.serialize(dtype),
            "activation": keras.activations.serialize(keras.activations.get(activation)),
            "vocabulary_size": vocabulary_size,
            "num_layers": num_layers,
            "hidden_dim": hidden_dim,
            "target_vocabulary_size": target_vocabulary_size,
            "position": position,
            "sequence_length": sequence_length,
            "start_id": start_id,
            "end_id": end_id,
        }

    def encode(self, source_ids):
        """The encoder's output `[B, S, D]` for int `[B, S]`."""
        return self.encoder(self.source_embedding(source_ids), training=False)

    def decode(self, source_ids, *, max_length, num_beams=1, length_penalty=0.6):
        """Translates ids to ids, compiled and cached.

        Args:
            source_ids: int `[B, S]`, padded with 0.
            max_length: the most tokens of an output, END included.
            num_beams: 1 is greedy search.
            length_penalty: α of Wu et al. 2016, for more than one beam.

        Returns:
            `(sequences [B, max_length] int32, scores [B] float32, lengths [B] int32)` as numpy arrays: the best
            hypothesis without START, padded with 0 after END; the sum of its log-probabilities; its length with END.
            Padding is never generated: probabilities are those of the other ids.

        Raises:
            ValueError: ids outside the vocabulary, or lengths beyond a learned position table.
        """
        source_ids = np.asarray(source_ids, "int32")
        if source_ids.ndim != 2:
            raise ValueError(f"`source_ids` must be [B, S]. Received: source_ids.shape={source_ids.shape}")
        check_token_ids("source_ids", source_ids, self.token_id_limits["source_ids"])
        length = source_ids.shape[1]
        if self.max_positions is not None and max(length, max_length) > self.max_positions:
            raise ValueError(
                f"Sources and `max_length` must be within the {self.max_positions} learned positions. "
                f"Received: source_ids.shape={source_ids.shape}, max_length={max_length}"
            )
        # Few lengths, so that few programs are compiled.
        padded_length = min(length + -length % 8, self.max_positions or math.inf)
        source_ids = np.pad(source_ids, ((0, 0), (0, padded_length - length)))
        program = self._program(max_length, num_beams, length_penalty)
        return tuple(ops.convert_to_numpy(output) for output in program(ops.convert_to_tensor(source_ids)))

    def _program(self, *settings):
        variables = self.variables
        key = (*settings, *map(id, variables))
        if key not in self._programs:
            self._programs[key] = backend.compile_loop(
                lambda source_ids: self._search(source_ids, *settings), variables
            )
        return self._programs[key]

    def _search(self, source_ids, max_length, num_beams, length_penalty):
        memory = self.encode(source_ids)
        batch_size = ops.shape(source_ids)[0]
        is_real = ops.not_equal(source_ids, 0)
        state = (self.decoder.create_cache(batch_size, max_length, memory, is_real), is_real)
        start = ops.full((batch_size,), self.start_id, dtype="int32")
        if num_beams == 1:
            return greedy_search(self.decode_step, state, start, max_length=max_length, end_id=self.end_id)
        outputs = beam_search(
            self.decode_step,
            state,
            start,
            num_beams=num_beams,
            max_length=max_length,
            end_id=self.end_id,
            length_penalty=length_penalty,
        )
        return tuple(output[:, 0] for output in outputs)

    def decode_step(self, tokens, index, state):
        """One step of the decoder, in the protocol of `keras_tfm.generation`.

        Args:
            tokens: int `[B]`, the tokens at position `index`.
            index: int32 scalar.
            state: `(DecoderCache, bool [B, S])`, the caches and where the source is real.

        Returns:
            `(logits [B, V], state)`, the logit of padding -inf.
        """
        cache, source_mask = state
        x = self.target_embedding(tokens[:, None], start_index=index)
        x, cache = self.decoder(
            x, encoder_padding_mask=source_mask, cache=cache, cache_update_index=index, training=False
        )
        logits = self.target_embedding(x[:, 0], reverse=True)
        is_padding = ops.arange(ops.shape(logits)[-1]) == 0
        return ops.where(is_padding, -np.inf, logits), (cache, source_mask)

    def cross_attention_scores(self, source_ids, target_ids):
        """What each target position attends to: numpy `[L, B, N, T, S]` for int `[B, S]` and `[B, T]`."""
        source_ids, target_ids = (ops.convert_to_tensor(ids, dtype="int32") for ids in (source_ids, target_ids))
        _, _, scores = self.decoder(
            self.target_embedding(target_ids), self.encode(source_ids), return_attention_scores=True, training=False
        )
        return np.stack([ops.convert_to_numpy(layer) for layer in scores])

    def get_config(self):
        """The constructor's arguments."""
        return {**self._config, "name": self.name, "trainable": self.trainable}

    @classmethod
    def from_config(cls, config, custom_objects=None):
        """Makes the model from its configuration."""
        return cls(**config)
