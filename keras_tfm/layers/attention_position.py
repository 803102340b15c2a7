"""The two hooks by which a position method reaches attention."""

import keras


class AttentionPosition(keras.layers.Layer):
    """Base class of relative positions: override the hook that the method needs.

    `MultiHeadAttention(position=...)` calls `rotate` on queries and on keys (before they enter a cache), and `bias`
    once per call.
    """

    def __init__(self, **kwargs):
        super().__init__(**kwargs)
        self.built = True

    def check_heads(self, key_dim):
        """Raises `ValueError` if the method cannot serve heads of size `key_dim`."""

    def rotate(self, heads, positions):
        """Returns `heads [B, T, N, H]` changed by `positions` (int `[T]` or `[B, T]`)."""
        return heads

    def bias(self, query_positions, key_positions, num_heads):
        """Returns float `[1 or B, N, T, S]` to add to the logits, or `None`."""
        return None
