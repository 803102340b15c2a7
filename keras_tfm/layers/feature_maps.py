"""Feature maps of linear attention: names, layers and functions."""

import keras
from keras import ops

from keras_tfm.layers.parts import get_part


@keras.saving.register_keras_serializable(package="keras_tfm")
def elu_feature_map(x):
    """`elu(x) + 1`, written so that nothing cancels: `x + 1` above zero, `exp(x)` below.

    Reference:
        Katharopoulos et al. 2020, equation 7.

    Example:

    >>> round(float(elu_feature_map(-20.0)) * 1e9, 3)
    2.061
    """
    return ops.where(x > 0, x + 1.0, ops.exp(ops.minimum(x, 0.0)))


@keras.saving.register_keras_serializable(package="keras_tfm")
def relu_feature_map(x):
    """`max(x, 0)`.

    Example:

    >>> float(relu_feature_map(-2.0))
    0.0
    """
    return ops.relu(x)


FEATURE_MAPS = {"elu": elu_feature_map, "relu": relu_feature_map}


def get_feature_map(value):
    """A function of heads from a name, a layer, a function, or the config of one."""
    if isinstance(value, dict):
        value = keras.saving.deserialize_keras_object(value)
    if callable(value):
        return value
    layer = get_part("feature_map", value, {name: lambda name=name: FEATURE_MAPS[name] for name in FEATURE_MAPS})
    if layer is None:
        raise ValueError(
            f"`feature_map` must be a layer, a function or one of {sorted(FEATURE_MAPS)}. Received: feature_map=None"
        )
    return layer


def serialize_feature_map(value):
    """The name of a feature map, or else its config."""
    names = [name for name, function in FEATURE_MAPS.items() if function is value]
    return names[0] if names else keras.saving.serialize_keras_object(value)


def feature_dim(feature_map, shape):
    """How many features a map makes of heads of this shape; builds it if it is a layer."""
    return feature_map(keras.KerasTensor(shape, dtype="float32")).shape[-1]
