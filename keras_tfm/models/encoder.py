"""Models out of the encoder alone: a label for each token, or one for the sequence."""

import keras

from keras_tfm.layers import (
    AttachMask,
    CharacterEmbedding,
    Dropout,
    MaskedMean,
    PositionalEmbedding,
    PositionEmbedding,
    SinePositionEncoding,
    TokenDropout,
    TransformerEncoderStack,
)
from keras_tfm.models.encoder_block import encoder_block
from keras_tfm.models.encoder_transfer import TakesEncoder
from keras_tfm.models.packed_inputs import PackedInputs
from keras_tfm.models.token_ids import CheckedTokenIds


class EncoderModel(CheckedTokenIds, TakesEncoder, keras.Model):
    """Base of the models below: inputs, embeddings and the encoder stack; a subclass adds its head.

    Args:
        num_classes: number of labels.
        num_layers: L.
        hidden_dim: D.
        intermediate_dim: F.
        num_heads: N.
        vocabulary_size: number of token ids; gives the model an input `"token_ids"` int `[B, T]`, 0 for padding.
        character_vocabulary_size: number of character ids; gives it an input `"character_ids"` int `[B, T, C]`, 0 for
            padding.
        feature_dim: size of ready vectors (sound frames, graph nodes); gives it inputs `"features"` float `[B, T,
            feature_dim]` and `"padding_mask"` bool `[B, T]`. At least one of the three is needed; those given are
            summed.
        dropout: rate on the embeddings, each sub-layer's output and the scores.
        attention_dropout, activation_dropout, activation, normalize_first, num_key_value_heads, normalization: as in
            `TransformerEncoder`.
        token_dropout: rate at which token ids become `unknown_id` in training.
        unknown_id: id of unknown tokens. Defaults to 3.
        position: `"sinusoidal"`, `"learned"`, `"rope"`, or `None` for a set without order.
        sequence_length: the most positions that learned positions have.
        encoder: `"attention"`, or what mixes the tokens in its place: `"lstm"`, `"gru"` (both ways) or `"conv"` (over
            three tokens). Then rotary positions, packed rows and arguments of attention are refused.
        layer_loop, rematerialization: as in `TransformerEncoderStack`. The weights are the same.
        packed: whether rows hold several sequences, as `keras_tfm.text.PackedBatches` has them; gives the model inputs
            `"segment_ids"` and `"positions"` int `[B, T]`. The weights are the same. Defaults to `False`.
        head_inputs: dict from name to `keras.Input`, what the head of a subclass reads besides.
        **kwargs: `keras.Model` arguments.
    """

    can_be_packed = True

    def __init__(
        self,
        num_classes,
        num_layers=6,
        hidden_dim=512,
        intermediate_dim=2048,
        num_heads=8,
        *,
        vocabulary_size=None,
        character_vocabulary_size=None,
        feature_dim=None,
        dropout=0.1,
        attention_dropout=None,
        activation_dropout=0.0,
        activation="relu",
        normalize_first=False,
        num_key_value_heads=None,
        normalization="layer",
        token_dropout=0.0,
        unknown_id=3,
        position="sinusoidal",
        sequence_length=512,
        encoder="attention",
        layer_loop="unrolled",
        rematerialization=None,
        packed=False,
        head_inputs=None,
        dtype=None,
        **kwargs,
    ):
        if not isinstance(num_classes, int) or num_classes <= 0:
            raise ValueError(f"`num_classes` must be a positive integer. Received: num_classes={num_classes!r}")
        if position not in ("sinusoidal", "learned", "rope", None):
            raise ValueError(
                f"`position` must be 'sinusoidal', 'learned', 'rope' or None. Received: position={position!r}"
            )
        if packed and not self.can_be_packed:
            raise ValueError(
                f"`packed` needs an output for each token, which {type(self).__name__} does not have. "
                f"Received: packed={packed}"
            )
        dtype = keras.dtype_policies.get(dtype)
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
            layer_loop=layer_loop,
            rematerialization=rematerialization,
            dtype=dtype,
        )
        inputs, parts, token_embedding = {}, [], None
        if vocabulary_size is not None:
            inputs["token_ids"] = keras.Input((None,), dtype="int32", name="token_ids")
            ids = TokenDropout(token_dropout, unknown_id, name="token_dropout")(inputs["token_ids"])
            token_embedding = PositionalEmbedding(
                vocabulary_size,
                sequence_length,
                hidden_dim,
                mask_zero=True,
                position=None,
                dtype=dtype,
                name="token_embedding",
            )
            parts.append(token_embedding(ids))
        if character_vocabulary_size is not None:
            inputs["character_ids"] = keras.Input((None, None), dtype="int32", name="character_ids")
            embed = CharacterEmbedding(
                character_vocabulary_size, hidden_dim, dropout=dropout, dtype=dtype, name="character_embedding"
            )
            parts.append(embed(inputs["character_ids"]))
        if feature_dim is not None:
            inputs["features"] = keras.Input((None, feature_dim), name="features")
            inputs["padding_mask"] = keras.Input((None,), dtype="bool", name="padding_mask")
            features = AttachMask(dtype=dtype, name="feature_mask")([inputs["features"], inputs["padding_mask"]])
            parts.append(keras.layers.Dense(hidden_dim, dtype=dtype, name="feature_projection")(features))
        if not parts:
            raise ValueError(
                "One of `vocabulary_size`, `character_vocabulary_size` and `feature_dim` must be given. "
                "Received: all None"
            )
        more = PackedInputs(packed)
        inputs |= more.named | (head_inputs or {})
        absolute = {
            "sinusoidal": lambda: SinePositionEncoding(dtype=dtype, name="position_embedding"),
            "learned": lambda: PositionEmbedding(sequence_length, dtype=dtype, name="position_embedding"),
        }.get(position)
        if absolute is not None:
            parts.append(absolute()(parts[0], positions=more.positions))
        x = keras.layers.Add(dtype=dtype, name="embedding")(parts) if len(parts) > 1 else parts[0]
        x = Dropout(dropout, dtype=dtype, name="embedding_dropout")(x)
        relative = "rope" if position == "rope" else None
        mixing = encoder_block(encoder, {**block, "position": relative}, packed)
        encoder_stack = TransformerEncoderStack(num_layers, name="encoder", **mixing)
        x = encoder_stack(x, segment_ids=more.segment_ids, positions=more.positions_of_attention(relative))
        outputs = self.head(x, num_classes, dtype, token_embedding, **(head_inputs or {}))
        super().__init__(inputs=inputs if len(inputs) > 1 else next(iter(inputs.values())), outputs=outputs, **kwargs)

        self.dtype_policy = dtype
        self.encoder = encoder_stack
        limits = {"token_ids": vocabulary_size, "character_ids": character_vocabulary_size}
        self.token_id_limits = {name: size for name, size in limits.items() if size is not None}
        self._config = {
            **block,
            "dtype": keras.dtype_policies.serialize(dtype),
            "activation": keras.activations.serialize(keras.activations.get(activation)),
            "num_classes": num_classes,
            "num_layers": num_layers,
            "hidden_dim": hidden_dim,
            "vocabulary_size": vocabulary_size,
            "character_vocabulary_size": character_vocabulary_size,
            "feature_dim": feature_dim,
            "token_dropout": token_dropout,
            "unknown_id": unknown_id,
            "position": position,
            "sequence_length": sequence_length,
            "encoder": encoder,
            "packed": packed,
        }

    def head(self, encoded, num_classes, dtype, token_embedding):
        """From the encoder's output `[B, T, D]` to the model's; `head_inputs` come by name."""
        raise NotImplementedError

    def call(self, inputs, training=None, mask=None, **kwargs):
        """Runs the model; a dict of inputs, as batches have it, may also be given where there is one input alone."""
        if isinstance(inputs, dict) and not isinstance(self.input, dict) and list(inputs) == [self.input.name]:
            (inputs,), mask = inputs.values(), next(iter(mask.values())) if isinstance(mask, dict) else mask
        return super().call(inputs, training=training, mask=mask, **kwargs)

    def get_config(self):
        """The constructor's arguments."""
        return {**self._config, "name": self.name, "trainable": self.trainable}

    @classmethod
    def from_config(cls, config, custom_objects=None):
        """Makes the model from its configuration."""
        return cls(**config)


