"""PyTorch: products of matrices by oneDNN, where PyTorch itself would take a library that is slower.

On a CPU PyTorch multiplies float32 by MKL, which runs at half speed on processors of other makers: 2,048 × 256 times
256 × 1,024 took 5.4 ms on 2 cores of an AMD EPYC, oneDNN 2.7 ms.
"""

import keras
import torch

from keras_tfm.backend import functional
from keras_tfm.backend.torch_packing import can_pack
from keras_tfm.backend.torch_recording import is_eager, is_recording

_SMALLEST = 1 << 22  # multiplications; below, the call costs more than it saves
_SMALL_RESULT = 1 << 16  # elements


def linear(x, kernel, bias, num_axes=1, activation=None):
    """`x [..., *inputs]` times `kernel [*inputs, *outputs]` plus `bias [*outputs]`, activated; either may be `None`.

    In PyTorch's own words: on small inputs Keras' operations would take most of the time.
    """
    if not torch.is_tensor(x) or x.dtype != kernel.dtype:
        return functional.linear(x, kernel, bias, num_axes, activation)
    inputs, outputs = kernel.shape[:num_axes], kernel.shape[num_axes:]
    matrix = kernel.reshape(inputs.numel(), outputs.numel())
    tokens, bias = x.reshape(-1, inputs.numel()), None if bias is None else bias.reshape(-1)
    has_relu = activation is keras.activations.relu and _takes_onednn(tokens, matrix)
    product = _Product.apply(tokens, matrix, bias, True) if has_relu else _multiply(tokens, matrix, bias)
    product = product.reshape(*x.shape[:-num_axes], *outputs)
    return product if activation is None or has_relu else activation(product)


def _multiply(a, b, bias):
    """`a [M, K]` times `b [K, N]` plus `bias [N]` or `None`."""
    if _takes_onednn(a, b):
        return _Product.apply(a, b, bias, False)
    if bias is None:
        return torch.mm(a, b)
    return torch.mm(a, b) + bias if is_recording() else torch.addmm(bias, a, b)  # recorded weights are packed


def _takes_onednn(a, b):
    if a.shape[0] * a.shape[1] * b.shape[1] < _SMALLEST or not (serves_onednn(a) and serves_onednn(b)):
        return False
    return is_eager()


class _Product(torch.autograd.Function):
    """`a [M, K] · b [K, N] + bias`, or the greater of that and zero; its gradients are such products themselves."""

    @staticmethod
    def forward(ctx, a, b, bias, has_relu):
        product = _product(a, b, bias)
        product = product.relu_() if has_relu else product  # oneDNN's own would hide NaN
        ctx.save_for_backward(a, b, product if has_relu else None)
        return product

    @staticmethod
    def backward(ctx, upstream):
        a, b, rectified = ctx.saved_tensors
        if rectified is not None:
            upstream = torch.ops.aten.threshold_backward(upstream, rectified, 0)
        wants_a, wants_b, wants_bias, _ = ctx.needs_input_grad
        of_a = _multiply(upstream, b.t(), None) if wants_a else None
        of_b = _weight_gradient(a.t(), upstream) if wants_b else None
        return of_a, of_b, upstream.sum(0) if wants_bias else None, None


def _weight_gradient(a, b):
    # oneDNN copies what it is given transposed, which a small result is not worth.
    return torch.mm(a, b) if a.shape[0] * b.shape[1] <= _SMALL_RESULT else _multiply(a, b, None)


def _product(a, b, bias):
    if bias is None and a.shape[0] > b.shape[1] and not a.is_contiguous():
        return onednn(b.t(), a).t()  # oneDNN copies what it is given transposed: the smaller one
    return onednn(a, b.t(), bias)


def serves_onednn(x):
    """Whether oneDNN multiplies what is like `x`."""
    return x.device.type == "cpu" and x.dtype == torch.float32 and can_pack()


def onednn(a, b, bias=None):
    """`a [M, K]` times the transpose of `b [N, K]`, plus `bias [N]`, without a gradient."""
    return torch.ops.mkldnn._linear_pointwise(_dense(a), _dense(b), bias, "none", [], "")


def _dense(a):
    """`a` without gaps between its rows or columns: with gaps oneDNN takes a thousand times as long."""
    if a.is_contiguous() or a.t().is_contiguous():
        return a
    return a.contiguous() if a.stride(0) > a.stride(1) else a.t().contiguous().t()
