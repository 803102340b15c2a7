"""Parts by name: `None | name | layer | config` become a layer, the same way for every argument."""

import keras


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
        return keras.saving.deserialize_keras_object(value)
    if isinstance(value, str) and value in parts:
        return parts[value]()
    raise ValueError(f"`{argument}` must be None, a layer or one of {sorted(parts)}. Received: {argument}={value!r}")


def clone_part(part):
    """A fresh layer of the same configuration without a name of its own, or `None` for `None`."""
    if part is None:
        return None
    config = part.get_config()
    config.pop("name", None)
    return type(part).from_config(config)


def clone_initializer(initializer):
    """A fresh initializer of the same configuration, so that two weights do not start with the same values."""
    initializer = keras.initializers.get(initializer)
    if not isinstance(initializer, keras.initializers.Initializer):
        return initializer
    return initializer.__class__.from_config(initializer.get_config())


def make_normalization(value, epsilon, dtype, name):
    """A normalization layer: `"layer"`, `"rms"`, a layer or config to copy.

    Args:
        value: `"layer"` (Ba et al. 2016), `"rms"` (Zhang & Sennrich 2019), a layer, or a config.
        epsilon: added to the variance, for those named.
        dtype: dtype policy of the new layer.
        name: name of the new layer.
    """
    parts = {
        "layer": lambda: keras.layers.LayerNormalization(epsilon=epsilon, dtype=dtype, name=name),
        "rms": lambda: keras.layers.RMSNormalization(epsilon=epsilon, dtype=dtype, name=name),
    }
    layer = get_part("normalization", value, parts)
    if layer is None:
        raise ValueError(f"`normalization` must name a layer. Received: normalization={value!r}")
    layer = clone_part(layer) if layer is value else layer
    layer.supports_masking = True  # it works on each position alone; Keras' RMSNormalization (3.15) does not say so
    return layer


def serialize_part(value):
    """The config of a part; names and `None` stay as they are."""
    return keras.saving.serialize_keras_object(value) if isinstance(value, keras.layers.Layer) else value
