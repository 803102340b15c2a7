"""Layers and parts by name."""

import difflib
import re

import keras

from keras_tfm.layers.attention_parts import HEAD_MIXINGS, POSITIONS, SCORES
from keras_tfm.layers.block_arguments import RESIDUALS

PARTS = {**POSITIONS, **SCORES, **HEAD_MIXINGS, **RESIDUALS}


def get(identifier, **arguments):
    """A layer from its name, its config, or itself.

    Args:
        identifier: the name of a layer of this package, as a class or in snake case (`"FeedForward"`,
            `"feed_forward"`); the short name of a part (`"rope"`, `"additive"`, `"rezero"`); the config of a layer; a
            layer, which is returned as it is; or `None`.
        **arguments: of the constructor, for names.

    Returns:
        A layer, or `None`.

    Raises:
        ValueError: there is no such name, or arguments came with what is no name.

    Example:

    >>> get("rope").max_wavelength
    10000
    >>> get("feed_forward", intermediate_dim=8).intermediate_dim
    8
    """
    if isinstance(identifier, str):
        return _factory(identifier)(**arguments)
    if arguments:
        raise ValueError(f"Arguments go with a name. Received: identifier={identifier!r}, arguments={arguments}")
    if isinstance(identifier, dict):
        return keras.saving.deserialize_keras_object(identifier)
    if identifier is None or isinstance(identifier, keras.layers.Layer):
        return identifier
    raise ValueError(f"`identifier` must be a name, a config, a layer or None. Received: identifier={identifier!r}")


def _factory(name):
    factories = {**PARTS, **_classes()}
    if name in factories:
        return factories[name]
    near = difflib.get_close_matches(name, factories)
    raise ValueError(
        f"`identifier` must name a layer of keras_tfm. Received: identifier={name!r}"
        + (f"; did you mean {near[0]!r}?" if near else "")
    )


def _classes():
    from keras_tfm import layers

    classes = {name: getattr(layers, name) for name in layers.__all__}
    classes = {name: cls for name, cls in classes.items() if isinstance(cls, type)}
    snake = {re.sub(r"(?<=[a-z])(?=[A-Z])|(?<=[A-Z])(?=[A-Z][a-z])", "_", name).lower(): name for name in classes}
    return {**classes, **{short: classes[name] for short, name in snake.items()}}
