"""Quadratic positions: each head looks at a learned shift, with a learned width, as a convolution's kernel does."""

import keras
from keras import ops

from keras_tfm.layers.attention_position import AttentionPosition
from keras_tfm.layers.position_checks import check_positive_integer, check_shared_heads
from keras_tfm.ops.relative_positions import grid_distances


@keras.saving.register_keras_serializable(package="keras_tfm")
class QuadraticPosition(AttentionPosition):
    """Quadratic (Gaussian) relative positions, for `MultiHeadAttention(position=...)`.

    Adds `-α (|δ - Δ|² - |Δ|²)` to the logits, δ the shift from query to key, Δ the head's centre and α its sharpness,
    `1 / (2 width²)`. Without content the scores are then Gaussians around Δ; narrow ones pick one pixel each, and the
    heads together are a convolution.

    Args:
        grid_shape: `None` for sequences; for flattened images `(height, width)`: position p stands at row `p // width`
            and column `p % width`. More dimensions are allowed, the last one runs fastest.
        centers_initializer: of the centres `[N, dimensions]`, in positions. `None` draws them from a normal
            distribution of standard deviation 1.
        sharpness_initializer: of `1 / width` `[N]`, in inverse positions. Defaults to `"ones"`.
        **kwargs: `keras.layers.Layer` arguments.

    Raises:
        ValueError: `grid_shape` is not of positive integers; layers of different numbers of heads that share one
            instance.

    Numerics:
        The bias is float32 whatever the policy.

    Reference:
        Cordonnier, Loukas & Jaggi 2020, "On the Relationship between Self-Attention and Convolutional Layers",
        equation 9, and section 4.2 for centres and widths that are learned. The paper leaves out the content's logits,
        which `MultiHeadAttention` adds.

    Example:

    >>> import keras, keras_tfm
    >>> position = QuadraticPosition(grid_shape=(3, 4))
    >>> layer = keras_tfm.layers.MultiHeadAttention(num_heads=9, key_dim=8, position=position)
    >>> pixels = keras.random.normal((1, 12, 16))
    >>> tuple(layer(pixels, pixels).shape), tuple(position.centers.shape)
    ((1, 12, 16), (9, 2))
    """

    def __init__(self, grid_shape=None, centers_initializer=None, sharpness_initializer="ones", **kwargs):
        super().__init__(**kwargs)
        if grid_shape is not None and not (isinstance(grid_shape, (tuple, list)) and grid_shape):
            raise ValueError(f"`grid_shape` must be a tuple of sizes or None. Received: grid_shape={grid_shape!r}")
        self.grid_shape = grid_shape and tuple(check_positive_integer("grid_shape", size) for size in grid_shape)
        if centers_initializer is None:
            centers_initializer = keras.initializers.RandomNormal(stddev=1.0)
        self.centers_initializer = keras.initializers.get(centers_initializer)
        self.sharpness_initializer = keras.initializers.get(sharpness_initializer)

    def build(self, query_shape, key_shape, value_shape):
        """Makes centres and sharpness."""
        heads, axes = query_shape[2], len(self.grid_shape or (1,))
        self.centers = self.add_weight(
            name="centers", shape=(heads, axes), initializer=self.centers_initializer, autocast=False
        )
        self.sharpness = self.add_weight(
            name="sharpness", shape=(heads,), initializer=self.sharpness_initializer, autocast=False
        )

    def bias(self, query, key, query_positions, key_positions):
        """float32 `[1 or B, N, T, S]`."""
        check_shared_heads(self, query, self.sharpness.shape[0])
        centers = ops.cast(self.centers, "float32")[:, :, None, None]
        steepness = ops.square(ops.cast(self.sharpness, "float32")[:, None, None]) / 2
        # |δ - Δ|² - |Δ|² is δ (δ - 2Δ), which loses nothing to cancellation.
        shifts = grid_distances(query_positions, key_positions, self.grid_shape)
        squares = sum(shift * (shift - 2 * centers[:, axis]) for axis, shift in enumerate(shifts))
        return -steepness * squares

    def get_config(self):
        """The constructor's arguments."""
        return {
            **super().get_config(),
            "grid_shape": self.grid_shape,
            "centers_initializer": keras.initializers.serialize(self.centers_initializer),
            "sharpness_initializer": keras.initializers.serialize(self.sharpness_initializer),
        }
