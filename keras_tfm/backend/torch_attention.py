"""PyTorch: attention with dropout on a CPU, where no fused kernel has it: a part of the scores at a time, in place.

Operation by operation all scores would be written seven times, into new memory each time, and in the gradient as often.
Few scores are kept for the gradient; many are drawn and computed again, so that memory is linear in the length.
"""

import dataclasses
import math
from collections.abc import Sequence
from typing import NamedTuple

import torch

from keras_tfm.backend.kernel import Kernel, why_not_fused
from keras_tfm.backend.torch_random import draw_words, draw_words_at, seeds_of_draw, signs_of
from keras_tfm.backend.torch_recording import is_eager

_CHUNK = 1 << 19  # scores of a part: 2 MiB, which stay in the caches while one operation after the other sees them
_MOST_KEPT = 1 << 26  # scores: 256 MiB
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


def _why_rather_not(request):
    if request.biases and math.prod(_shape(request)) > _MOST_KEPT:
        return "a bias on so many scores would be held as a whole"
    return None


def _run(request):
    # Contiguous before the gradient is taken over: it needs them as the products do.
    query, key, value = (x.transpose(1, 2).contiguous() for x in (request.query, request.key, request.value))
    bias = request.bias()
    bias = bias if bias is None else bias.reshape(*[1] * (4 - bias.dim()), *bias.shape)
    shape = _shape(request)
    parts = cut_scores(shape, key.shape[1], sees_no_later_key=request.mask.sees_no_later_key)
    if are_few(parts):
        words, mask = draw_words(shape, request.dropout.seed_generator), additive(request.mask.materialize(*shape[2:]))
        draws = [part.of_pairs(words) for part in parts]
        masks = [None if mask is None else part.of_pairs(mask) for part in parts]
    else:
        draws = draw_parts(parts, request.dropout.seed_generator)
        masks = OnDemand(parts, lambda part: additive(request.part_of_mask(part.rows, part.queries, part.keys)))
    scores = Scores(parts, draws, masks)
    return attend_in_place(query * request.scale, key, value, bias, scores, request.dropout.rate).transpose(1, 2), None


class Part(NamedTuple):
    """Which scores are computed together.

    Args:
        rows, heads, shared, queries, keys: slices of the batch, of N, of K, of T and of S.
        shape: of the scores, `(rows, heads, queries, keys)`.
    """

    rows: slice
    heads: slice
    shared: slice
    queries: slice
    keys: slice
    shape: tuple

    @property
    def place(self):
        """Integers that no other part has: where its first score stands."""
        return [each.start for each in (self.rows, self.heads, self.queries, self.keys)]

    def of_queries(self, x):
        """The part of `[B, N, T, X]`."""
        return x[self.rows, self.heads, self.queries]

    def of_keys(self, x):
        """The part of `[B, K, S, X]`."""
        return x[self.rows, self.shared, self.keys]

    def of_pairs(self, x):
        """The part of `[B or 1, N or 1, T or 1, S or 1]`."""
        places = self.rows, self.heads, self.queries, self.keys
        return x[tuple(place if size > 1 else slice(None) for place, size in zip(places, x.shape, strict=True))]


class OnDemand:
    """`function` of each part, computed anew each time that it is asked for by the index of the part."""

    def __init__(self, parts, function):
        self.parts, self.function = parts, function

    def __getitem__(self, index):
        return self.function(self.parts[index])


class Scores(NamedTuple):
    """How scores come about, part by part.

    Args:
        parts: list of `Part`.
        words: for each, by index, random int16 in the shape of its scores, the same each time.
        masks: for each, by index, what its mask adds to the logits, or `None`.
    """

    parts: list
    words: Sequence
    masks: Sequence

    def compute(self, index, out, query, key, bias, rate):
        """Writes the scores of a part to `out`, negative where they are dropped, and returns memory that is free."""
        part = self.parts[index]
        _multiply(part.of_queries(query), part.of_keys(key).transpose(-1, -2), out=out)
        for added in (None if bias is None else part.of_pairs(bias), self.masks[index]):
            if added is not None:
                out += added
        torch.softmax(out, -1, out=out)
        signs = signs_of(self.words[index], rate)
        torch.copysign(out, signs, out=out)
        return signs


def draw_parts(parts, seed_generator):
    """Random words for each part, by index: of one draw if they are few, else drawn on demand."""
    seeds = seeds_of_draw(seed_generator)
    if not are_few(parts):
        return OnDemand(parts, lambda part: draw_words_at(part.shape, seeds, part.place))
    sizes = [math.prod(part.shape) for part in parts]
    pieces = draw_words_at((sum(sizes),), seeds).split(sizes)
    return [piece.view(part.shape) for piece, part in zip(pieces, parts, strict=True)]


