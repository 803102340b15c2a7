"""The score of a query and a key: what the softmax is taken of. The dot product, scaled or not."""

import math

import keras


@keras.saving.register_keras_serializable(package="keras_tfm")
class AttentionScore(keras.layers.Layer):
    """The dot product of queries and keys, and the base class of other scores.

    `MultiHeadAttention(score=...)` takes one. A score that is a dot product of something else overrides `transform`,
    so that fused kernels still serve it; a score of another kind overrides `logits`.

    Args:
        scale: factor on the dot products: a number, or `"sqrt"` for 1 / √H. Defaults to `"sqrt"`.
        **kwargs: `keras.layers.Layer` arguments.

    Reference:
        Vaswani et al. 2017, section 3.2.1 (scaled dot product); Luong et al. 2015, section 3.1 (dot, general, concat).

    Example:

    >>> import keras, keras_tfm
    >>> layer = keras_tfm.layers.MultiHeadAttention(num_heads=2, key_dim=8, score=AttentionScore(scale=0.5))
    >>> x = keras.random.normal((1, 5, 16))
    >>> tuple(layer(x, x).shape)
    (1, 5, 16)
    """

    def __init__(self, scale="sqrt", **kwargs):
        super().__init__(**kwargs)
        if isinstance(scale, str) and scale != "sqrt":
            raise ValueError(f"`scale` must be a number or 'sqrt'. Received: scale={scale!r}")
        self.scale = scale
        self.built = type(self).build is AttentionScore.build

    def build(self, query_shape, key_shape):
        """Makes the weights, if there are any, for heads `(B, T, N, H)` and `(B, S, K, H)`."""

    def transform(self, query, key):
        """The heads whose dot products are the logits: `[B, T, N, X]` and `[B, S, K, X]`."""
        return query, key

    def factor(self, key_dim):
        """The factor on the dot products."""
        return 1.0 / math.sqrt(key_dim) if self.scale == "sqrt" else self.scale

    def logits(self, query, key):
        """Logits `[B, N, T, S]` that are no dot products: override to have them used."""
        raise NotImplementedError

    @property
    def is_dot_product(self):
        """Whether `logits` is not overridden."""
        return type(self).logits is AttentionScore.logits

    def get_config(self):
        """The constructor's arguments."""
        return {**super().get_config(), "scale": self.scale}
