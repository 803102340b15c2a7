"""An attention kernel: what it is called, when it cannot run, and how it runs."""

import dataclasses
from collections.abc import Callable
from typing import Any


@dataclasses.dataclass(frozen=True)
class Kernel:
    """One way to compute attention.

    Args:
        name: what `explain_attention` and `use_kernel` call it.
        why_not: takes a request; returns why this kernel cannot serve it, or `None` when it can. Runs at trace time
            and touches shapes only.
        why_rather_not: takes a request that it can serve; returns why others should, or `None`. A kernel that is
            demanded by name is not asked.
        run: takes a request; returns `(output, scores)`, `output [B, T, N, Hv]` and `scores [B, N, T, S]` or `None`.
            Rows with nothing
            to attend to may hold any finite value: the caller zeroes them.
    """

    name: str
    why_not: Callable[[Any], str | None]
    run: Callable[[Any], tuple]
    why_rather_not: Callable[[Any], str | None] = lambda request: None


def why_not_fused(request, draws_dropout=False):
    """The reasons that every fused kernel shares: such a kernel never holds the scores.

    Args:
        request: an `AttentionRequest`.
        draws_dropout: whether the kernel has dropout, drawn from the backend's global generator.
    """
    if request.return_scores:
        return "scores were asked for, and a fused kernel never holds them"
    if request.dropout is not None and not (draws_dropout and not request.dropout.is_seeded):
        return "attention dropout is drawn from the layer's own seed, outside the kernel"
    if request.logit_soft_cap is not None:
        return "it has no soft cap on the logits"
    if request.score is not None:
        return "the logits are no dot products"
    if request.sink is not None:
        return "it has no attention sink"
    if request.mixing is not None or request.value_bias is not None:
        return "head mixing and relative values need the scores, and a fused kernel never holds them"
    return None
