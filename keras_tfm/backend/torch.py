"""PyTorch: scaled dot-product attention, and loops that are recorded."""

import torch
from keras import tree
from keras.ops import convert_to_tensor
from torch.utils.checkpoint import checkpoint

from keras_tfm.backend import functional
from keras_tfm.backend.kernel import Kernel, why_not_fused
from keras_tfm.backend.torch_attention import TORCH_DROPOUT
from keras_tfm.backend.torch_cross_entropy import linear_cross_entropy
from keras_tfm.backend.torch_linear import linear
from keras_tfm.backend.torch_random import dropout, keep_mask
from keras_tfm.backend.torch_recording import Recordings, active_recordings, is_recording
from keras_tfm.backend.torch_rematerialization import rematerialize
from keras_tfm.backend.torch_segments import TORCH_SEGMENTS
from keras_tfm.backend.torch_unpadding import known_values, spread_rows, take_rows
from keras_tfm.backend.torch_zeroing import zeroed


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


__all__ = [
    "KERNELS",
    "compile_loop",
    "custom_gradient",
    "dropout",
    "keep_mask",
    "known_values",
    "linear",
    "linear_cross_entropy",
    "map_blocks",
    "may_call_directly",
    "rematerialize",
    "spread_rows",
    "take_rows",
    "value_range",
    "vector_jacobian_product",
    "while_loop",
    "write_rows",
    "write_slice",
    "zeroed",
]

KERNELS = (TORCH_SEGMENTS, Kernel("torch_sdpa", _why_not_sdpa, _run_sdpa), TORCH_DROPOUT)


def compile_loop(function, variables):
    """Runs `function` without gradients; the bodies of its loops are recorded once and then run without their Python.

    In those bodies caches are written in place: a step consumes the state that it is given.
    """
    recordings = Recordings(variables)

    @torch.no_grad()
    def run(*args):
        with recordings.active():
            return function(*args)

    run.recordings = recordings
    return run


def may_call_directly(layer, x):
    """Whether a call of `layer` is eager and watched by nobody; see `functional.may_call_directly`."""
    if not torch.is_tensor(x) or torch.compiler.is_compiling():
        return False
    hooks = layer._forward_hooks or layer._forward_pre_hooks or layer._backward_hooks or layer._backward_pre_hooks
    return not (hooks or torch.nn.modules.module._has_any_global_hook())


def while_loop(condition, body, loop, maximum_iterations):
    """`loop`, a tree of tensors, after `body` was applied as long as `condition` holds."""
    recordings = active_recordings()
    if recordings is None or is_recording():
        return functional.while_loop(condition, body, loop, maximum_iterations)

    def flat_body(*leaves):
        following = body(tree.pack_sequence_as(loop, list(leaves)))
        # Operators are recorded for inputs that are contiguous, and outputs are the next inputs.
        return [*(leaf.contiguous() for leaf in tree.flatten(following)), condition(following)]

    # The body writes in place: what it is given must be its own.
    leaves = [leaf.clone(memory_format=torch.contiguous_format) for leaf in tree.flatten(loop)]
    is_running, run = bool(condition(loop)), None
    for _ in range(maximum_iterations):
        if not is_running:
            break
        run = recordings.record(flat_body, leaves).run if run is None else run
        *leaves, is_running = run(*leaves)
    return tree.pack_sequence_as(loop, leaves)


def write_slice(array, new, axis, index):
    """`array` with `new` at `index` on and further along `axis`; in place in the body of a compiled loop."""
    if not is_recording():
        return functional.write_slice(array, new, axis, index)
    places = torch.arange(new.shape[axis], device=array.device) + index
    return _without_overlap(array).index_copy_(axis, places, new)


def write_rows(array, new, index):
    """`array [B, S, ...]` with `new [B, T, ...]` at positions from int32 `index [B]` on; the rest is dropped.

    In place in the body of a compiled loop.
    """
    if not is_recording():
        return functional.write_rows(array, new, index)
    places, sources, is_new = functional.window(array, new, index)
    rows = torch.arange(array.shape[0], device=array.device)[:, None]
    new = new if new.shape[1] == 1 else new[rows, sources]
    is_new = is_new.reshape(*is_new.shape, *(1 for _ in array.shape[2:]))
    values = torch.where(is_new, new, array[rows, places])
    return _without_overlap(array).index_put_((rows, places), values)


def _without_overlap(array):
    """`array`, copied only if it is expanded: no operator writes to elements that share their memory."""
    is_expanded = any(stride == 0 and size > 1 for stride, size in zip(array.stride(), array.shape, strict=True))
    return array.clone(memory_format=torch.contiguous_format) if is_expanded else array


def value_range(tensor):
    """The smallest and largest value of a tensor in host memory; `None` if compiling, elsewhere or empty."""
    if torch.compiler.is_compiling() or is_recording() or tensor.device.type != "cpu" or tensor.numel() == 0:
        return None
    low, high = torch.aminmax(tensor)
    return int(low), int(high)


def custom_gradient(forward, backward):
    """`forward` with the gradient `backward`; see `keras_tfm.backend.functional.custom_gradient`."""
    return lambda *args: _CustomGradient.apply(forward, backward, *args)


class _CustomGradient(torch.autograd.Function):
    @staticmethod
    def forward(ctx, forward, backward, *args):
        result, saved = forward(*args)
        ctx.save_for_backward(*saved)
        ctx.rule = backward
        return result

    @staticmethod
    def backward(ctx, upstream):
        return None, None, *ctx.rule(ctx.saved_tensors, upstream)


def vector_jacobian_product(function, inputs, cotangent):
    """The gradient of `sum(cotangent * function(*inputs))`; see `functional.vector_jacobian_product`."""
    inputs = [convert_to_tensor(x).detach().requires_grad_() for x in inputs]
    with torch.enable_grad():
        result = function(*inputs)
    cotangent = cotangent(result.detach()) if callable(cotangent) else cotangent
    if not result.requires_grad:
        return result, [torch.zeros_like(x) for x in inputs]
    cotangent = convert_to_tensor(cotangent).to(result.dtype)
    gradients = torch.autograd.grad(result, inputs, cotangent, allow_unused=True)
    gradients = [torch.zeros_like(x) if g is None else g for x, g in zip(inputs, gradients, strict=True)]
    return result.detach(), gradients


def map_blocks(function, blocks):
    """`function(*block)` for each block, stacked; see `keras_tfm.backend.functional.map_blocks`."""
    if torch.is_grad_enabled():
        # No random numbers: no states of generators to keep.
        options = dict(use_reentrant=False, preserve_rng_state=False)
        return torch.stack([checkpoint(function, *block, **options) for block in zip(*blocks, strict=True)])
    return torch.stack([function(*block) for block in zip(*blocks, strict=True)])
