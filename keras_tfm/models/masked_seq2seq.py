"""The conditional masked language model: an encoder, a decoder that sees both sides, and all tokens at once."""

import keras
import numpy as np
from keras import ops, tree

from keras_tfm import backend
from keras_tfm.generation.mask_predict import mask_predict
from keras_tfm.generation.step_protocol import check_integer
from keras_tfm.layers import Dropout, PositionalEmbedding, TransformerDecoderStack, TransformerEncoderStack
from keras_tfm.models.generation_mixin import Generated
from keras_tfm.models.masked_targets import mask_targets
from keras_tfm.models.token_ids import CheckedTokenIds, check_token_ids


@keras.saving.register_keras_serializable(package="keras_tfm")
class MaskedSeq2Seq(CheckedTokenIds, keras.Model):
    """Encoder-decoder Transformer that predicts masked tokens of the target, and the target's length; Functional.

    It decodes all positions at once and again those that it is least sure of (mask-predict), where
    `Seq2SeqTransformer` needs a step for each token. Ids are those of the text; two more are the model's own: `mask_id`
    is V, and V + 1 stands before the source, where the length is read off.

    Args:
        vocabulary_size: V, one vocabulary for source and target. Id 0 is padding.
        num_layers: blocks of the encoder and of the decoder: an int or a pair.
        hidden_dim: D.
        intermediate_dim: F.
        num_heads: N.
        max_target_length: the longest target, in tokens; a class of the length head each.
        dropout: rate on embeddings, on each sub-layer's output and on the scores.
        attention_dropout, activation_dropout, activation, normalize_first, num_key_value_heads, normalization: as in
            `TransformerEncoder`.
        position: `"sinusoidal"` or `"learned"`. Relative positions alone cannot do: where all of a target is hidden,
            its places would be alike.
        sequence_length: the most positions that learned positions have; a source takes one more than its tokens.
        **kwargs: `keras.Model` arguments.

    Call arguments:
        inputs: dict of `"source_ids"` int `[B, S]` and `"target_ids"` int `[B, T]`, the target without START and END,
            with `mask_id` at what is hidden; `training_batch` makes them.

    Returns:
        dict of `"tokens"`, logits `[B, T, V]` of each position's own token, and `"length"`, logits
        `[B, max_target_length + 1]` of the number of tokens.

    Masking:
        Id 0 is padding on both sides. The decoder has no causal mask: every token sees all of the target.

    Raises:
        ValueError: sizes that do not fit, or ids outside the vocabulary.

    Reference:
        Ghazvininejad et al. 2019, "Mask-Predict: Parallel Decoding of Conditional Masked Language Models".

    Example:

    >>> model = MaskedSeq2Seq(20, num_layers=1, hidden_dim=16, intermediate_dim=32, num_heads=2, max_target_length=8)
    >>> model.compile("adam", loss=model.losses_of_outputs())
    >>> rng, ids = np.random.default_rng(0), np.array([[5, 6, 7], [8, 9, 0]])
    >>> losses = model.train_on_batch(*model.training_batch(ids, ids, rng))
    >>> model.generate(ids, num_iterations=2).sequences.shape
    (2, 8)
    """

    def __init__(
        self,
        vocabulary_size,
        num_layers=6,
        hidden_dim=512,
        intermediate_dim=2048,
        num_heads=8,
        *,
        max_target_length=128,
        dropout=0.1,
        attention_dropout=None,
        activation_dropout=0.0,
        activation="relu",
        normalize_first=False,
        num_key_value_heads=None,
        normalization="layer",
        position="sinusoidal",
        sequence_length=512,
        dtype=None,
        **kwargs,
    ):
        if position not in ("sinusoidal", "learned"):
            raise ValueError(f"`position` must be 'sinusoidal' or 'learned'. Received: position={position!r}")
        max_target_length = check_integer("max_target_length", max_target_length, minimum=1)
        if position == "learned" and max_target_length > sequence_length:
            raise ValueError(
                f"`max_target_length` must be within the {sequence_length} learned positions. "
                f"Received: max_target_length={max_target_length}"
            )
        dtype = keras.dtype_policies.get(dtype)
        encoder_layers, decoder_layers = (num_layers, num_layers) if isinstance(num_layers, int) else num_layers
        block = dict(
            intermediate_dim=intermediate_dim,
            num_heads=num_heads,
            dropout=dropout,
            attention_dropout=attention_dropout,
            activation_dropout=activation_dropout,
            activation=activation,
            normalize_first=normalize_first,
            num_key_value_heads=num_key_value_heads,
            normalization=normalization,
            dtype=dtype,
        )
        embedding = PositionalEmbedding(
            vocabulary_size + 2,
            sequence_length,
            hidden_dim,
            embeddings_initializer=keras.initializers.RandomNormal(stddev=hidden_dim**-0.5),
            mask_zero=True,
            position=position,
            embedding_scale="sqrt",
            dtype=dtype,
            name="embedding",
        )
        encoder = TransformerEncoderStack(encoder_layers, name="encoder", **block)
        decoder = TransformerDecoderStack(decoder_layers, name="decoder", **block)
        length_head = keras.layers.Dense(max_target_length + 1, dtype=dtype, name="length_head")
        drop = [Dropout(dropout, dtype=dtype, name=f"{side}_dropout") for side in ("source", "target")]

        source_ids = keras.Input((None,), dtype="int32", name="source_ids")
        target_ids = keras.Input((None,), dtype="int32", name="target_ids")
        read = ops.pad(source_ids, ((0, 0), (1, 0)), constant_values=vocabulary_size + 1)
        memory = encoder(drop[0](embedding(read)))
        hidden = decoder(drop[1](embedding(target_ids)), memory, use_causal_mask=False)
        outputs = {
            "tokens": embedding(hidden, reverse=True)[:, :, :vocabulary_size],
            "length": length_head(memory[:, 0]),
        }
        super().__init__(inputs={"source_ids": source_ids, "target_ids": target_ids}, outputs=outputs, **kwargs)

        self.dtype_policy = dtype
        self.embedding, self.encoder, self.decoder, self.length_head = embedding, encoder, decoder, length_head
        self.mask_id, self.max_target_length = vocabulary_size, max_target_length
        self.token_id_limits = {"source_ids": vocabulary_size, "target_ids": vocabulary_size + 1}
        self.max_positions = sequence_length if position == "learned" else None
        self._config = {
            **block,
            "dtype": keras.dtype_policies.serialize(dtype),
            "activation": keras.activations.serialize(keras.activations.get(activation)),
            "vocabulary_size": vocabulary_size,
            "num_layers": num_layers,
            "hidden_dim": hidden_dim,
            "max_target_length": max_target_length,
            "position": position,
            "sequence_length": sequence_length,
        }

    def losses_of_outputs(self):
        """The losses for `compile`: cross entropy, the mean over hidden tokens, and over sentences for lengths."""
        cross_entropy = keras.losses.SparseCategoricalCrossentropy
        return {
            name: cross_entropy(from_logits=True, reduction="mean_with_sample_weight", name=name)
            for name in ("tokens", "length")
        }

    def training_batch(self, source_ids, target_ids, rng, *, length_weight=0.1):
        """Inputs, targets and weights for `fit` or `train_on_batch`; draw anew for each epoch.

        Args:
            source_ids: int `[B, S]`, padded with 0.
            target_ids: int `[B, T]` without START and END, padded with 0.
            rng: `numpy.random.Generator` that draws what is hidden.
            length_weight: what a length counts beside the tokens. Default 0.1.

        Returns:
            `(inputs, targets, sample_weights)`, dicts of numpy arrays.

        Raises:
            ValueError: ids outside the vocabulary, or targets that are too long.
        """
        source_ids, target_ids = np.asarray(source_ids, "int32"), np.asarray(target_ids, "int32")
        for name, ids in (("source_ids", source_ids), ("target_ids", target_ids)):
            check_token_ids(name, ids, self.mask_id)
        masked_ids, is_masked = mask_targets(target_ids, rng, self.mask_id)
        lengths = (target_ids != 0).sum(1).astype("int32")
        if (lengths > self.max_target_length).any():
            raise ValueError(
                f"Targets must have at most `max_target_length` = {self.max_target_length} tokens. "
                f"Received: one of {lengths.max()}"
            )
        weights = {"tokens": is_masked.astype("float32"), "length": np.full(len(lengths), length_weight, "float32")}
        return {"source_ids": source_ids, "target_ids": masked_ids}, {"tokens": target_ids, "length": lengths}, weights

    def generate(self, source_ids, *, num_iterations=10, num_length_candidates=5):
        """Translates ids to ids by mask-predict, compiled once for each batch size and bucket of lengths.

        Args:
            source_ids: int `[B, S]`, padded with 0, or B sequences of ids.
            num_iterations: T, passes of the decoder.
            num_length_candidates: K, the most probable lengths, which are decoded side by side. The one whose tokens
                have the highest mean log-probability wins.

        Returns:
            `Generated` with `sequences [B, max_target_length]`, padded with 0; `scores` are mean log-probabilities.
            Padding is never generated.

        Raises:
            ValueError: bad numbers, more candidates than lengths, ids outside the vocabulary, or sources beyond learned
                positions.
        """
        num_candidates = check_integer("num_length_candidates", num_length_candidates, minimum=1)
        if num_candidates > self.max_target_length:
            raise ValueError(
                f"`num_length_candidates` must be at most `max_target_length` = {self.max_target_length}. "
                f"Received: num_length_candidates={num_candidates}"
            )
        num_iterations = check_integer("num_iterations", num_iterations, minimum=1)
        source_ids = self._pad_sources(source_ids)
        memory, lengths = self._program("encode", num_candidates)(ops.convert_to_tensor(source_ids))
        longest = int(ops.convert_to_numpy(lengths).max(initial=1))
        longest = min(longest + -longest % 8, self.max_target_length)
        found = self._program("decode", num_iterations, longest)(memory, lengths)
        sequences, scores, lengths = (ops.convert_to_numpy(each) for each in found)
        sequences = np.pad(sequences, ((0, 0), (0, self.max_target_length - longest)))
        return Generated(sequences, scores, lengths)

    def _program(self, name, *settings):
        """A compiled part of decoding, kept as long as the weights are the same variables."""
        programs = self.__dict__.setdefault("_generation_programs", {})
        key = (name, *settings, *map(id, self.variables))
        if key not in programs:
            part = self._encode if name == "encode" else self._decode
            programs[key] = backend.compile_loop(lambda *inputs: part(*inputs, *settings), self.variables)
        return programs[key]

    def _encode(self, source_ids, num_candidates):
        """What the decoder reads, and the most probable lengths int32 `[B, K]`."""
        read = ops.pad(source_ids, ((0, 0), (1, 0)), constant_values=self.mask_id + 1)
        encoded = self.encoder(self.embedding(read), training=False)
        logits = ops.cast(self.length_head(encoded[:, 0]), "float32")[:, 1:]  # no target is empty
        lengths = ops.cast(ops.top_k(logits, num_candidates)[1], "int32") + 1
        return (encoded, ops.not_equal(read, 0)), lengths

    def _decode(self, memory, lengths, num_iterations, max_length):
        memory = tree.map_structure(lambda x: ops.repeat(x, lengths.shape[1], axis=0), memory)

        def predict(tokens, padding_mask, memory):
            encoded, is_real = memory
            hidden = self.decoder(
                self.embedding(tokens),
                encoded,
                decoder_padding_mask=padding_mask,
                encoder_padding_mask=is_real,
                use_causal_mask=False,
                training=False,
            )
            logits = self.embedding(hidden, reverse=True)[:, :, : self.mask_id]
            return ops.where(ops.equal(ops.arange(self.mask_id), 0), -float("inf"), ops.cast(logits, "float32"))

        return mask_predict(
            predict,
            lengths,
            max_length=max_length,
            mask_id=self.mask_id,
            num_iterations=num_iterations,
            memory=memory,
        )

    def _pad_sources(self, source_ids):
        """int32 `[B, S]` with S a multiple of 8: few lengths, so that few programs are compiled."""
        rows = [np.asarray(row, "int32") for row in source_ids]
        longest = max((len(row) for row in rows), default=0)
        width = longest + -longest % 8
        if self.max_positions is not None and longest + 1 > self.max_positions:
            raise ValueError(
                f"Sources and one place more must be within the {self.max_positions} learned positions. "
                f"Received: a source of {longest} tokens"
            )
        width = min(width, self.max_positions - 1) if self.max_positions is not None else width
        padded = np.zeros((len(rows), width), "int32")
        for row, target in zip(rows, padded, strict=True):
            target[: len(row)] = row
        check_token_ids("source_ids", padded, self.token_id_limits["source_ids"])
        return padded

    def get_config(self):
        """The constructor's arguments."""
        return {**self._config, "name": self.name, "trainable": self.trainable}

    @classmethod
    def from_config(cls, config, custom_objects=None):
        """Makes the model from its configuration."""
        return cls(**config)
