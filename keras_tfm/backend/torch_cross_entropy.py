"""PyTorch: the cross-entropy of a linear map, one chunk of tokens at a time, with its gradients on the way."""

import torch

from keras_tfm.backend.torch_linear import onednn, serves_onednn

_TILE = 1 << 20  # logits whose softmax is taken at once on a CPU: they stay in its cache
_BLOCK = 1 << 12  # classes of one product of oneDNN, which copies the kernel that it is given


def linear_cross_entropy(features, kernel, bias, targets, weights, rule):
    """The weighted sum of the losses, float32 scalar; see `keras_tfm.backend.jax_cross_entropy`.

    Gradients are computed on the way, those that are asked for.
    """
    if features.device.type == "meta":
        return torch.empty((), device="meta")
    return _LinearCrossEntropy.apply(features, kernel, bias, weights, targets, rule)


class _LinearCrossEntropy(torch.autograd.Function):
    @staticmethod
    def forward(ctx, features, kernel, bias, weights, targets, rule):
        ctx.rule = rule
        ctx.save_for_backward(features, kernel, bias, weights, targets)
        total, ctx.gradients = _run(features, kernel, bias, weights, targets, rule, ctx.needs_input_grad[:4])
        return total

    @staticmethod
    def backward(ctx, upstream):
        inputs = ctx.saved_tensors
        gradients, ctx.gradients = ctx.gradients, None  # scaled in place, so that they serve once
        if gradients is None:
            gradients = _run(*inputs, ctx.rule, ctx.needs_input_grad[:4])[1]
        if upstream.device.type != "cpu" or torch.compiler.is_compiling() or upstream.item() != 1:
            gradients = [None if x is None else x.mul_(upstream) for x in gradients]
        likes = zip(gradients, inputs[:4], strict=True)
        return (*(None if x is None else x.to(like.dtype) for x, like in likes), None, None)


def _run(features, kernel, bias, weights, targets, rule, needed):
    kept = torch.nonzero(weights).squeeze(1)  # the tokens that count
    matrix = (kernel if rule.is_tied else kernel.t()).to(features.dtype)  # [V, D]
    scale = _scale(weights, features.dtype)
    losses = torch.zeros_like(weights)
    shapes = (features.shape, matrix.shape, None if bias is None else bias.shape)
    gradients = [
        torch.zeros(shape, dtype=torch.float32, device=features.device) if is_needed and shape is not None else None
        for shape, is_needed in zip(shapes, needed, strict=False)
    ]
    if gradients[1] is not None and not rule.is_tied:  # laid out as the kernel is
        gradients[1] = gradients[1].view(kernel.shape).t()
    for rows in kept.split(rule.chunk_size) if len(kept) else ():
        x, w = features[rows], weights[rows, None]
        slopes = _logits(x, matrix)
        losses[rows] = _take_slopes(slopes, targets[rows], bias, rule, any(needed[:3]))
        _add_gradients(gradients, x, w, rows, slopes, matrix, scale)
        del slopes  # before the next chunk's logits are made
    if gradients[1] is not None and not rule.is_tied:
        gradients[1] = gradients[1].t()
    return torch.dot(losses, weights), [*gradients, losses if needed[3] else None]


def _take_slopes(logits, targets, bias, rule, has_slopes):
    """Losses float32 `[C]`; turns the logits `[C, V]` into their slopes in place."""
    num_rows, num_classes = logits.shape
    size = max(1, _TILE // num_classes) if logits.device.type == "cpu" else num_rows
    losses = []
    for tile, ids in zip(logits.split(size), targets.long()[:, None].split(size), strict=True):
        values = tile.float()
        if bias is not None:
            values = values.add_(bias)
        if rule.logit_soft_cap is not None:
            values = values.div_(rule.logit_soft_cap).tanh_().mul_(rule.logit_soft_cap)
        losses.append(_take_tile(values, ids, rule, has_slopes))
        if has_slopes and values.dtype != tile.dtype:
            tile.copy_(values)
    return torch.cat(losses)


def _take_tile(values, ids, rule, has_slopes):
    """Losses of logits after the cap, which become slopes before it."""
    smoothing, cap = rule.label_smoothing, rule.logit_soft_cap
    wanted = (1.0 - smoothing) * values.gather(1, ids)
    if smoothing:
        wanted += smoothing * values.mean(1, keepdim=True)
    largest = values.amax(1, keepdim=True)
    bend = None if cap is None or not has_slopes else 1.0 - (values / cap).square_()
    torch.softmax(values, 1, out=values)
    # The largest probability is exp(largest - normalizer).
    losses = largest - values.amax(1, keepdim=True).log_() - wanted
    if has_slopes:
        values.scatter_add_(1, ids, torch.full_like(wanted, smoothing - 1.0))
        if smoothing:
            values.sub_(smoothing / values.shape[1])
        if bend is not None:
            values.mul_(bend)
    return losses.squeeze(1)


def _logits(features, matrix):
    if not serves_onednn(features):
        return torch.mm(features, matrix.t())
    logits = features.new_empty((len(features), len(matrix)))
    for part, block in zip(logits.split(_BLOCK, dim=1), matrix.split(_BLOCK), strict=True):
        part.copy_(_product(features, block))
    return logits


def _add_gradients(gradients, features, weights, rows, slopes, matrix, scale):
    of_features, of_matrix, of_bias = gradients
    if of_bias is not None:
        of_bias += scale * torch.mv(slopes.t(), (weights[:, 0] / scale).to(slopes.dtype)).float()
    weighted = (weights / scale * features).to(features.dtype)
    if not serves_onednn(slopes):
        if of_features is not None:
            of_features[rows] = torch.mm(slopes, matrix).float().mul_(weights)
        if of_matrix is not None and slopes.dtype == torch.float32:
            of_matrix.addmm_(slopes.t(), weighted)
        elif of_matrix is not None:
            of_matrix += scale * torch.mm(slopes.t(), weighted).float()
        return
    of_chunk = None if of_features is None else torch.zeros_like(features)
    for i, part in enumerate(slopes.split(_BLOCK, dim=1)):
        places, part = slice(i * _BLOCK, i * _BLOCK + part.shape[1]), part.contiguous()
        if of_chunk is not None:
            of_chunk += _product(part, matrix[places].t())
        if of_matrix is not None:
            of_matrix[places] += _turned_product(part.t(), weighted.t(), of_matrix)
    if of_chunk is not None:
        of_features[rows] = of_chunk.mul_(weights)


def _turned_product(a, b, like):
    """`a` times the transpose of `b`, laid out as `like` is."""
    return _product(a, b) if like.is_contiguous() else _product(b, a).t()


def _product(a, b):
    """`a [M, K]` times the transpose of `b [N, K]`."""
    return onednn(a, b) if serves_onednn(a) else torch.mm(a, b.t())


def _scale(weights, dtype):
    """What weights are divided by before a product in half precision, which has no room for small ones."""
    if dtype.itemsize > 2:
        return 1.0
    largest = weights.abs().amax() if weights.numel() else weights.sum()
    return torch.where(largest > 0, largest, 1.0)
