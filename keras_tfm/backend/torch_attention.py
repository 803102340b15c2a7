"""PyTorch: attention with dropout on a CPU, where no fused kernel has it: scores are kept once, and changed in place.

Operation by operation they would be written seven times, into new memory each time, and in the gradient as often.
"""

import dataclasses
import math
from typing import NamedTuple

import torch

from keras_tfm.backend.kernel import Kernel, why_not_fused
from keras_tfm.backend.torch_random import draw_words, signs_of
from keras_tfm.backend.torch_recording import is_eager

_CHUNK = 1 << 19  # scores: 2 MiB
_MASKED_LOGIT = -1e30  # finite: a row that sees nothing has a finite softmax


def why_not_in_place(request):
    """Why the dropout of a request cannot be applied in place, or `None`."""
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
    mask = additive(request.mask.materialize(request.query_length, request.key_length))
    bias = request.bias()
    bias = bias if bias is None else bias.reshape(*[1] * (4 - bias.dim()), *bias.shape)
    shape = (*query.shape[:3], key.shape[2])
    words, chunks = draw_words(shape, request.dropout.seed_generator), _chunks(shape)
    draws = [words[chunk.rows] for chunk in chunks]
    output = attend_in_place(query * request.scale, key, value, bias, mask, chunks, draws, request.dropout.rate)
    return output.transpose(1, 2), None


class Part(NamedTuple):
    """Which scores are computed together.

    Args:
        rows, queries, keys: slices of the batch, of T and of S.
        shape: of the scores, `(rows, N, queries, keys)`.
    """

    rows: slice
    queries: slice
    keys: slice
    shape: tuple

    def of_queries(self, x):
        """The part of `[B, N, T, X]`."""
        return x[self.rows, :, self.queries]

    def of_keys(self, x):
        """The part of `[B, K, S, X]`."""
        return x[self.rows, :, self.keys]

    def of_pairs(self, x):
        """The part of `[B or 1, N or 1, T or 1, S or 1]`, whose queries and keys count from the part's first."""
        return x[self.rows if x.shape[0] > 1 else slice(None), :, : self.shape[2], : self.shape[3]]


def additive(mask):
    """What a mask, `[B or 1, N or 1, T or 1, S or 1]`, adds to the logits; `None` for `None`."""
    return None if mask is None else torch.where(mask, 0.0, _MASKED_LOGIT)


def attend_in_place(query, key, value, bias, mask, parts, words, rate):
    """Attention with dropout, a part of the scores after the other.

    Args:
        query: `[B, N, T, H]`, scaled.
        key, value: `[B, K, S, H]` and `[B, K, S, Hv]`.
        bias, mask: added to the logits, or `None`: see `Part.of_pairs`. The mask has no gradient.
        parts: list of `Part`.
        words: for each, random int16 in the shape of its scores.
        rate: of the dropout.

    Returns:
        `[B, N, T, Hv]`, zeros where no part is.
    """
    return _Attention.apply(query, key, value, bias, mask, parts, words, rate)


class _Attention(torch.autograd.Function):
    @staticmethod
    def forward(ctx, query, key, value, bias, mask, parts, words, rate):
        output = _zeros((*query.shape[:3], value.shape[-1]), query)
        scores = query.new_empty(sum(math.prod(part.shape) for part in parts))
        for part, held, drawn in zip(parts, _held(scores, parts), words, strict=True):
            _multiply(part.of_queries(query), part.of_keys(key).transpose(-1, -2), out=held)
            for added in (bias, mask):
                if added is not None:
                    held += part.of_pairs(added)
            torch.softmax(held, -1, out=held)
            signs = signs_of(drawn, rate)
            torch.copysign(held, signs, out=held)  # what is dropped is negative from here on
            weights = torch.clamp_min(held, 0.0, out=signs)
            part.of_queries(output).copy_(_multiply(weights, part.of_keys(value)))
        output.mul_(1 / (1 - rate))
        ctx.save_for_backward(query, key, value, bias, mask, scores, output)
        ctx.parts, ctx.rate = parts, rate
        return output

    @staticmethod
    def backward(ctx, upstream):
        query, key, value, bias, _, scores, output = ctx.saved_tensors
        if torch.is_grad_enabled():  # the gradient has a gradient
            return _differentiable_gradients(ctx, upstream)
        common = (upstream * output).sum(-1, keepdim=True)
        scaled = upstream * (1 / (1 - ctx.rate))
        of_query, of_key, of_value = (_zeros(x.shape, x) for x in (query, key, value))
        of_bias = None if bias is None else torch.zeros_like(bias)
        for part, held in zip(ctx.parts, _held(scores, ctx.parts), strict=True):
            queries, keys = part.of_queries(query), part.of_keys(key)
            part_upstream = part.of_queries(scaled).contiguous()
            weights = held.clamp_min(0.0)
            part.of_keys(of_value).copy_(_multiply_turned(weights, part_upstream, keys.shape[1]))
            slopes = _multiply(part_upstream, part.of_keys(value).transpose(-1, -2)).mul_(weights)
            slopes.addcmul_(torch.abs(held, out=weights), part.of_queries(common), value=-1.0)
            if bias is not None:
                place = part.of_pairs(of_bias)
                place += slopes.sum_to_size(place.shape)
            part.of_queries(of_query).copy_(_multiply(slopes, keys))
            part.of_keys(of_key).copy_(_multiply_turned(slopes, queries, keys.shape[1]))
        return of_query, of_key, of_value, of_bias, None, None, None, None


