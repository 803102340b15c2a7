"""Token embedding plus positions, and the tied projection back to the vocabulary."""

import math
import numbers
import types

import keras
from keras import ops

from keras_tfm import backend
from keras_tfm.layers.attention_masks import all_of
from keras_tfm.layers.block_arguments import check_name, check_rates
from keras_tfm.layers.dropout import Dropout
from keras_tfm.layers.parts import clone_initializer, get_part, make_normalization, resolve_config, serialize_part
from keras_tfm.layers.position_embedding import PositionEmbedding
from keras_tfm.layers.reversible_projection import ReversibleProjection
from keras_tfm.layers.sine_position_encoding import SinePositionEncoding
from keras_tfm.layers.sublayer_calls import Steps


@keras.saving.register_keras_serializable(package="keras_tfm")
class PositionalEmbedding(keras.layers.Layer):
    """Embeds token ids, adds their positions, and projects back to logits.

    A drop-in superset of `keras_hub.layers.TokenAndPositionEmbedding`.

    Args:
        vocabulary_size: V.
        sequence_length: the most positions a learned table has; sinusoids have no limit.
        embedding_dim: D.
        tie_weights: whether `reverse=True` uses the embedding matrix itself, or a matrix of its own.
        embeddings_initializer: of the tables. Defaults to `"uniform"`.
        mask_zero: whether id 0 is padding; then the output carries the mask `[B, T]`, and a reversed call passes on
            that of its input.
        position: `"learned"`, `"sinusoidal"`, `None`, or a layer that maps `[B, T, D]` to what is added.
        embedding_scale: factor on the token embedding before positions are added: a number, `"sqrt"` for √D (the
            paper's), `None` for 1.
        embedding_rank: E: all tables have E columns, and a projection `[E, D]` follows (factorized embedding, as ALBERT
            and ELECTRA have it); `None` for none. `reverse=True` goes back by the projection's transpose.
        normalization: of what is summed, as BERT and BLOOM have it: `None`, `"layer"`, `"rms"`, or a layer to copy.
        dropout: rate in [0, 1) after that. Defaults to 0.
        **kwargs: `keras.layers.Layer` arguments.

    Call arguments:
        inputs: int `[B, T]`; with `reverse=True` float `[B, T, D]`, or `[B, D]`.
        start_index: int or int32 scalar, position of the first of the T tokens. Defaults to 0.
        positions: int `[T]` or `[B, T]`; takes the place of `start_index`.
        reverse: project to the vocabulary instead. Defaults to `False`.
        training: whether dropout applies.

    Returns:
        float `[B, T, D]`; with `reverse=True` logits `[B, T, V]`.

    Masking:
        See `mask_zero`. The mask survives the scaling and the sum, which Keras' operators would drop.

    Raises:
        ValueError: an id outside `[0, V)` where ids can be read (eager calls on a CPU; inside compiled code nothing
            can be raised, so check data
            first: `keras_tfm.text.check_token_ids`); more positions than a learned table has.

    Reference:
        Vaswani et al. 2017, sections 3.4 and 3.5; Press & Wolf 2017 (tied weights); Lan et al. 2020, section 3.1
        (factorized).

    Example:

    >>> import keras
    >>> layer = PositionalEmbedding(50, 20, 8, position="sinusoidal", embedding_scale="sqrt", mask_zero=True)
    >>> hidden = layer(keras.ops.convert_to_tensor([[5, 7, 0]]))
    >>> tuple(hidden.shape), tuple(layer(hidden, reverse=True).shape)
    ((1, 3, 8), (1, 3, 50))
    """

    def __init__(
        self,
        vocabulary_size,
        sequence_length,
        embedding_dim,
        tie_weights=True,
        embeddings_initializer="uniform",
        mask_zero=False,
        *,
        position="learned",
        embedding_scale=None,
        embedding_rank=None,
        normalization=None,
        dropout=0.0,
        **kwargs,
    ):
        super().__init__(**kwargs)
        rank = embedding_dim if embedding_rank is None else embedding_rank
        sizes = {"vocabulary_size": vocabulary_size, "embedding_dim": embedding_dim, "sequence_length": sequence_length}
        for argument, size in {**sizes, "embedding_rank": rank}.items():
            if not isinstance(size, numbers.Integral) or size <= 0:
                raise ValueError(f"`{argument}` must be a positive integer. Received: {argument}={size!r}")
        if isinstance(embedding_scale, str) and embedding_scale != "sqrt":
            raise ValueError(
                f"`embedding_scale` must be a number, 'sqrt' or None. Received: embedding_scale={embedding_scale!r}"
            )
        check_name("normalization", normalization, ("layer", "rms"))
        check_rates(dropout=dropout)
        self.supports_masking = True
        self.autocast = False  # bfloat16 would round ids that come as floats
        self.vocabulary_size = int(vocabulary_size)  # `numpy` integers would not go into a config
        self.sequence_length = int(sequence_length)
        self.embedding_dim = int(embedding_dim)
        self.tie_weights = tie_weights
        self.embeddings_initializer = keras.initializers.get(embeddings_initializer)
        self.mask_zero = mask_zero
        self.position = position
        self.embedding_scale = embedding_scale
        self.embedding_rank = None if embedding_rank is None else int(embedding_rank)
        self.dropout = dropout
        self._given = types.SimpleNamespace(normalization=resolve_config(normalization))
        self._scale = math.sqrt(rank) if embedding_scale == "sqrt" else embedding_scale
        self.token_embedding = keras.layers.ReversibleEmbedding(
            self.vocabulary_size,
            int(rank),
            tie_weights=tie_weights,
            embeddings_initializer=clone_initializer(self.embeddings_initializer),
            reverse_dtype=self.compute_dtype,
            dtype=self.dtype_policy,
            name="token_embedding",
        )
        self.token_embedding.supports_masking = True
        self.position_embedding = get_part(
            "position", position, {"learned": self._learned_positions, "sinusoidal": self._sinusoidal_positions}
        )
        self._make_parts_after_sum()

    def _make_parts_after_sum(self):
        kind, dtype = self._given.normalization, self.dtype_policy
        self.normalization = None if kind is None else make_normalization(kind, 1e-5, dtype, "normalization")
        self.embedding_dropout = Dropout(self.dropout, dtype=dtype, name="dropout") if self.dropout else None
        self.projection = None
        if self.embedding_rank is not None:
            self.projection = ReversibleProjection(self.embedding_dim, dtype=dtype, name="projection")
        self._after_sum = Steps([self.normalization, self.embedding_dropout, self.projection])

    def _learned_positions(self):
        initializer = clone_initializer(self.embeddings_initializer)
        return PositionEmbedding(self.sequence_length, initializer, dtype=self.dtype_policy, name="position_embedding")

    def _sinusoidal_positions(self):
        return SinePositionEncoding(dtype=self.dtype_policy, name="position_embedding")

    def build(self, input_shape):
        """Makes the tables."""
        self.token_embedding.build(input_shape)
        summed_shape = (*input_shape, self.token_embedding.output_dim)
        for part in (self.position_embedding, self.normalization, self.projection):
            if part is not None and not part.built:
                part.build(summed_shape)

    def call(self, inputs, start_index=0, positions=None, reverse=False, training=None):
        """Embeds ids, or projects vectors to logits."""
        if reverse:
            x = inputs if self.projection is None else self.projection(inputs, reverse=True)
            return self.token_embedding(x, reverse=True)
        self._check_ids(inputs)
        x = self.token_embedding(inputs)
        if self._scale is not None:
            x = x * ops.cast(self._scale, x.dtype)
        if self.position_embedding is not None:
            x = x + self.position_embedding(x, start_index=start_index, positions=positions)
        return self._after_sum(x, None, training)

    def _check_ids(self, ids):
        span = backend.value_range(ids)
        if span is not None and (span[0] < 0 or span[1] >= self.vocabulary_size):
            raise ValueError(
                "Token ids must be in [0, vocabulary_size). "
                f"Received: ids from {span[0]} to {span[1]}, vocabulary_size={self.vocabulary_size}"
            )

    def compute_mask(self, inputs, mask=None):
        """bool `[B, T]`: the mask that ids carry and, if `mask_zero`, where they are not 0; vectors keep their mask."""
        if not self.mask_zero or self._are_vectors(inputs):
            return mask
        return all_of([mask, ops.not_equal(inputs, 0)])

    def _are_vectors(self, inputs):
        # `keras.Input` is float32 unless told otherwise, so ids may be floats too: then they are [B, T].
        is_float = "float" in keras.backend.standardize_dtype(inputs.dtype)
        return is_float and (len(inputs.shape) > 2 or inputs.shape[-1] == self.embedding_dim)

    def compute_output_spec(self, inputs, start_index=0, positions=None, reverse=False, training=None):
        """float `[B, T, D]`, or `[B, T, V]` if reversed."""
        length = inputs.shape[1] if len(inputs.shape) > 1 else None
        is_readable = positions is None and isinstance(start_index, int)
        if not reverse and is_readable and isinstance(self.position_embedding, PositionEmbedding):
            self.position_embedding.check_length(length, start_index, positions)
        shape = (*inputs.shape[:-1], self.vocabulary_size) if reverse else (*inputs.shape, self.embedding_dim)
        return keras.KerasTensor(shape, dtype=self.compute_dtype)

    def compute_output_shape(self, input_shape, **kwargs):
        """`[B, T, D]` for ids `[B, T]`."""
        return (*input_shape, self.embedding_dim)

    def get_config(self):
        """The constructor's arguments."""
        return {
            **super().get_config(),
            "vocabulary_size": self.vocabulary_size,
            "sequence_length": self.sequence_length,
            "embedding_dim": self.embedding_dim,
            "tie_weights": self.tie_weights,
            "embeddings_initializer": keras.initializers.serialize(self.embeddings_initializer),
            "mask_zero": self.mask_zero,
            "position": serialize_part(self.position),
            "embedding_scale": self.embedding_scale,
            "embedding_rank": self.embedding_rank,
            "normalization": serialize_part(self._given.normalization),
            "dropout": self.dropout,
        }
