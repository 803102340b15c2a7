"""Kernels are chosen in the open: why not, by force, and under observation."""

import numpy as np
import pytest

from keras_tfm import ops

HEADS = [np.zeros((1, 5, 2, 8), "float32")] * 3


def test_the_first_kernel_that_can_runs():
    used = []
    with ops.observe_attention(lambda request, kernel: used.append(kernel.name)):
        ops.attention(*HEADS)
        ops.attention(*HEADS, return_scores=True)
    explained = [ops.explain_attention(*HEADS), ops.explain_attention(*HEADS, return_scores=True)]
    assert used == [next(name for name, reason in each if reason is None) for each in explained]
    assert used[1] == "reference"


@pytest.mark.parametrize(
    "arguments, reason",
    [
        (dict(return_scores=True), "scores were asked for"),
        (dict(dropout=lambda scores: scores), "the layer's own seed|of a backend"),
        (dict(logit_soft_cap=2.0), "no soft cap"),
        (dict(score=lambda q, k: None), "no dot products"),
        (dict(sink=np.zeros(2)), "no attention sink"),
        (dict(value_bias=lambda *args: None), "need the scores"),
    ],
)
def test_fused_kernels_say_why_not(arguments, reason):
    explained = dict(ops.explain_attention(*HEADS, **arguments))
    fused = [name for name in explained if name not in ("sliding_window", "dense", "block", "reference")]
    assert all(explained[name] is not None for name in fused)
    if "torch_sdpa" in fused:
        with pytest.raises(ValueError, match=f"'torch_sdpa' cannot serve this request: .*({reason})"):
            with ops.use_kernel("torch_sdpa"):
                ops.attention(*HEADS, **arguments)
    assert explained["reference"] is None


def test_a_kernel_that_is_not_there_is_refused():
    with pytest.raises(ValueError, match="`name` must be a kernel of this backend, one of .*name='flash'"):
        with ops.use_kernel("flash"):
            pass


def test_heads_that_cannot_be_shared_are_refused():
    query, key = np.zeros((1, 5, 3, 8), "float32"), np.zeros((1, 5, 2, 8), "float32")
    with pytest.raises(ValueError, match="The number of key heads must divide"):
        ops.attention(query, key, key)