def _differentiable_gradients(ctx, upstream):
    query, key, value, bias, mask, scores, _ = ctx.saved_tensors
    outputs = []
    for part, held in zip(ctx.parts, _held(scores, ctx.parts), strict=True):
        logits = _multiply(part.of_queries(query), part.of_keys(key).transpose(-1, -2))
        for added in (bias, mask):
            logits = logits if added is None else logits + part.of_pairs(added)
        factors = torch.signbit(held).logical_not() / (1 - ctx.rate)
        outputs.append(_multiply(logits.softmax(-1) * factors, part.of_keys(value)))
    inputs = (query, key, value, bias)
    is_needed = [x is not None and x.requires_grad for x in inputs]
    needed = [x for x, wanted in zip(inputs, is_needed, strict=True) if wanted]
    upstreams = [part.of_queries(upstream) for part in ctx.parts]
    gradients = iter(torch.autograd.grad(outputs, needed, upstreams, create_graph=True))
    return *(next(gradients) if wanted else None for wanted in is_needed), None, None, None, None


def _chunks(shape):
    """Parts of the batch whose scores stay in the processor's caches while one operation after the other sees them."""
    batch, size = shape[0], max(1, _CHUNK * shape[0] // max(1, math.prod(shape)))
    sizes = [(start, min(size, batch - start)) for start in range(0, batch, size)]
    return [Part(slice(start, start + rows), slice(None), slice(None), (rows, *shape[1:])) for start, rows in sizes]


def _held(scores, parts):
    """The part of flat `scores` that each has."""
    pieces = scores.split([math.prod(part.shape) for part in parts])
    return [piece.view(part.shape) for piece, part in zip(pieces, parts, strict=True)]


def _zeros(shape, like):
    """`[B, N, T, X]`, in memory with the heads of a token together, as those who read it next want it."""
    batch, num_heads, length, width = shape
    return like.new_zeros(batch, length, num_heads, width).transpose(1, 2)


def _multiply(heads, shared, out=None):
    """`[B, N, T, X]` times `[B, K, X, Y]`, each of which serves N / K heads, unrepeated."""
    grouped = _grouped(heads, shared.shape[1])
    if out is None:
        return torch.matmul(grouped, shared).view(*heads.shape[:3], shared.shape[-1])
    return torch.matmul(grouped, shared, out=_grouped(out, shared.shape[1]))


def _multiply_turned(heads, others, num_shared):
    """The gradient of `[B, K, X, Y]`, which serves N / K heads each: `[B, N, T, X]` turned, times `[B, N, T, Y]`."""
    return torch.matmul(_grouped(heads, num_shared).transpose(-1, -2), _grouped(others, num_shared))


def _grouped(heads, num_shared):
    """`[B, N, T, X]` as `[B, K, N / K · T, X]`."""
    batch, num_heads, length, width = heads.shape
    return heads.reshape(batch, num_shared, num_heads // num_shared * length, width)


TORCH_DROPOUT = Kernel("torch_dropout", why_not_in_place, _run)
