"""PyTorch: scaled dot-product attention, and loops without gradients."""

import torch

from keras_tfm.backend.kernel import Kernel, why_not_fused


def _why_not_sdpa(request):
    return why_not_fused(request)


def _run_sdpa(request):
    query, key, value = (x.transpose(1, 2) for x in (request.query, request.key, request.value))
    is_causal = request.is_plain_causal
    bias = None if is_causal else _additive_mask(request)
    output = torch.nn.functional.scaled_dot_product_attention(
        query,
        key,
        value,
        attn_mask=bias,
        is_causal=is_causal,
        scale=request.scale,
        enable_gqa=query.shape[1] != key.shape[1],
    )
    return output.transpose(1, 2), None


def _additive_mask(request):
    mask = request.mask.materialize(request.query_length, request.key_length, open_empty_rows=True)
    if request.bias is None or mask is None:
        return mask if request.bias is None else request.bias.to(request.query.dtype)
    return torch.where(mask, request.bias.to(request.query.dtype), torch.finfo(request.query.dtype).min)


KERNELS = (Kernel("torch_sdpa", _why_not_sdpa, _run_sdpa),)


def compile_loop(function, variables):
    """Runs `function` without recording gradients."""
    del variables
    return torch.no_grad()(function)


def value_range(tensor):
    """The smallest and largest value of a tensor in host memory; `None` if compiling, elsewhere or empty."""
    if torch.compiler.is_compiling() or tensor.device.type != "cpu" or tensor.numel() == 0:
        return None
    low, high = torch.aminmax(tensor)
    return int(low), int(high)
