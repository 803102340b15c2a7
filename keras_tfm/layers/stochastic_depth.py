"""Stochastic depth: whole updates are left out at random in training."""

import keras
from keras import ops


@keras.saving.register_keras_serializable(package="keras_tfm")
class StochasticDepth(keras.layers.Layer):
    """Drops a sub-layer's update for whole sequences, each with probability `rate`; what stays is scaled up.

    At inference it does nothing: kept updates are divided by `1 - rate` in training instead.

    Args:
        rate: in [0, 1).
        seed: of the draws.
        **kwargs: `keras.layers.Layer` arguments.

    Call arguments:
        inputs: float `[B, ...]`.
        training: whether anything is dropped.

    Returns:
        float `[B, ...]`.

    Masking:
        Passes the mask of its input on.

    Raises:
        ValueError: `rate` is outside [0, 1).

    Reference:
        Huang et al. 2016, "Deep Networks with Stochastic Depth", section 3.

    Example:

    >>> import keras
    >>> kept = StochasticDepth(0.5)(keras.ops.ones((100, 3)), training=True)
    >>> sorted(set(keras.ops.convert_to_numpy(kept).ravel().tolist()))
    [0.0, 2.0]
    """

    def __init__(self, rate, seed=None, **kwargs):
        super().__init__(**kwargs)
        if not 0 <= rate < 1:
            raise ValueError(f"`rate` must be in [0, 1). Received: rate={rate!r}")
        self.supports_masking = True
        self.rate = rate
        self.seed = seed
        self.seed_generator = keras.random.SeedGenerator(seed)
        self.built = True

    def call(self, inputs, training=None):
        """Drops the updates of some sequences."""
        if not training or not self.rate:
            return inputs
        shape = (ops.shape(inputs)[0], *(1 for _ in inputs.shape[1:]))
        is_kept = keras.random.uniform(shape, seed=self.seed_generator) >= self.rate
        return ops.where(is_kept, inputs / ops.cast(1 - self.rate, inputs.dtype), ops.zeros((), inputs.dtype))

    def compute_output_shape(self, input_shape):
        """As the inputs."""
        return tuple(input_shape)

    def get_config(self):
        """The constructor's arguments."""
        return {**super().get_config(), "rate": self.rate, "seed": self.seed}