@keras.saving.register_keras_serializable(package="keras_tfm")
class SequenceTagger(EncoderModel):
    """A label for each token: parts of speech, entities.

    Arguments as `EncoderModel` has them. Returns logits `[B, T, num_classes]` that carry the inputs' mask.

    Reference:
        Devlin et al. 2019, section 4 (the head on each token).

    Example:

    >>> import numpy as np
    >>> model = SequenceTagger(5, 1, 16, 32, 2, vocabulary_size=30)
    >>> tuple(model(np.array([[4, 5, 6, 0]])).shape)
    (1, 4, 5)
    """

    def head(self, encoded, num_classes, dtype, token_embedding):
        """One dense layer on every token."""
        return keras.layers.Dense(num_classes, dtype=dtype, name="classes")(encoded)


@keras.saving.register_keras_serializable(package="keras_tfm")
class SequenceClassifier(EncoderModel):
    """One label for a sequence.

    Arguments as `EncoderModel` has them. Returns logits `[B, num_classes]`, from the mean over real tokens.

    Example:

    >>> import numpy as np
    >>> model = SequenceClassifier(3, 1, 16, 32, 2, feature_dim=8)
    >>> frames = np.zeros((2, 6, 8), "float32")
    >>> tuple(model({"features": frames, "padding_mask": np.ones((2, 6), bool)}).shape)
    (2, 3)
    """

    can_be_packed = False

    def head(self, encoded, num_classes, dtype, token_embedding):
        """The masked mean, then one dense layer."""
        pooled = MaskedMean(dtype=dtype, name="pooling")(encoded)
        return keras.layers.Dense(num_classes, dtype=dtype, name="classes")(pooled)
