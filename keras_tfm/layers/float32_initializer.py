"""An initializer that computes in float32, whatever it is to give."""

import keras
from keras import ops


@keras.saving.register_keras_serializable(package="keras_tfm")
class Float32Initializer(keras.initializers.Initializer):
    """The values of another initializer, computed in float32: factorizations have no reduced precision.

    Args:
        initializer: name, config or initializer.

    Example:

    >>> import keras
    >>> values = Float32Initializer("orthogonal")((3, 3), dtype="bfloat16")
    >>> keras.backend.standardize_dtype(values.dtype)
    'bfloat16'
    """

    def __init__(self, initializer):
        self.initializer = keras.initializers.get(initializer)

    def __call__(self, shape, dtype=None):
        """Values of the given shape."""
        values = self.initializer(shape, dtype="float32")
        return values if dtype is None else ops.cast(values, dtype)

    def get_config(self):
        """The constructor's arguments."""
        return {"initializer": keras.initializers.serialize(self.initializer)}
