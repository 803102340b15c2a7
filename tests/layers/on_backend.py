"""What a test needs of the backend itself: gradients of weights, and compiled calls."""

import keras
import numpy as np
from keras import ops

from tests.numerics import to_numpy


def weight_gradients(layer, inputs, keywords, options):
    """Gradients of a random sum of all float outputs with respect to the trainable weights.

    Args:
        layer: a built layer.
        inputs, keywords: tensors, the positional arguments of the call and others by name.
        options: further arguments.

    Returns:
        A list of numpy arrays, `None` where the backend gives none.
    """
    function = {"jax": _jax_gradients, "tensorflow": _tensorflow_gradients, "torch": _torch_gradients}
    gradients = function[keras.backend.backend()](layer, inputs, keywords, options)
    return [None if gradient is None else to_numpy(gradient) for gradient in gradients]


def compiled_call(layer, inputs, keywords, options):
    """The outputs of a call that the backend compiles: XLA on JAX and TensorFlow, the graph of `torch.compile`."""
    function = {"jax": _jax_compiled, "tensorflow": _tensorflow_compiled, "torch": _torch_compiled}
    return function[keras.backend.backend()](layer, inputs, keywords, options)


def _random_sum(outputs):
    rng = np.random.default_rng(7)
    total = 0.0
    for output in keras.tree.flatten(outputs):
        if "float" in keras.backend.standardize_dtype(output.dtype):
            upstream = ops.convert_to_tensor(rng.normal(size=tuple(output.shape)), "float32")
            total = total + ops.sum(ops.cast(output, "float32") * upstream)
    return total


def _values(variables):
    return [variable.value for variable in variables]


def _with_weights(layer, trainable, others, *arguments, **options):
    """Calls the layer with other values of its weights; `stateless_call` would leave out what `__call__` does."""
    mapping = zip(layer.trainable_variables + layer.non_trainable_variables, [*trainable, *others], strict=True)
    with keras.StatelessScope(state_mapping=list(mapping)):
        return layer(*arguments, **options)


def _jax_gradients(layer, inputs, keywords, options):
    import jax

    def loss(trainable, others, inputs, keywords):
        return _random_sum(_with_weights(layer, trainable, others, *inputs, **keywords, **options))

    weights = _values(layer.trainable_variables), _values(layer.non_trainable_variables)
    return jax.jit(jax.grad(loss))(*weights, inputs, keywords)


def _tensorflow_gradients(layer, inputs, keywords, options):
    import tensorflow as tf

    with tf.GradientTape() as tape:
        loss = _random_sum(layer(*inputs, **keywords, **options))
    gradients = tape.gradient(loss, _values(layer.trainable_variables))
    return [tf.convert_to_tensor(x) if isinstance(x, tf.IndexedSlices) else x for x in gradients]


def _torch_gradients(layer, inputs, keywords, options):
    layer.zero_grad()
    _random_sum(layer(*inputs, **keywords, **options)).backward()
    return [variable.value.grad for variable in layer.trainable_variables]


def _jax_compiled(layer, inputs, keywords, options):
    import jax

    @jax.jit
    def call(trainable, others, inputs, keywords):
        return _with_weights(layer, trainable, others, *inputs, **keywords, **options)

    return call(_values(layer.trainable_variables), _values(layer.non_trainable_variables), inputs, keywords)


def _tensorflow_compiled(layer, inputs, keywords, options):
    import tensorflow as tf

    return tf.function(lambda inputs, keywords: layer(*inputs, **keywords, **options), jit_compile=True)(
        inputs, keywords
    )


def _torch_compiled(layer, inputs, keywords, options):
    import torch

    torch.compiler.reset()
    call = torch.compile(lambda inputs, keywords: layer(*inputs, **keywords, **options), backend="eager")
    with torch.no_grad():
        return call(inputs, keywords)
