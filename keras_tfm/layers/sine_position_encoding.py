"""Sinusoidal absolute positions."""

import keras
from keras import ops

from keras_tfm.layers.position_checks import check_choice, check_positive
from keras_tfm.ops.positions import sinusoid


@keras.saving.register_keras_serializable(package="keras_tfm")
class SinePositionEncoding(keras.layers.Layer):
    """Sinusoids of geometrically growing wavelengths: a drop-in superset of `keras_hub.layers.SinePositionEncoding`.

    Args:
        max_wavelength: longest wavelength, in positions over 2π. Defaults to 10,000.
        layout: `"interleaved"` (the paper's) has sines at even and cosines at odd features; `"concatenated"` (Marian,
            tensor2tensor) has all sines, then all cosines. Defaults to `"interleaved"`.
        endpoint: `False` spaces the wavelengths as `max_wavelength ** (2i / D)` (the paper's, Marian); `True` as
            `max_wavelength ** (i / (D/2 - 1))`, which reaches `max_wavelength` (tensor2tensor, M2M-100); there an odd
            D leaves the last feature zero. Defaults to `False`.
        **kwargs: `keras.layers.Layer` arguments.

    Call arguments:
        inputs: float `[..., T, D]`; only its shape matters.
        start_index: int or int32 scalar, position of the first of the T tokens. Defaults to 0.
        positions: int `[T]` or `[B, T]`; takes the place of `start_index`.

    Returns:
        `[..., T, D]` in the compute dtype, to be added to the inputs.

    Numerics:
        Angles are float32 whatever the policy, and exact for positions up to 16 million: only the result is rounded to
        the compute dtype.

    Reference:
        Vaswani et al. 2017, section 3.5.

    Example:

    >>> import keras
    >>> tuple(SinePositionEncoding()(keras.ops.zeros((2, 5, 8))).shape)
    (2, 5, 8)
    """

    def __init__(self, max_wavelength=10_000, layout="interleaved", endpoint=False, **kwargs):
        super().__init__(**kwargs)
        check_positive("max_wavelength", max_wavelength)
        check_choice("layout", layout, ("interleaved", "concatenated"))
        self.supports_masking = True
        self.autocast = False  # bfloat16 would round positions that come as floats
        self.max_wavelength = max_wavelength
        self.layout = layout
        self.endpoint = endpoint
        self.built = True

    def call(self, inputs, start_index=0, positions=None):
        """Computes the encodings."""
        shape = ops.shape(inputs)
        if positions is None:
            positions = ops.arange(shape[-2], dtype="int32") + ops.cast(start_index, "int32")
        table = sinusoid(positions, inputs.shape[-1], self.max_wavelength, self.layout, self.endpoint)
        return ops.broadcast_to(ops.cast(table, self.compute_dtype), shape)

    def compute_output_shape(self, input_shape, **kwargs):
        """As the inputs."""
        return tuple(input_shape)

    def get_config(self):
        """The constructor's arguments."""
        return {
            **super().get_config(),
            "max_wavelength": self.max_wavelength,
            "layout": self.layout,
            "endpoint": self.endpoint,
        }
