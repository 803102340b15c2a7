"""Parts by name: `None | name | layer | config` become a layer, the same way for every argument."""

import functools

import keras

from keras_tfm.layers.normalization import LayerNormalization, RMSNormalization

NORMALIZATIONS = {
    "layer": LayerNormalization,
    "rms": RMSNormalization,
    "batch": keras.layers.BatchNormalization,
}


def get_part(argument, value, parts):
    """Resolves one argument that takes a part.

    Args:
        argument: the argument's name, for the error.
        value: `None`, a name from `parts`, a layer, or the config of a serialized layer.
        parts: dict from name to a function that makes the layer.

    Returns:
        A layer, or `None`.

    Raises:
        ValueError: `value` is a name that is not in `parts`, or something else altogether.
    """
    if value is None or isinstance(value, keras.layers.Layer):
        return value
    if isinstance(value, dict):
        return resolve_config(value)
    if isinstance(value, str) and value in parts:
        return parts[value]()
    raise ValueError(f"`{argument}` must be None, a layer or one of {sorted(parts)}. Received: {argument}={value!r}")


def clone_part(part, **changes):
    """A fresh layer of the same configuration, but for `changes`, without a name of its own; `None` for `None`."""
    if part is None:
        return None
    config = part.get_config()
    config.pop("name", None)
    return type(part).from_config({**config, **changes})


def clone_initializer(initializer):
    """A fresh initializer of the same configuration, so that two weights do not start with the same values."""
    initializer = keras.initializers.get(initializer)
    if not isinstance(initializer, keras.initializers.Initializer):
        return initializer
    return initializer.__class__.from_config(initializer.get_config())


def make_normalization(value, epsilon, dtype, name):
    """A normalization layer: a name from `NORMALIZATIONS`, or a layer or config to copy.

    Args:
        value: `"layer"` (Ba et al. 2016), `"rms"` (Zhang & Sennrich 2019), `"batch"` (Ioffe & Szegedy 2015; over real
            tokens only where it is called with their mask), a layer, or a config.
        epsilon: added to the variance, for those named.
        dtype: dtype policy of the new layer.
        name: name of the new layer.
    """
    parts = {
        kind: functools.partial(make, epsilon=epsilon, dtype=dtype, name=name) for kind, make in NORMALIZATIONS.items()
    }
    layer = get_part("normalization", value, parts)
    if layer is None:
        raise ValueError(f"`normalization` must name a layer. Received: normalization={value!r}")
    layer = clone_part(layer, dtype=dtype, name=name) if layer is value else layer
    layer.supports_masking = True  # it works on each position alone; Keras' RMSNormalization (3.15) does not say so
    return layer


def resolve_config(value):
    """A layer for the config of one; all else stays as it is."""
    return keras.saving.deserialize_keras_object(value) if isinstance(value, dict) else value


def serialize_part(value):
    """The config of a part; names and `None` stay as they are."""
    if not isinstance(value, keras.layers.Layer):
        return value
    keras.saving.serialize_keras_object(value)  # Keras 3.15 marks a shared object from its second time on only
    return keras.saving.serialize_keras_object(value)
