"""Forgets some tokens in training, so that the unknown one is trained and the context is used."""

import keras
from keras import ops


@keras.saving.register_keras_serializable(package="keras_tfm")
class TokenDropout(keras.layers.Layer):
    """Replaces ids by `unknown_id` at random in training; does nothing otherwise.

    Args:
        rate: probability in [0, 1) of each id to be replaced.
        unknown_id: what replaces it. Defaults to 3.
        seed: seed of the draws.
        **kwargs: `keras.layers.Layer` arguments.

    Call arguments:
        inputs: int `[B, T]`; id 0, padding, is never replaced.
        training: whether ids are replaced.

    Returns:
        int `[B, T]`.

    Reference:
        Iyyer et al. 2015, "Deep Unordered Composition Rivals Syntactic Methods for Text Classification", section 3.1.

    Example:

    >>> import keras
    >>> ids = keras.ops.convert_to_tensor([[5, 7, 0]])
    >>> keras.ops.convert_to_numpy(TokenDropout(0.5)(ids)).tolist()
    [[5, 7, 0]]
    """

    def __init__(self, rate, unknown_id=3, seed=None, **kwargs):
        super().__init__(**kwargs)
        if not 0 <= rate < 1:
            raise ValueError(f"`rate` must be in [0, 1). Received: rate={rate!r}")
        self.supports_masking = True
        self.rate = rate
        self.unknown_id = unknown_id
        self.seed = seed
        self.seed_generator = keras.random.SeedGenerator(seed)
        self.built = True

    def call(self, inputs, training=None):
        """Replaces ids if `training`."""
        if not training or not self.rate:
            return inputs
        drawn = keras.random.uniform(ops.shape(inputs), seed=self.seed_generator) < self.rate
        replaced = ops.logical_and(drawn, ops.not_equal(inputs, 0))
        return ops.where(replaced, ops.cast(self.unknown_id, inputs.dtype), inputs)

    def compute_output_shape(self, input_shape):
        """As the inputs."""
        return tuple(input_shape)

    def compute_output_spec(self, inputs, training=None):
        """As the inputs."""
        return keras.KerasTensor(inputs.shape, dtype=inputs.dtype)

    def get_config(self):
        """The constructor's arguments."""
        return {**super().get_config(), "rate": self.rate, "unknown_id": self.unknown_id, "seed": self.seed}
