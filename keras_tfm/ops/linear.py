"""The linear map of tokens, as one product of matrices."""

from keras import ops

from keras_tfm import backend


def linear(x, kernel, bias=None, num_axes=1, activation=None):
    """Computes `activation(x · kernel + bias)` over the last axes of `x`.

    Args:
        x: float `[..., *inputs]`.
        kernel: float `[*inputs, *outputs]`.
        bias: float `[*outputs]`, or `None`.
        num_axes: number of axes of the inputs. Defaults to 1.
        activation: function of a tensor, or `None`. PyTorch computes `keras.activations.relu` with the product.

    Returns:
        float `[..., *outputs]`.

    Numerics:
        All tokens are in one axis, so that the gradients too are plain products. On a CPU, PyTorch computes products of
        float32 by oneDNN, which keeps the accuracy and is twice as fast as `torch.mm` on processors that its own
        library was not made for.

    Example:

    >>> import keras
    >>> tuple(linear(keras.ops.ones((2, 5, 8)), keras.ops.ones((8, 4, 3)), keras.ops.ones((4, 3))).shape)
    (2, 5, 4, 3)
    """
    bias = None if bias is None else ops.convert_to_tensor(bias)
    return backend.linear(x, ops.convert_to_tensor(kernel), bias, num_axes, activation)
