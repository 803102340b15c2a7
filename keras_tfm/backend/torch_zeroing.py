"""PyTorch: zeros in place of some elements, by their bits: on a CPU choosing by booleans takes five times as long."""

import torch

from keras_tfm.backend import functional
from keras_tfm.backend.torch_recording import is_eager

_SMALLEST = 1 << 14  # elements; below, the calls cost more than they save
_INTEGERS = {torch.float16: torch.int16, torch.bfloat16: torch.int16, torch.float32: torch.int32}


def zeroed(x, keep):
    """`x` where `keep` is True, else zero; see `keras_tfm.backend.functional.zeroed`."""
    if not (torch.is_tensor(x) and can_zero_by_bits(x)):
        return functional.zeroed(x, keep)
    return zeroed_by_bits(x, keep.int().neg_())


def can_zero_by_bits(x):
    """Whether `zeroed_by_bits` serves `x`, and is worth it: of floats, on a CPU, watched by nobody, and not small."""
    return is_eager() and x.device.type == "cpu" and x.dtype in _INTEGERS and x.numel() >= _SMALLEST


def zeroed_by_bits(x, bits, factor=1.0):
    """`x · factor` where int32 `bits`, which can be broadcast to `x`, are -1; zero where they are 0, even of NaN."""
    return _Zeroed.apply(x, bits, factor)


class _Zeroed(torch.autograd.Function):
    @staticmethod
    def forward(ctx, x, bits, factor):
        ctx.save_for_backward(bits)
        ctx.factor = factor
        integers = _INTEGERS[x.dtype]
        result = torch.bitwise_and(x.view(integers), bits.to(integers)).view(x.dtype)
        return result if factor == 1.0 else result.mul_(factor)

    @staticmethod
    def backward(ctx, upstream):
        return _Zeroed.apply(upstream, *ctx.saved_tensors, ctx.factor), None, None
