"""An original layer and ours, with the same weights, and what both give."""

import contextlib
import gc
import inspect
import itertools

import keras
import numpy as np


def pair(original_class, our_class, *build_shapes, **arguments):
    """The original and ours, built for the same shapes, with the same random weights."""
    if "initializer" not in arguments:  # JAX would compile a random one for every shape
        arguments = {"kernel_initializer": "zeros", **arguments}
    original, ours = original_class(**arguments), our_class(**arguments)
    for layer in (original, ours):
        layer.build(*build_shapes)
    share_weights(original, ours)
    return original, ours


def share_weights(original, ours):
    """Gives both the same random weights, biases included."""
    random = np.random.default_rng(0)
    weights = [random.normal(size=weight.shape, scale=0.5).astype("float32") for weight in original.trainable_weights]
    for layer in (original, ours):
        for variable, value in zip(layer.trainable_weights, weights, strict=True):
            assert variable.shape == value.shape
            variable.assign(value)


def normal(*shape, seed=0):
    return np.random.default_rng((seed, *shape)).normal(size=shape).astype("float32")


def to_numpy(outputs):
    return [keras.ops.convert_to_numpy(keras.ops.cast(x, "float32")) for x in keras.tree.flatten(outputs)]


def assert_same(expected, received, tolerance=1e-5, message="", rows=None):
    """All outputs are close; `rows` picks what counts of the first two axes."""
    expected, received = to_numpy(expected), to_numpy(received)
    assert len(expected) == len(received), message
    for x, y in zip(expected, received, strict=True):
        assert x.shape == y.shape, message
        if rows is not None:
            x, y = x[rows], y[rows]
        np.testing.assert_allclose(y, x, rtol=tolerance, atol=tolerance, err_msg=str(message))


def combinations(*names):
    """Every subset of `names`, as dicts of name to bool."""
    return [dict(zip(names, chosen, strict=True)) for chosen in itertools.product((False, True), repeat=len(names))]


def shapes(outputs):
    return [tuple(x.shape) for x in keras.tree.flatten(outputs)]


def parameters(function):
    """The parameters that can be given by position, in order, with their defaults."""
    found = inspect.signature(function).parameters.values()
    return [(p.name, p.default) for p in found if p.kind is p.POSITIONAL_OR_KEYWORD]


@contextlib.contextmanager
def quick_collection():
    """Keras collects garbage once for each layer it quantizes: spares it all that is there already."""
    gc.freeze()
    try:
        yield
    finally:
        gc.unfreeze()
