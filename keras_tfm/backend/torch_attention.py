"""PyTorch: attention with dropout on a CPU, where no fused kernel has it: scores are kept once, and changed in place.

Operation by operation they would be written seven times, into new memory each time, and in the gradient as often.
"""

import dataclasses

import torch

from keras_tfm.backend.kernel import Kernel, why_not_fused
from keras_tfm.backend.torch_random import draw_words, signs_of
from keras_tfm.backend.torch_recording import is_eager

_CHUNK = 1 << 19  # scores: 2 MiB
_MASKED_LOGIT = -1e30  # finite: a row that sees nothing has a finite softmax


def _why_not(request):
    dropout = request.dropout
    if dropout is None or not dropout.has_mask:
        return "it is for dropout whose rate and seed are known"
    if request.query.device.type != "cpu" or request.query.dtype != torch.float32:
        return "it is for float32 on a CPU"
    if not is_eager():
        return "it changes tensors in place, which a compiler or a transformation cannot follow"
    return why_not_fused(dataclasses.replace(request, dropout=None))


def _run(request):
    # Contiguous before the gradient is taken over: it needs them as the products do.
    query, key, value = (x.transpose(1, 2).contiguous() for x in (request.query, request.key, request.value))
    rate = request.dropout.rate
    words = draw_words((*query.shape[:3], key.shape[2]), request.dropout.seed_generator)
    mask = request.mask.materialize(request.query_length, request.key_length)
    mask = None if mask is None else torch.where(mask, 0.0, _MASKED_LOGIT)
    bias, mask = (None if x is None else x.reshape(*[1] * (4 - x.dim()), *x.shape) for x in (request.bias(), mask))
    output = _Attention.apply(query * request.scale, key, value, bias, mask, words, rate)
    return output.transpose(1, 2), None


class _Attention(torch.autograd.Function):
    """Of heads `[B, N, T, H]`, `[B, K, S, H]` and `[B, K, S, Hv]`: `[B, N, T, Hv]`.

    `bias` and `mask` are added to the logits, `words` are random int16 `[B, N, T, S]`.
    """

    @staticmethod
    def forward(ctx, query, key, value, bias, mask, words, rate):
        batch, num_heads, length, _ = query.shape
        output = query.new_empty(batch, num_heads, length, value.shape[-1])
        scores = query.new_empty(batch, num_heads, length, key.shape[2])
        for rows in _chunks(scores):
            part, shared = scores[rows], key[rows]
            torch.matmul(_grouped(query[rows], shared), shared.transpose(-1, -2), out=_grouped(part, shared))
            for added in (bias, mask):
                if added is not None:
                    part += added if added.shape[0] == 1 else added[rows]
            torch.softmax(part, -1, out=part)
            signs = signs_of(words[rows], rate)
            torch.copysign(part, signs, out=part)  # what is dropped is negative from here on
            weights = torch.clamp_min(part, 0.0, out=signs)
            torch.matmul(_grouped(weights, shared), value[rows], out=_grouped(output[rows], shared))
        output.mul_(1 / (1 - rate))
        ctx.save_for_backward(query, key, value, bias, mask, scores, output)
        ctx.rate = rate
        return output

    @staticmethod
    def backward(ctx, upstream):
        query, key, value, bias, _, scores, output = ctx.saved_tensors
        if torch.is_grad_enabled():  # the gradient has a gradient
            return _differentiable_gradients(ctx, upstream)
        upstream = upstream.contiguous()
        common = (upstream * output).sum(-1, keepdim=True)
        scaled = upstream * (1 / (1 - ctx.rate))
        of_query, of_key, of_value = (torch.empty_like(x) for x in (query, key, value))
        of_bias = None if bias is None else torch.zeros_like(bias)
        for rows in _chunks(scores):
            part, shared = scores[rows], key[rows]
            grouped_upstream = _grouped(scaled[rows], shared)
            weights = part.clamp_min(0.0)
            torch.matmul(_grouped(weights, shared).transpose(-1, -2), grouped_upstream, out=of_value[rows])
            slopes = (grouped_upstream @ value[rows].transpose(-1, -2)).view(part.shape).mul_(weights)
            slopes.addcmul_(torch.abs(part, out=weights), common[rows], value=-1.0)
            if bias is not None:
                place = of_bias if bias.shape[0] == 1 else of_bias[rows]
                place += slopes.sum_to_size(place.shape)
            grouped_slopes = _grouped(slopes, shared)
            torch.matmul(grouped_slopes, shared, out=_grouped(of_query[rows], shared))
            torch.matmul(grouped_slopes.transpose(-1, -2), _grouped(query[rows], shared), out=of_key[rows])
        return of_query, of_key, of_value, of_bias, None, None, None


def _differentiable_gradients(ctx, upstream):
    query, key, value, bias, mask, scores, _ = ctx.saved_tensors
    logits = (_grouped(query, key) @ key.transpose(-1, -2)).view(*query.shape[:3], -1)
    logits = logits if bias is None else logits + bias
    logits = logits if mask is None else logits + mask
    factors = torch.signbit(scores).logical_not().view(logits.shape) / (1 - ctx.rate)
    output = (_grouped(logits.softmax(-1) * factors, key) @ value).view(upstream.shape)
    inputs = (query, key, value, bias)
    is_needed = [x is not None and x.requires_grad for x in inputs]
    needed = [x for x, wanted in zip(inputs, is_needed, strict=True) if wanted]
    gradients = iter(torch.autograd.grad(output, needed, upstream, create_graph=True))
    return *(next(gradients) if wanted else None for wanted in is_needed), None, None, None


def _chunks(scores):
    """Slices of the batch whose scores stay in the processor's caches while one operation after the other sees them."""
    batch = scores.shape[0]
    size = max(1, _CHUNK * batch // max(1, scores.numel()))
    return [slice(start, start + size) for start in range(0, batch, size)]


def _grouped(heads, shared):
    """`[B, N, T, X]` seen as `[B, K, N / K · T, X]`: each of `shared [B, K, ...]` serves N / K heads unrepeated."""
    batch, num_heads, length, width = heads.shape
    return heads.view(batch, shared.shape[1], num_heads // shared.shape[1] * length, width)


TORCH_DROPOUT = Kernel("torch_dropout", _why_not, _run)
