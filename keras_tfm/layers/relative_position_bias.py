"""T5's relative positions: a trained number for each bucket of distances and each head."""

import keras
from keras import ops

from keras_tfm.layers.attention_position import AttentionPosition
from keras_tfm.layers.position_checks import check_positive_integer, check_shared_heads
from keras_tfm.ops.relative_positions import clipped, distances, t5_buckets


@keras.saving.register_keras_serializable(package="keras_tfm")
class RelativePositionBias(AttentionPosition):
    """T5's relative position bias, for `MultiHeadAttention(position=...)`.

    Short distances have a bucket each, longer ones share buckets that grow logarithmically. One instance given to
    several layers is shared by them, as in T5, where all layers of a stack share one.

    Args:
        num_buckets: how many buckets. Defaults to 32.
        max_distance: in positions; from here on all distances share the last bucket. Defaults to 128.
        bidirectional: `True` (encoders) tells keys before the query from keys after it, by half of the buckets each;
            `False` (decoders) puts all keys after the query in one bucket with the query itself. Defaults to `True`.
        embeddings_initializer: of the table `[num_buckets, N]`. Defaults to `"uniform"`.
        **kwargs: `keras.layers.Layer` arguments.

    Raises:
        ValueError: `num_buckets` under 4 (2 if not `bidirectional`) or odd; `max_distance` within the buckets of one
            distance each; layers of different numbers of heads that share one instance.

    Numerics:
        The bias is float32 whatever the policy. T5 itself does not scale logits: `MultiHeadAttention(score="dot")`.

    Reference:
        Raffel et al. 2020, "Exploring the Limits of Transfer Learning with a Unified Text-to-Text Transformer",
        section 2.1.

    Example:

    >>> import keras, keras_tfm
    >>> position = RelativePositionBias()
    >>> first, second = (keras_tfm.layers.MultiHeadAttention(2, 8, position=position) for _ in range(2))
    >>> x = keras.random.normal((1, 5, 16))
    >>> tuple(second(first(x, x), x).shape), tuple(position.embeddings.shape)
    ((1, 5, 16), (32, 2))
    """

    def __init__(
        self, num_buckets=32, max_distance=128, bidirectional=True, embeddings_initializer="uniform", **kwargs
    ):
        super().__init__(**kwargs)
        self.num_buckets = check_positive_integer("num_buckets", num_buckets, at_least=4 if bidirectional else 2)
        if num_buckets % 2:
            raise ValueError(f"`num_buckets` must be even. Received: num_buckets={num_buckets}")
        least = num_buckets // (4 if bidirectional else 2) + 1
        self.max_distance = check_positive_integer("max_distance", max_distance, at_least=least)
        self.bidirectional = bidirectional
        self.embeddings_initializer = keras.initializers.get(embeddings_initializer)

    def build(self, query_shape, key_shape, value_shape):
        """Makes the table."""
        self.embeddings = self.add_weight(
            name="embeddings",
            shape=(self.num_buckets, query_shape[2]),
            initializer=self.embeddings_initializer,
            autocast=False,
        )

    def bias(self, query, key, query_positions, key_positions):
        """float32 `[1 or B, N, T, S]`."""
        check_shared_heads(self, query, self.embeddings.shape[1])
        buckets = t5_buckets(self.num_buckets, self.max_distance, self.bidirectional)
        by_distance = ops.take(ops.transpose(ops.cast(self.embeddings, "float32")), buckets, axis=1)
        index = clipped(distances(query_positions, key_positions), self.max_distance)
        return ops.transpose(ops.take(by_distance, index, axis=1), (1, 0, 2, 3))

    def get_config(self):
        """The constructor's arguments."""
        return {
            **super().get_config(),
            "num_buckets": self.num_buckets,
            "max_distance": self.max_distance,
            "bidirectional": self.bidirectional,
            "embeddings_initializer": keras.initializers.serialize(self.embeddings_initializer),
        }
