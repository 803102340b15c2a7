"""An initializer times a number."""

import keras
from keras import ops


@keras.saving.register_keras_serializable(package="keras_tfm")
class ScaledInitializer(keras.initializers.Initializer):
    """The values of another initializer, multiplied.

    Args:
        initializer: name, config or initializer.
        gain: factor on its values.

    Example:

    >>> import keras
    >>> float(ScaledInitializer("ones", 0.5)((1,))[0])
    0.5
    """

    def __init__(self, initializer, gain):
        self.initializer = keras.initializers.get(initializer)
        self.gain = gain

    def __call__(self, shape, dtype=None):
        """Values of the given shape."""
        values = self.initializer(shape, dtype=dtype)
        return values * ops.cast(self.gain, values.dtype)

    def get_config(self):
        """The constructor's arguments."""
        return {"initializer": keras.initializers.serialize(self.initializer), "gain": self.gain}
