"""`PositionalEmbedding` under the name that weight files of `keras_hub` models give it."""

import keras

from keras_tfm.layers.positional_embedding import PositionalEmbedding


@keras.saving.register_keras_serializable(package="keras_tfm")
class TokenAndPositionEmbedding(PositionalEmbedding):
    """`PositionalEmbedding` for models that were written with `keras_hub.layers.TokenAndPositionEmbedding`.

    A `.weights.h5` file names the layers of a Functional model after their classes: under this name files saved by
    the one load into the other. Arguments, calls and results are those of `PositionalEmbedding`.

    Example:

    >>> import keras
    >>> layer = TokenAndPositionEmbedding(vocabulary_size=50, sequence_length=20, embedding_dim=8)
    >>> tuple(layer(keras.ops.convert_to_tensor([[5, 7, 0]])).shape)
    (1, 3, 8)
    """
