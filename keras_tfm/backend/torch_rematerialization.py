"""Functions whose intermediate results are computed again for the gradient."""

import contextvars
import functools

import torch
from torch.utils import checkpoint

_PRODUCTS = (torch.ops.aten.mm.default, torch.ops.aten.addmm.default)


def rematerialize(function, keeps_products=False, is_looped=False):
    """`function`, of and to trees of tensors; see `keras_tfm.backend.functional.rematerialize`."""
    del is_looped
    options = {}
    if keeps_products:
        options["context_fn"] = functools.partial(checkpoint.create_selective_checkpoint_contexts, _policy)

    def rematerialized(*trees):
        if not torch.is_grad_enabled():
            return function(*trees)
        context = contextvars.copy_context()  # the gradient is computed where settings of the call have ended

        def again(*trees):
            return context.copy().run(function, *trees)

        return checkpoint.checkpoint(again, *trees, use_reentrant=False, **options)

    return rematerialized


def _policy(context, operator, *args, **kwargs):
    is_single = operator is torch.ops.aten.bmm.default and args[0].shape[0] == 1  # as `einsum` writes a product
    is_kept = is_single or operator in _PRODUCTS
    return checkpoint.CheckpointPolicy.MUST_SAVE if is_kept else checkpoint.CheckpointPolicy.PREFER_RECOMPUTE
