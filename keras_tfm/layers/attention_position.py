"""The hooks by which a position method reaches attention."""

import keras


class AttentionPosition(keras.layers.Layer):
    """Base class of relative positions: override the hooks that the method needs.

    `MultiHeadAttention(position=...)` builds the method with the shapes of its heads, calls `rotate` on queries and
    keys (keys before they enter a cache), and `bias` and `value_bias` once per attention. One instance given to
    several layers shares its weights among them.

    Example:

    >>> import keras, keras_tfm
    >>> class Nearness(AttentionPosition):
    ...     def bias(self, query, key, query_positions, key_positions):
    ...         distance = query_positions[..., :, None] - key_positions[..., None, :]
    ...         bias = -keras.ops.cast(keras.ops.abs(distance), "float32")
    ...         return bias[None, None] if len(bias.shape) == 2 else bias[:, None]
    >>> layer = keras_tfm.layers.MultiHeadAttention(num_heads=2, key_dim=8, position=Nearness())
    >>> x = keras.random.normal((1, 5, 16))
    >>> tuple(layer(x, x).shape)
    (1, 5, 16)
    """

    def __init__(self, **kwargs):
        super().__init__(**kwargs)
        self.built = type(self).build is AttentionPosition.build

    def build(self, query_shape, key_shape, value_shape):
        """Makes the weights, if there are any.

        Args:
            query_shape, key_shape, value_shape: shapes of the heads, `(B, T, N, H)`, `(B, S, K, H)`, `(B, S, K, Hv)`;
                B, T and S may be `None`.
        """

    def check_heads(self, key_dim):
        """Raises `ValueError` if the method cannot serve heads of size `key_dim`."""

    def rotate(self, heads, positions):
        """Returns `heads [B, T, N, H]` changed by `positions` (int `[T]` or `[B, T]`)."""
        return heads

    def bias(self, query, key, query_positions, key_positions):
        """Returns float `[1 or B, 1 or N, T, S]` to add to the scaled logits, or `None`.

        Args:
            query, key: the heads `[B, T, N, H]` and `[B, S, K, H]` after `rotate`, not scaled. Blocks of a longer
                sequence may come in the batch axis.
            query_positions, key_positions: int `[T]` or `[B, T]`, and `[S]` or `[B, S]`.
        """
        return None

    def value_bias(self, scores, query_positions, key_positions):
        """Returns float `[B, T, N, Hv]` to add to the weighted values, or `None`; `scores [B, N, T, S]`."""
        return None

    def overrides(self, hook):
        """Whether the class has a hook (`"bias"`, `"value_bias"`, ...) of its own."""
        return getattr(type(self), hook) is not getattr(AttentionPosition, hook)
