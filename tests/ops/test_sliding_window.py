"""The sliding-window kernel: the windows' numbers at the windows' cost."""

import keras
import numpy as np
import pytest
from keras import ops as keras_ops

from keras_tfm import layers, ops
from tests import oracles
from tests.numerics import assert_close, value_and_gradients

B, T, N, K, H, HV = 2, 197, 4, 2, 6, 5  # a length that blocks of 32 do not divide


def heads(seed=0):
    rng = np.random.default_rng(seed)
    shapes = [(B, T, N, H), (B, T, K, H), (B, T, K, HV), (B, T, N, HV)]
    return rng, [rng.normal(size=shape).astype("float32") for shape in shapes]


def lengths(rng):
    return np.arange(T) < rng.integers(T // 2, T, (B, 1))


@pytest.mark.parametrize("causal", [True, False])
@pytest.mark.parametrize("window", [1, 7, 32])
@pytest.mark.parametrize("masked", [False, True])
def test_it_equals_float64_in_value_and_gradient(causal, window, masked):
    rng, (*inputs, upstream) = heads()
    parts = dict(causal=causal, window=window)
    if masked:
        segments = np.cumsum(rng.random((B, T)) < 0.05, axis=1).astype("int32")
        parts |= dict(key_padding=lengths(rng), query_padding=lengths(rng), segments=(segments, segments))
    tensors = {name: keras.tree.map_structure(_tensor, part) for name, part in parts.items() if name != "causal"}
    mask = ops.AttentionMask(is_causal=causal, **tensors)

    def attend(*heads):
        with ops.use_kernel("sliding_window"):
            return ops.attention(*heads, mask)[0]

    output, gradients = value_and_gradients(attend, inputs, upstream)
    pairs = oracles.allowed_pairs(B, N, T, T, **parts)
    assert_close(output, oracles.attention(*inputs, pairs)[0])
    assert_close(gradients, oracles.attention_gradients(*inputs, upstream, pairs))


def _tensor(part):
    return keras_ops.convert_to_tensor(part) if isinstance(part, np.ndarray) else part


@pytest.mark.parametrize("position", [None, "rope", "alibi", "t5"])
@pytest.mark.parametrize("sink", [None, "learned"])
def test_layers_choose_it_by_themselves_with_any_position(position, sink):
    rng = np.random.default_rng(0)
    layer = layers.MultiHeadAttention(
        N, H, num_key_value_heads=K, sliding_window=5, position=position, attention_sink=sink, logit_soft_cap=4.0
    )
    x = rng.normal(size=(B, T, 11)).astype("float32")
    mask, used = lengths(rng), []
    with ops.observe_attention(lambda request, kernel: used.append(kernel.name)):
        output = layer(x, x, padding_mask=mask, use_causal_mask=True)
        expected, _ = layer(x, x, padding_mask=mask, use_causal_mask=True, return_attention_scores=True)
    assert used[0] == "sliding_window" and used[-1] == "reference"
    assert_close(output, expected)


def test_it_never_holds_all_pairs():
    """What its inner request is asked for grows with the length, not with its square."""
    held = []
    with ops.observe_attention(lambda request, kernel: held.append((kernel.name, request))):
        inputs = [keras_ops.convert_to_tensor(np.zeros((1, 4096, 1, 2), "float32"))] * 3
        ops.attention(*inputs, ops.AttentionMask(is_causal=True, window=32))
    (name, _), *inner = held
    assert name == "sliding_window"
    pairs = [each.query.shape[0] * each.query.shape[1] * each.key.shape[1] for _, each in inner]
    assert pairs == [32 * 32, (4096 - 32) * 64]


@pytest.mark.parametrize(
    "changes, reason",
    [
        (dict(window=None), "no sliding window"),
        (dict(explicit=np.ones((1, 1, T, T), bool)), "an explicit mask"),
        (dict(pattern=ops.Blocks(3)), "an explicit mask, a pattern"),
        (dict(query_offset=1), "not known to be the same positions"),
        (dict(window=80), "are few for a window"),
    ],
)
def test_it_says_why_not(changes, reason):
    _, (*inputs, _) = heads()
    mask = ops.AttentionMask(**{"is_causal": True, "window": 5, **changes})
    explained = dict(ops.explain_attention(*map(keras_ops.convert_to_tensor, inputs), mask))
    assert reason in explained["sliding_window"]
