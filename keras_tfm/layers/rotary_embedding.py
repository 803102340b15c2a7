"""Rotary positions: queries and keys are turned by an angle that grows with their position."""

import keras

from keras_tfm.layers.attention_position import AttentionPosition
from keras_tfm.ops.positions import rotate


@keras.saving.register_keras_serializable(package="keras_tfm")
class RotaryEmbedding(AttentionPosition):
    """Rotary position embedding, for `MultiHeadAttention(position=...)`.

    The logit of a query and a key then depends on the distance between them and not on where they stand.

    Args:
        max_wavelength: longest wavelength, in positions over 2π. Defaults to 10,000.
        **kwargs: `keras.layers.Layer` arguments.

    Reference:
        Su et al. 2021, "RoFormer: Enhanced Transformer with Rotary Position Embedding", equation 34.

    Example:

    >>> import keras, keras_tfm
    >>> layer = keras_tfm.layers.MultiHeadAttention(num_heads=2, key_dim=8, position=RotaryEmbedding())
    >>> x = keras.random.normal((1, 5, 16))
    >>> tuple(layer(x, x).shape)
    (1, 5, 16)
    """

    def __init__(self, max_wavelength=10_000, **kwargs):
        super().__init__(**kwargs)
        if max_wavelength <= 0:
            raise ValueError(f"`max_wavelength` must be positive. Received: max_wavelength={max_wavelength}")
        self.max_wavelength = max_wavelength

    def check_heads(self, key_dim):
        """Head sizes must be even: features turn in pairs."""
        if key_dim % 2:
            raise ValueError(
                f"Rotary positions need an even `key_dim`: features turn in pairs. Received: key_dim={key_dim}"
            )

    def rotate(self, heads, positions):
        """Turns `heads [B, T, N, H]` by `positions [T]` or `[B, T]`."""
        return rotate(heads, positions, self.max_wavelength)

    def get_config(self):
        """The constructor's arguments."""
        return {**super().get_config(), "max_wavelength": self.max_wavelength}
