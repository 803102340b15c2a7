"""How a sub-layer is joined to the residual stream: where its norms stand, what it reads, and how it is added."""

import operator

from keras_tfm.layers.sublayer_calls import Steps

# Where the norms of a sub-layer stand: on its input, on its output before the sum, or on the stream after the sum.
PLACEMENTS = {
    "post": ("stream",),  # norm(x + f(x)): Vaswani et al. 2017
    "pre": ("input",),  # x + f(norm(x)): Xiong et al. 2020
    "sandwich": ("input", "output"),  # x + norm'(f(norm(x))): Ding et al. 2021, Gemma 2
    "output": ("output",),  # x + norm(f(x)): OLMo 2, Swin V2
    "parallel": ("input",),  # x + f(norm(x)) + g(norm(x)): GPT-J, PaLM
    "parallel_two_norms": ("input",),  # x + f(norm(x)) + g(norm'(x)): GPT-NeoX
}
# What the feed-forward network reads: the stream that attention has written to, or what attention has read itself.
FEED_FORWARD_READS = {"parallel": "normalized", "parallel_two_norms": "inputs"}


def norm_places(placement, sublayer):
    """Where the norms of a sub-layer stand, for a name from `PLACEMENTS`."""
    shares_norm = sublayer == "feed_forward" and feed_forward_reads(placement) == "normalized"
    return () if shares_norm else PLACEMENTS[placement]


def feed_forward_reads(placement):
    """Which of `"inputs"`, `"normalized"` and `"stream"` the feed-forward network reads."""
    return FEED_FORWARD_READS.get(placement, "stream")


class SublayerConnection:
    """What stands around a sub-layer: `end(x ⊕ after(f(before(x))))`.

    It holds layers of the block that made it, and no weights of its own.

    Args:
        before: layers between the stream and the sub-layer; `None` is left out of all lists.
        after: layers between the sub-layer and the sum.
        residual: what is called with stream and update in place of a sum, or `None`.
        end: layers on the stream after the sum.
    """

    def __init__(self, before=(), after=(), residual=None, end=()):
        self._before, self._after, self._end = Steps(before), Steps(after), Steps(end)
        self._residual = operator.add if residual is None else residual

    def read(self, x, mask, training):
        """What the sub-layer reads from the stream `x [B, T, D]`; `mask` is bool `[B, T]`, True at real tokens."""
        return self._before(x, mask, training)

    def write(self, x, update, mask, training):
        """The stream after the sub-layer's update."""
        update = self._after(update, mask, training)
        return self._end(self._residual(x, update), mask, training)
