"""Learned absolute positions: one trained vector for each."""

import keras
from keras import ops

from keras_tfm import backend
from keras_tfm.layers.position_checks import check_choice, check_positive_integer


@keras.saving.register_keras_serializable(package="keras_tfm")
class PositionEmbedding(keras.layers.Layer):
    """A trained vector for each position: a drop-in superset of `keras_hub.layers.PositionEmbedding`.

    Args:
        sequence_length: how many positions there are.
        initializer: of the table. Defaults to `"glorot_uniform"`.
        interpolation: what becomes of inputs that are longer than the table: `None` refuses them; `"linear"` stretches
            the table over them, so that the first position has its first row, the last its last, and those between a
            blend of two rows. Shorter inputs are as without. Defaults to `None`.
        **kwargs: `keras.layers.Layer` arguments.

    Call arguments:
        inputs: float `[..., T, D]`; only its shape matters.
        start_index: int or int32 scalar, position of the first of the T tokens. Defaults to 0.
        positions: int `[T]` or `[B, T]`; takes the place of `start_index`.

    Returns:
        float `[..., T, D]`, to be added to the inputs.

    Raises:
        ValueError: T, or a position that can be read, is outside the table. (Stock layers shift, repeat or return NaN
            there.) With `interpolation` only negative positions are refused.

    Numerics:
        A row is as long as its largest position + 1, at each call. Decoding with a cache past `sequence_length` would
        stretch the table further at each step: decode such inputs by full passes, or make the table long enough.

    Example:

    >>> import keras
    >>> layer = PositionEmbedding(sequence_length=10)
    >>> tuple(layer(keras.ops.zeros((2, 5, 8))).shape)
    (2, 5, 8)
    """

    def __init__(self, sequence_length, initializer="glorot_uniform", interpolation=None, **kwargs):
        super().__init__(**kwargs)
        check_choice("interpolation", interpolation, (None, "linear"))
        self.supports_masking = True
        self.autocast = False  # bfloat16 would round positions that come as floats
        self.sequence_length = check_positive_integer("sequence_length", sequence_length)
        self.interpolation = interpolation
        self.initializer = keras.initializers.get(initializer)

    def build(self, inputs_shape):
        """Makes the table for inputs `[..., T, D]`."""
        self.position_embeddings = self.add_weight(
            name="embeddings",
            shape=(self.sequence_length, inputs_shape[-1]),
            initializer=self.initializer,
            autocast=False,
        )

    def call(self, inputs, start_index=0, positions=None):
        """Looks the positions up."""
        shape = ops.shape(inputs)
        self.check_length(shape[-2], start_index, positions)
        if positions is None:
            positions = ops.arange(shape[-2], dtype="int32") + ops.cast(start_index, "int32")
        table = ops.convert_to_tensor(self.position_embeddings)
        look_up = self._look_up if self.interpolation is None else self._interpolate
        return ops.broadcast_to(ops.cast(look_up(table, positions), self.compute_dtype), shape)

    def _look_up(self, table, positions):
        return ops.take(table, positions, axis=0)

    def _interpolate(self, table, positions):
        last = self.sequence_length - 1
        positions = ops.cast(positions, "float32")
        longest = ops.max(positions, axis=-1, keepdims=True)
        rows = ops.where(longest > last, positions * (last / ops.maximum(longest, 1.0)), positions)
        below = ops.clip(ops.floor(rows), 0, last)
        share = ops.cast(ops.expand_dims(rows - below, -1), "float32")
        below = ops.cast(below, "int32")
        first, second = (
            ops.cast(self._look_up(table, row), "float32") for row in (below, ops.minimum(below + 1, last))
        )
        return first + (second - first) * share

    def check_length(self, length, start_index, positions):
        """Raises `ValueError` if a position that can be read is outside the table."""
        if positions is not None:
            span = backend.value_range(ops.convert_to_tensor(positions))
        else:
            is_number = isinstance(start_index, int)
            start = (start_index,) if is_number else backend.value_range(ops.convert_to_tensor(start_index))
            span = (start[0], start[0] + length - 1) if start and isinstance(length, int) else None
        is_short = self.interpolation is None
        if span is not None and (span[0] < 0 or (is_short and span[1] >= self.sequence_length)):
            raise ValueError(
                "Positions must be in [0, sequence_length), the learned table. "
                f"Received: positions from {span[0]} to {span[1]}, sequence_length={self.sequence_length}"
            )

    def compute_output_shape(self, input_shape, **kwargs):
        """As the inputs."""
        return tuple(input_shape)

    def get_config(self):
        """The constructor's arguments."""
        return {
            **super().get_config(),
            "sequence_length": self.sequence_length,
            "initializer": keras.initializers.serialize(self.initializer),
            "interpolation": self.interpolation,
        }
