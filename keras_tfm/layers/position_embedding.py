"""Learned absolute positions: one trained vector for each."""

import numbers

import keras
from keras import ops

from keras_tfm import backend


@keras.saving.register_keras_serializable(package="keras_tfm")
class PositionEmbedding(keras.layers.Layer):
    """A trained vector for each position: a drop-in superset of `keras_hub.layers.PositionEmbedding`.

    Args:
        sequence_length: how many positions there are.
        initializer: of the table. Defaults to `"glorot_uniform"`.
        **kwargs: `keras.layers.Layer` arguments.

    Call arguments:
        inputs: float `[..., T, D]`; only its shape matters.
        start_index: int or int32 scalar, position of the first of the T tokens. Defaults to 0.
        positions: int `[T]` or `[B, T]`; takes the place of `start_index`.

    Returns:
        float `[..., T, D]`, to be added to the inputs.

    Raises:
        ValueError: T, or a position that can be read, is outside the table. (Stock layers shift, repeat or return NaN
            there.)

    Example:

    >>> import keras
    >>> layer = PositionEmbedding(sequence_length=10)
    >>> tuple(layer(keras.ops.zeros((2, 5, 8))).shape)
    (2, 5, 8)
    """

    def __init__(self, sequence_length, initializer="glorot_uniform", **kwargs):
        super().__init__(**kwargs)
        if not isinstance(sequence_length, numbers.Integral) or sequence_length <= 0:
            raise ValueError(
                f"`sequence_length` must be a positive integer. Received: sequence_length={sequence_length!r}"
            )
        self.supports_masking = True
        self.sequence_length = int(sequence_length)
        self.initializer = keras.initializers.get(initializer)

    def build(self, inputs_shape):
        """Makes the table for inputs `[..., T, D]`."""
        self.position_embeddings = self.add_weight(
            name="embeddings", shape=(self.sequence_length, inputs_shape[-1]), initializer=self.initializer
        )

    def call(self, inputs, start_index=0, positions=None):
        """Looks the positions up."""
        shape = ops.shape(inputs)
        self.check_length(shape[-2], start_index, positions)
        if positions is None:
            positions = ops.arange(shape[-2], dtype="int32") + ops.cast(start_index, "int32")
        table = ops.convert_to_tensor(self.position_embeddings)
        return ops.broadcast_to(ops.take(table, positions, axis=0), shape)

    def check_length(self, length, start_index, positions):
        """Raises `ValueError` if a position that can be read is outside the table."""
        if positions is not None:
            span = backend.value_range(ops.convert_to_tensor(positions))
        else:
            is_number = isinstance(start_index, int)
            start = (start_index,) if is_number else backend.value_range(ops.convert_to_tensor(start_index))
            span = (start[0], start[0] + length - 1) if start and isinstance(length, int) else None
        if span is not None and (span[0] < 0 or span[1] >= self.sequence_length):
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
        }
