"""Word vectors out of their characters, so that unknown words have a meaning too."""

import keras
from keras import ops

from keras_tfm import backend
from keras_tfm.layers.attention_masks import all_of
from keras_tfm.layers.dropout import Dropout


@keras.saving.register_keras_serializable(package="keras_tfm")
class CharacterEmbedding(keras.layers.Layer):
    """Embeds the characters of each word, convolves them, and takes each filter's maximum over the word.

    Args:
        vocabulary_size: number of character ids; 0 is padding.
        embedding_dim: D, size of a word's vector.
        character_dim: size of a character's vector. Defaults to 32.
        kernel_size: how many neighbouring characters a filter sees. Defaults to 3.
        dropout: rate in [0, 1) on the character vectors. Defaults to 0.
        **kwargs: `keras.layers.Layer` arguments.

    Call arguments:
        inputs: int `[B, T, C]`, the ids of the C characters of each of T words, padded with 0.
        training: whether dropout applies.

    Returns:
        float `[B, T, D]`.

    Masking:
        Padding characters never win the maximum; a word without characters gets zeros. The output carries the mask of
        words that have characters.

    Reference:
        Ma & Hovy 2016, "End-to-end Sequence Labeling via Bi-directional LSTM-CNNs-CRF", section 2.1.

    Example:

    >>> import keras
    >>> layer = CharacterEmbedding(vocabulary_size=30, embedding_dim=16)
    >>> tuple(layer(keras.ops.ones((2, 5, 7), "int32")).shape)
    (2, 5, 16)
    """

    def __init__(self, vocabulary_size, embedding_dim, character_dim=32, kernel_size=3, dropout=0.0, **kwargs):
        super().__init__(**kwargs)
        sizes = dict(
            vocabulary_size=vocabulary_size,
            embedding_dim=embedding_dim,
            character_dim=character_dim,
            kernel_size=kernel_size,
        )
        for argument, size in sizes.items():
            if not isinstance(size, int) or size <= 0:
                raise ValueError(f"`{argument}` must be a positive integer. Received: {argument}={size!r}")
        self.supports_masking = True
        self.vocabulary_size = vocabulary_size
        self.embedding_dim = embedding_dim
        self.character_dim = character_dim
        self.kernel_size = kernel_size
        self.dropout = dropout
        self.characters = keras.layers.Embedding(
            vocabulary_size, character_dim, dtype=self.dtype_policy, name="characters"
        )
        self.characters.supports_masking = True
        self.filters = keras.layers.Dense(embedding_dim, dtype=self.dtype_policy, name="filters")
        self.character_dropout = Dropout(dropout, dtype=self.dtype_policy, name="character_dropout")

    def build(self, input_shape):
        """Makes the tables for ids `[B, T, C]`."""
        if len(input_shape) != 3:
            raise ValueError(
                f"`inputs` must be [B, T, C], the characters of words. Received: shape {tuple(input_shape)}"
            )
        self.characters.build(input_shape)
        self.filters.build((*input_shape, self.kernel_size * self.character_dim))

    def call(self, inputs, training=None):
        """Makes a vector of each word."""
        self._check_ids(inputs)
        real = ops.expand_dims(ops.not_equal(inputs, 0), -1)
        x = self.character_dropout(self.characters(inputs), training=training)
        x = backend.zeroed(x, real)
        # One product over the neighbours side by side: a convolution, in the form that every backend multiplies
        # fastest.
        before = (self.kernel_size - 1) // 2
        padded = ops.pad(x, ((0, 0), (0, 0), (before, self.kernel_size - 1 - before), (0, 0)))
        length = ops.shape(inputs)[2]
        neighbours = ops.concatenate([padded[:, :, i : i + length] for i in range(self.kernel_size)], axis=-1)
        filtered = ops.relu(self.filters(neighbours))
        return ops.max(backend.zeroed(filtered, real), axis=2)

    def _check_ids(self, ids):
        span = backend.value_range(ids)
        if span is not None and (span[0] < 0 or span[1] >= self.vocabulary_size):
            raise ValueError(
                "Character ids must be in [0, vocabulary_size). "
                f"Received: ids from {span[0]} to {span[1]}, vocabulary_size={self.vocabulary_size}"
            )

    def compute_mask(self, inputs, mask=None):
        """bool `[B, T]`, True at words that have characters, where the mask of the inputs allows."""
        return all_of([mask, ops.any(ops.not_equal(inputs, 0), axis=-1)])

    def compute_output_shape(self, input_shape):
        """`[B, T, D]`."""
        return (*input_shape[:-1], self.embedding_dim)

    def get_config(self):
        """The constructor's arguments."""
        return {
            **super().get_config(),
            "vocabulary_size": self.vocabulary_size,
            "embedding_dim": self.embedding_dim,
            "character_dim": self.character_dim,
            "kernel_size": self.kernel_size,
            "dropout": self.dropout,
        }
