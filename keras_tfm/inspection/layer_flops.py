"""How many floating-point operations a call of a layer takes, from the shapes of what goes in and comes out."""

import math

import keras

from keras_tfm.layers.reversible_projection import ReversibleProjection

_CONVOLUTIONS = (keras.layers.Conv1D, keras.layers.Conv2D, keras.layers.Conv3D)
_MATRICES = (keras.layers.Dense, keras.layers.ReversibleEmbedding, ReversibleProjection)
_PER_OUTPUT = {  # operations for each number that comes out: sums, products, divisions; a root counts as one
    keras.layers.Dropout: 0,
    keras.layers.Embedding: 0,
    keras.layers.Masking: 0,
    keras.layers.Reshape: 0,
    keras.layers.Flatten: 0,
    keras.layers.LayerNormalization: 7,  # two means, difference, square, scale, gain, shift
    keras.layers.RMSNormalization: 4,  # square, mean, scale, gain
    keras.layers.BatchNormalization: 4,  # difference, scale, gain, shift
    keras.layers.ReLU: 1,
}


def layer_flops(layer, inputs, outputs):
    """The operations of one forward call, as the rule of the layer's class counts them.

    A product of matrices counts 2 for each product and its sum; biases and activations count nothing.

    Args:
        layer: a layer without layers of its own.
        inputs: list of the tensors that it was called with.
        outputs: list of the tensors that it returned.

    Returns:
        An int, or `None` where there is no rule for the class.

    Example:

    >>> import keras
    >>> dense = keras.layers.Dense(5)
    >>> x = keras.ops.ones((2, 3))
    >>> layer_flops(dense, [x], [dense(x)])
    60
    """
    if not inputs or not outputs:
        return None
    count = math.prod(outputs[0].shape)
    if isinstance(layer, keras.layers.EinsumDense):
        return 2 * count * _contracted(layer.equation, inputs[0].shape)
    if isinstance(layer, _MATRICES) and "int" not in keras.backend.standardize_dtype(inputs[0].dtype):
        return 2 * count * inputs[0].shape[-1]
    if isinstance(layer, _CONVOLUTIONS):
        return 2 * count * math.prod(layer.kernel.shape[:-1])
    if isinstance(layer, (keras.layers.Add, keras.layers.Multiply)):
        return count * (len(inputs) - 1)
    return next((count * each for kind, each in _PER_OUTPUT.items() if isinstance(layer, kind)), None)


def attention_flops(request):
    """The operations of `query · keyᵀ` and `scores · value` over all B · N · T · S pairs, masked ones too."""
    batch, queries, heads, size = request.query.shape
    return 2 * batch * heads * queries * request.key.shape[1] * (size + request.value.shape[-1])


def _contracted(equation, shape):
    """The product of the sizes that an `EinsumDense` sums over; letters after an ellipsis count from the right."""
    sides, result = equation.split("->")
    before, dots, after = sides.split(",")[0].partition("...")
    sizes = dict(zip(before, shape, strict=False))
    if dots:
        sizes.update(zip(reversed(after), reversed(shape), strict=False))
    return math.prod(size for letter, size in sizes.items() if letter not in result)
