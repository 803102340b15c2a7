"""PyTorch: what concerns each token by itself, of the real tokens alone. Shapes may depend on values there."""

import torch

from keras_tfm.backend import functional
from keras_tfm.backend.torch_recording import is_eager

_SMALLEST = 1 << 17  # numbers of a stream; below, the calls cost more than they save
_FULL = 0.95  # share of real tokens above which copies cost more than they save


def map_real_tokens(function, tensors, mask):
    """`function(tensors, mask)` with zeros at padding; see `keras_tfm.backend.functional.map_real_tokens`."""
    x = tensors[0]
    # Elsewhere the number of real tokens would have to be waited for.
    if not (torch.is_tensor(x) and x.device.type == "cpu" and x.numel() >= _SMALLEST and is_eager()):
        return functional.map_real_tokens(function, tensors, mask)
    rows = mask.reshape(-1).nonzero()[:, 0]
    if not 0 < len(rows) <= _FULL * mask.numel():
        return functional.map_real_tokens(function, tensors, mask)
    packed = {id(x): x.reshape(-1, x.shape[-1]).index_select(0, rows)[None] for x in tensors}
    result = function([packed[id(x)] for x in tensors], None)[0]
    zeros = result.new_zeros(mask.numel(), result.shape[-1])
    return zeros.index_copy(0, rows, result).reshape(*mask.shape, -1)
