"""Shaw's relative positions: a trained key and a trained value for each distance up to a limit."""

import math

import keras
from keras import ops

from keras_tfm.layers.attention_position import AttentionPosition
from keras_tfm.layers.parts import clone_initializer
from keras_tfm.layers.position_checks import check_positive_integer
from keras_tfm.ops.relative_positions import clipped, distances, gather_by_distance, sum_by_distance


@keras.saving.register_keras_serializable(package="keras_tfm")
class ClippedRelativePosition(AttentionPosition):
    """Relative position representations, for `MultiHeadAttention(position=...)`.

    Each distance from -k to k has a vector that is added to the keys, and one that is added to the values, as the
    query at that distance sees them. Longer distances count as ±k. All heads share the vectors.

    Args:
        max_distance: k, in positions.
        relative_values: whether values have such vectors too; without them fused kernels can run. Defaults to `True`.
        embeddings_initializer: of the tables `[2k + 1, H]` and `[2k + 1, Hv]`. Defaults to `"glorot_uniform"`.
        **kwargs: `keras.layers.Layer` arguments.

    Raises:
        ValueError: `max_distance` is not a positive integer; layers of different head sizes that share one instance.

    Numerics:
        Computed in float32 whatever the policy. No tensor of `[T, S, H]` is made: queries meet the table once, and each
        pair looks its distance up.

    Reference:
        Shaw et al. 2018, "Self-Attention with Relative Position Representations", equations 3 to 5.

    Example:

    >>> import keras, keras_tfm
    >>> position = ClippedRelativePosition(max_distance=4)
    >>> layer = keras_tfm.layers.MultiHeadAttention(num_heads=2, key_dim=8, position=position)
    >>> x = keras.random.normal((1, 5, 16))
    >>> tuple(layer(x, x).shape)
    (1, 5, 16)
    """

    def __init__(self, max_distance, relative_values=True, embeddings_initializer="glorot_uniform", **kwargs):
        super().__init__(**kwargs)
        self.max_distance = check_positive_integer("max_distance", max_distance)
        self.relative_values = relative_values
        self.embeddings_initializer = keras.initializers.get(embeddings_initializer)

    def build(self, query_shape, key_shape, value_shape):
        """Makes the tables."""
        self.key_embeddings = self._add_table("key_embeddings", query_shape[-1])
        if self.relative_values:
            self.value_embeddings = self._add_table("value_embeddings", value_shape[-1])

    def _add_table(self, name, width):
        initializer = clone_initializer(self.embeddings_initializer)
        shape = (2 * self.max_distance + 1, width)
        return self.add_weight(name=name, shape=shape, initializer=initializer, autocast=False)

    def overrides(self, hook):
        """Whether the layer has a hook: that of the values only with `relative_values`."""
        return super().overrides(hook) and (hook != "value_bias" or self.relative_values)

    def bias(self, query, key, query_positions, key_positions):
        """float32 `[B, N, T, S]`: query · table, divided by √H."""
        self._check_width("key_dim", query.shape[-1], self.key_embeddings)
        query = ops.cast(query, "float32") / math.sqrt(query.shape[-1])
        logits = ops.matmul(query, ops.transpose(ops.cast(self.key_embeddings, "float32")))
        return gather_by_distance(logits, self._index(query_positions, key_positions))

    def value_bias(self, scores, query_positions, key_positions):
        """`[B, T, N, Hv]` in the dtype of `scores`, or `None` without `relative_values`."""
        if not self.relative_values:
            return None
        index = self._index(query_positions, key_positions)
        sums = sum_by_distance(ops.cast(scores, "float32"), index, 2 * self.max_distance + 1)
        return ops.cast(ops.matmul(sums, ops.cast(self.value_embeddings, "float32")), scores.dtype)

    def _index(self, query_positions, key_positions):
        return clipped(distances(query_positions, key_positions), self.max_distance)

    def _check_width(self, argument, width, table):
        if width != table.shape[1]:
            raise ValueError(
                f"{self.name!r} was built for heads of size {table.shape[1]}; layers that share it must have the same. "
                f"Received: {argument}={width}"
            )

    def get_config(self):
        """The constructor's arguments."""
        return {
            **super().get_config(),
            "max_distance": self.max_distance,
            "relative_values": self.relative_values,
            "embeddings_initializer": keras.initializers.serialize(self.embeddings_initializer),
        }