def cut_scores(shape, num_shared, queries=0, keys=0, sees_no_later_key=False):
    """All scores in parts: of several rows, or of some queries of the heads that share keys.

    Args:
        shape: `(B, N, T, S)` of the scores.
        num_shared: K.
        queries, keys: where the first of the T queries and the first of the S keys stand.
        sees_no_later_key: whether the query at place i sees keys up to place i alone.
    """
    batch, num_heads, length, num_keys = shape
    row, to = num_heads * length * num_keys, _slice
    if row <= _CHUNK:
        heads, pairs = (to(0, num_heads), to(0, num_shared)), (to(queries, length), to(keys, num_keys))
        rows = _cut(batch, max(1, _CHUNK // max(1, row)))
        return [Part(to(start, size), *heads, *pairs, (size, *shape[1:])) for start, size in rows]
    group, parts = num_heads // num_shared, []
    for place, size in _cut(length, max(1, _CHUNK // (group * num_keys))):
        seen = min(num_keys, place + size) if sees_no_later_key else num_keys
        parts += [
            Part(
                to(row, 1),
                to(shared * group, group),
                to(shared, 1),
                to(queries + place, size),
                to(keys, seen),
                (1, group, size, seen),
            )
            for row in range(batch)
            for shared in range(num_shared)
        ]
    return parts


def are_few(parts):
    """Whether the scores of all parts are kept for the gradient."""
    return sum(math.prod(part.shape) for part in parts) <= _MOST_KEPT


def attend_in_place(query, key, value, bias, scores, rate):
    """Attention with dropout, a part of the scores after the other.

    Args:
        query: `[B, N, T, H]`, scaled.
        key, value: `[B, K, S, H]` and `[B, K, S, Hv]`.
        bias: `[B or 1, N or 1, T or 1, S or 1]`, added to the logits, or `None`.
        scores: the `Scores`; if they are not few, what they return is asked for once more for the gradient.
        rate: of the dropout.

    Returns:
        `[B, N, T, Hv]`, zeros where no part is.
    """
    return _Attention.apply(query, key, value, bias, scores, rate)


class _Attention(torch.autograd.Function):
    @staticmethod
    def forward(ctx, query, key, value, bias, scores, rate):
        output = _zeros((*query.shape[:3], value.shape[-1]), query)
        kept = query.new_empty(sum(math.prod(part.shape) for part in scores.parts) if are_few(scores.parts) else 0)
        for index, (part, held) in enumerate(_held(kept, scores.parts)):
            free = scores.compute(index, held, query, key, bias, rate)
            weights = torch.clamp_min(held, 0.0, out=free)
            part.of_queries(output).copy_(_multiply(weights, part.of_keys(value)))
        output.mul_(1 / (1 - rate))
        ctx.save_for_backward(query, key, value, bias, kept, output)
        ctx.scores = scores._replace(words=()) if kept.numel() else scores  # the signs of what is kept say it all
        ctx.rate = rate
        return output

    @staticmethod
    def backward(ctx, upstream):
        query, key, value, bias, kept, output = ctx.saved_tensors
        if torch.is_grad_enabled():  # the gradient has a gradient
            return _differentiable_gradients(ctx, upstream)
        common = (upstream * output).sum(-1, keepdim=True)
        scaled = upstream * (1 / (1 - ctx.rate))
        of_query, of_key, of_value = (_zeros(x.shape, x) for x in (query, key, value))
        of_bias = None if bias is None else torch.zeros_like(bias)
        for index, (part, held) in enumerate(_held(kept, ctx.scores.parts)):
            if kept.numel() == 0:
                ctx.scores.compute(index, held, query, key, bias, ctx.rate)
            queries, keys, part_upstream = (
                part.of_queries(query),
                part.of_keys(key),
                part.of_queries(scaled).contiguous(),
            )
            weights = held.clamp_min(0.0)
            part.of_keys(of_value).add_(_multiply_turned(weights, part_upstream, keys.shape[1]))
            slopes = _multiply(part_upstream, part.of_keys(value).transpose(-1, -2)).mul_(weights)
            slopes.addcmul_(torch.abs(held, out=weights), part.of_queries(common), value=-1.0)
            if bias is not None:
                place = part.of_pairs(of_bias)
                place += slopes.sum_to_size(place.shape)
            part.of_queries(of_query).copy_(_multiply(slopes, keys))
            part.of_keys(of_key).add_(_multiply_turned(slopes, queries, keys.shape[1]))
        return of_query, of_key, of_value, of_bias, None, None


def _differentiable_gradients(ctx, upstream):
    query, key, value, bias, kept, _ = ctx.saved_tensors
    outputs = []
    for index, (part, held) in enumerate(_held(kept, ctx.scores.parts)):
        if kept.numel() == 0:
            ctx.scores.compute(index, held, *(x if x is None else x.detach() for x in (query, key, bias)), ctx.rate)
        logits = _multiply(part.of_queries(query), part.of_keys(key).transpose(-1, -2))
        for added in (None if bias is None else part.of_pairs(bias), ctx.scores.masks[index]):
            logits = logits if added is None else logits + added
        factors = torch.signbit(held).logical_not() / (1 - ctx.rate)
        outputs.append(_multiply(logits.softmax(-1) * factors, part.of_keys(value)))
    inputs = (query, key, value, bias)
    is_needed = [x is not None and x.requires_grad for x in inputs]
    needed = [x for x, wanted in zip(inputs, is_needed, strict=True) if wanted]
    upstreams = [part.of_queries(upstream) for part in ctx.scores.parts]
    gradients = iter(torch.autograd.grad(outputs, needed, upstreams, create_graph=True))
    return *(next(gradients) if wanted else None for wanted in is_needed), None, None


def _shape(request):
    return request.query.shape[0], request.query.shape[2], request.query.shape[1], request.key.shape[1]


def additive(mask):
    """What a mask adds to the logits; `None` for `None`."""
    return None if mask is None else torch.where(mask, 0.0, _MASKED_LOGIT)


def _slice(start, size):
    return slice(start, start + size)


def _cut(length, size):
    """`(start, size)` of pieces of at most that size."""
    return [(start, min(size, length - start)) for start in range(0, length, size)]


def _held(kept, parts):
    """Each part with the memory of its scores: its piece of flat `kept`, or new memory where nothing is kept."""
    if kept.numel() == 0:
        return ((part, kept.new_empty(part.shape)) for part in parts)
    pieces = kept.split([math.prod(part.shape) for part in parts])
    return [(part, piece.view(part.shape)) for part, piece in zip(parts, pieces, strict=True)]


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


TORCH_DROPOUT = Kernel("torch_dropout", why_not_in_place, _run, _why_rather_not)
