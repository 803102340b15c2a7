"""The decoder alone: a language model that reads left to right (the GPT branch)."""

import keras

from keras_tfm.layers import PositionalEmbedding, TransformerDecoderStack
from keras_tfm.models.generation_mixin import Generates
from keras_tfm.models.packed_inputs import PackedInputs
from keras_tfm.models.token_ids import CheckedTokenIds
from keras_tfm.models.translating import Completes

ABSOLUTE_POSITIONS = ("learned", "sinusoidal", None)


@keras.saving.register_keras_serializable(package="keras_tfm")
class CausalLM(CheckedTokenIds, Generates, Completes, keras.Model):
    """A Transformer decoder over token ids that predicts the next id; a Functional model.

    Args:
        vocabulary_size: V.
        num_layers: L.
        hidden_dim: D.
        intermediate_dim: F.
        num_heads: N.
        dropout: rate on the embeddings, each sub-layer's output and the scores.
        attention_dropout, activation_dropout, activation, normalize_first, num_key_value_heads, normalization,
            layer_norm_epsilon, feed_forward, use_bias: as in `TransformerDecoder`.
        position: `"learned"`, `"sinusoidal"`, `None`, or the relative positions of the attention: `"rope"`, `"alibi"`,
            or whatever `TransformerDecoder` takes.
        sequence_length: the most positions that learned positions have.
        embedding_scale: factor on the embeddings, see `PositionalEmbedding`.
        tie_weights: whether the head is the embedding matrix.
        mask_zero: whether id 0 is padding, which is never generated then.
        end_id: id that ends a text, or `None`.
        layer_loop, rematerialization: as in `TransformerDecoderStack`. The weights are the same.
        packed: whether rows hold several texts, as `keras_tfm.text.PackedBatches` has them; then the inputs are a dict
            of `"token_ids"`, `"segment_ids"` and `"positions"`. The weights are the same, and `generate` and `score`
            take what they always take. Defaults to `False`.
        **kwargs: `keras.Model` arguments.

    Call arguments:
        inputs: int `[B, T]`; if `packed` a dict of `"token_ids"`, `"segment_ids"` (a text sees itself alone) and
            `"positions"` (counted from 0 in each text), int `[B, T]`.

    Returns:
        logits `[B, T, V]` of the ids that follow.

    Masking:
        Every token sees itself and those before. With `mask_zero` id 0 is padding, and the logits carry the mask.

    Raises:
        ValueError: sizes that do not fit, or ids outside the vocabulary.

    Reference:
        Radford et al. 2019, "Language Models are Unsupervised Multitask Learners", section 2.3.

    Example:

    >>> import numpy as np
    >>> model = CausalLM(20, num_layers=1, hidden_dim=16, intermediate_dim=32, num_heads=2, sequence_length=32)
    >>> sequences, scores, lengths = model.generate([[5, 6, 7], [8]], max_length=4)
    >>> sequences.shape
    (2, 4)
    """

    def __init__(
        self,
        vocabulary_size,
        num_layers=6,
        hidden_dim=512,
        intermediate_dim=2048,
        num_heads=8,
        *,
        dropout=0.1,
        attention_dropout=None,
        activation_dropout=0.0,
        activation="gelu",
        normalize_first=True,
        num_key_value_heads=None,
        normalization="layer",
        layer_norm_epsilon=1e-5,
        feed_forward=None,
        use_bias=True,
        position="learned",
        sequence_length=512,
        embedding_scale=None,
        tie_weights=True,
        mask_zero=False,
        end_id=None,
        layer_loop="unrolled",
        rematerialization=None,
        packed=False,
        dtype=None,
        **kwargs,
    ):
        dtype = keras.dtype_policies.get(dtype)
        absolute = position if position in ABSOLUTE_POSITIONS else None
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
            layer_norm_epsilon=layer_norm_epsilon,
            feed_forward=feed_forward,
            use_bias=use_bias,
            layer_loop=layer_loop,
            rematerialization=rematerialization,
            dtype=dtype,
        )
        embedding = PositionalEmbedding(
            vocabulary_size,
            sequence_length,
            hidden_dim,
            tie_weights=tie_weights,
            embeddings_initializer=keras.initializers.RandomNormal(stddev=0.02),
            mask_zero=mask_zero,
            position=absolute,
            embedding_scale=embedding_scale,
            dropout=dropout,
            dtype=dtype,
            name="embedding",
        )
        relative = None if absolute == position else position
        decoder = TransformerDecoderStack(num_layers, position=relative, name="decoder", **block)
        token_ids, more = keras.Input((None,), dtype="int32", name="token_ids"), PackedInputs(packed)
        x = embedding(token_ids, positions=more.positions)
        x = decoder(x, segment_ids=more.segment_ids, positions=more.positions_of_attention(relative))
        inputs = {"token_ids": token_ids, **more.named} if packed else token_ids
        super().__init__(inputs=inputs, outputs=embedding(x, reverse=True), **kwargs)

        self.dtype_policy = dtype
        self.embedding, self.decoder = embedding, decoder
        self.end_id = end_id
        self.forbidden_ids = (0,) if mask_zero else ()
        self.token_id_limits = {"token_ids": vocabulary_size}
        self.max_positions = sequence_length if position == "learned" else None
        self._config = {
            **{name: value for name, value in decoder.get_config().items() if name in block or name == "position"},
            "dtype": keras.dtype_policies.serialize(dtype),
            "vocabulary_size": vocabulary_size,
            "num_layers": num_layers,
            "hidden_dim": hidden_dim,
            "sequence_length": sequence_length,
            "embedding_scale": embedding_scale,
            "tie_weights": tie_weights,
            "mask_zero": mask_zero,
            "end_id": end_id,
            "packed": packed,
        }
        if absolute == position:
            self._config["position"] = position

    def create_cache(self, batch_size, length, kind=None):
        """An empty `DecoderCache` of `length` positions; `kind` as in `MultiHeadAttention.create_cache`."""
        return self.decoder.create_cache(batch_size, length, kind=kind)

    def fill(self, tokens, index, positions, padding_mask, cache, memory=()):
        """Reads tokens into the cache; see `extend`."""
        return self._read(tokens, index, positions, padding_mask, cache)[1]

    def extend(self, tokens, index, positions, padding_mask, cache, memory=()):
        """Reads tokens that stand at `index` in the cache, and scores what follows each.

        Args:
            tokens: int `[R, T]`.
            index: int32 scalar or `[R]`, where in the cache the first of them goes.
            positions: int `[R, T]` or `[R, 1]`, where they stand in the text.
            padding_mask: bool `[R, M]`, True at places of the cache that hold real tokens, or `None`.
            cache: a `DecoderCache` of M places.
            memory: what `encode` returned; nothing here.

        Returns:
            `(logits [R, T, V], cache)`.
        """
        x, cache = self._read(tokens, index, positions, padding_mask, cache)
        return self.embedding(x, reverse=True), cache

    def _read(self, tokens, index, positions, padding_mask, cache):
        return self.decoder(
            self.embedding(tokens, positions=positions),
            decoder_padding_mask=padding_mask,
            cache=cache,
            cache_update_index=index,
            training=False,
        )

    def get_config(self):
        """The constructor's arguments."""
        return {**self._config, "name": self.name, "trainable": self.trainable}

    @classmethod
    def from_config(cls, config, custom_objects=None):
        """Makes the model from its configuration."""
        return cls(**config)
