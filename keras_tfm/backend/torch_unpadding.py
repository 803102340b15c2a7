"""PyTorch: tensors whose shapes depend on values, and rows taken from others and put back."""

import torch

from keras_tfm.backend.torch_recording import is_eager


def known_values(x):
    """A tensor as a numpy array, or `None`; see `keras_tfm.backend.functional.known_values`."""
    is_at_hand = torch.is_tensor(x) and x.device.type == "cpu" and is_eager()
    return x.detach().numpy() if is_at_hand else None


def take_rows(x, places):
    """`[M, ...]` of `x [N, ...]`; see `keras_tfm.backend.functional.take_rows`."""
    return _Taken.apply(x, places)


def spread_rows(x, places, count):
    """`[count, ...]` of `x [M, ...]`; see `keras_tfm.backend.functional.spread_rows`."""
    return _Spread.apply(x, places, count)


class _Taken(torch.autograd.Function):
    """Its own gradient: that of `index_select` adds, as if a row might be taken twice."""

    @staticmethod
    def forward(ctx, x, places):
        ctx.save_for_backward(places)
        ctx.count = x.shape[0]
        return x.index_select(0, places)

    @staticmethod
    def backward(ctx, upstream):
        return _Spread.apply(upstream, *ctx.saved_tensors, ctx.count), None


class _Spread(torch.autograd.Function):
    @staticmethod
    def forward(ctx, x, places, count):
        ctx.save_for_backward(places)
        return x.new_zeros(count, *x.shape[1:]).index_copy_(0, places, x)

    @staticmethod
    def backward(ctx, upstream):
        return _Taken.apply(upstream, *ctx.saved_tensors), None, None
