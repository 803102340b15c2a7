"""PyTorch: scaled dot-product attention, and loops without gradients."""

import torch

from keras_tfm.backend.kernel import Kernel, why_not_fused


def _why_not_sdpa(request):
    # On a CPU it has no fused dropout: nothing would be won, and the draw would not be the reference's.
    return why_not_fused(request, draws_dropout=request.dropout is not None and request.query.is_cuda)


def _run_sdpa(request):
    query, key, value = (x.transpose(1, 2) for x in (request.query, request.key, request.value))
    is_causal = request.is_plain_causal
    mask = None if is_causal else _additive_mask(request)
    output = torch.nn.functional.scaled_dot_product_attention(
        query,
        key,
        value,
        attn_mask=mask,
        dropout_p=0.0 if request.dropout is None else request.dropout.rate,
        is_causal=is_causal,
        scale=request.scale,
        enable_gqa=query.shape[1] != key.shape[1],
    )
    return output.transpose(1, 2), None


def _additive_mask(request):
    """What the kernel adds to the logits, or may see: bias and mask in one."""
    mask = request.mask.materialize(request.query_length, request.key_length, open_empty_rows=True)
    bias = request.bias()
    if bias is None:
        return mask
    if mask is not None:
        bias = torch.where(mask, bias, -1e30)
    # A softmax does not see what all of a row have in common, and half precision has no room for it.
    bias = bias - bias.detach().amax(-1, keepdim=True)
    dtype = request.query.dtype
    return bias.clamp(min=torch.finfo(dtype).min).to(dtype)


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
