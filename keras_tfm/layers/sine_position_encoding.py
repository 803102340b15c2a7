"""Sinusoidal absolute positions."""

import keras
from keras import ops

from keras_tfm.ops.positions import sinusoid


@keras.saving.register_keras_serializable(package="keras_tfm")
class SinePositionEncoding(keras.layers.Layer):
    """Sinusoids of geometrically growing wavelengths: a drop-in superset of `keras_hub.layers.SinePositionEncoding`.

    Args:
        max_wavelength: longest wavelength, in positions over 2π. Defaults to 10,000.
        **kwargs: `keras.layers.Layer` arguments.

    Call arguments:
        inputs: float `[..., T, D]`; only its shape matters.
        start_index: int or int32 scalar, position of the first of the T tokens. Defaults to 0.
        positions: int `[T]` or `[B, T]`; takes the place of `start_index`.

    Returns:
        `[..., T, D]` in the compute dtype, to be added to the inputs.

    Numerics:
        Angles are float32 whatever the policy, so that far positions stay distinct in bfloat16.

    Reference:
        Vaswani et al. 2017, section 3.5.

    Example:

    >>> import keras
    >>> tuple(SinePositionEncoding()(keras.ops.zeros((2, 5, 8))).shape)
    (2, 5, 8)
    """

    def __init__(self, max_wavelength=10_000, **kwargs):
        super().__init__(**kwargs)
        if max_wavelength <= 0:
            raise ValueError(f"`max_wavelength` must be positive. Received: max_wavelength={max_wavelength}")
        self.supports_masking = True
        self.max_wavelength = max_wavelength
        self.built = True

    def call(self, inputs, start_index=0, positions=None):
        """Computes the encodings."""
        shape = ops.shape(inputs)
        if positions is None:
            positions = ops.arange(shape[-2], dtype="int32") + ops.cast(start_index, "int32")
        encodings = ops.cast(sinusoid(positions, inputs.shape[-1], self.max_wavelength), self.compute_dtype)
        return ops.broadcast_to(encodings, shape)

    def compute_output_shape(self, input_shape, **kwargs):
        """As the inputs."""
        return tuple(input_shape)

    def get_config(self):
        """The constructor's arguments."""
        return {**super().get_config(), "max_wavelength": self.max_wavelength}
