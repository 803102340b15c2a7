"""PyTorch's attention within segments: the numbers of all pairs under a mask, whatever lies between the segments."""

import math

import keras
import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from keras_tfm import layers, ops
from tests import oracles
from tests.numerics import assert_close, randomize, value_and_gradients

if keras.backend.backend() != "torch":
    pytest.skip("of PyTorch", allow_module_level=True)

import torch

from keras_tfm.backend import torch_attention
from keras_tfm.backend.torch_random import signs_of

B, T, N, H, HV, RATE = 2, 9, 4, 5, 3, 0.3
ARRAYS = "segments", "query_padding", "key_padding", "query_positions", "key_positions"
tensor = keras.ops.convert_to_tensor


def runs(rng, length, names):
    """Segment ids `[B, length]`, each of the names in one run, in some order, of some length."""
    rows = []
    for _ in range(B):
        sizes = np.diff([0, *np.sort(rng.integers(0, length + 1, len(names) - 1)), length])
        rows.append(np.repeat(rng.permutation(names), sizes))
    return np.array(rows, "int32")


def drawn(seed, shared, causal, padded, cross):
    """Heads, an upstream gradient, and the parts of a mask."""
    rng = np.random.default_rng(seed)
    keys = T + 2 if cross else T
    shapes = [(B, T, N, H), (B, keys, shared, H), (B, keys, shared, HV), (B, T, N, HV)]
    heads = [rng.normal(size=shape).astype("float32") for shape in shapes]
    segments = runs(rng, T, [4, -1, 7])
    parts = dict(segments=(segments, runs(rng, keys, [7, 4, 2]) if cross else segments), causal=causal)
    if padded:
        parts["query_padding"] = np.arange(T) < rng.integers(0, T + 1, (B, 1))
        parts["key_padding"] = np.arange(keys) < rng.integers(0, keys + 1, (B, 1))
    return heads, parts


def mask_of(parts, **others):
    parts = {**parts, **others}
    tensors = {
        name: keras.tree.map_structure(tensor, part)
        for name, part in parts.items()
        if name in ARRAYS and part is not None
    }
    others = {name: part for name, part in parts.items() if name not in (*ARRAYS, "causal")}
    return ops.AttentionMask(is_causal=parts["causal"], **tensors, **others)


settings = given(
    seed=st.integers(0, 999),
    shared=st.sampled_from([1, 2, 4]),
    padded=st.booleans(),
    kind=st.sampled_from(["self", "causal", "cross"]),
)


@settings
def test_value_and_gradients_are_those_of_float64(seed, shared, padded, kind):
    (*heads, upstream), parts = drawn(seed, shared, kind == "causal", padded, kind == "cross")
    mask = mask_of(parts)
    if not _serves(heads, mask):
        return

    def attend(*heads):
        with ops.use_kernel("torch_segments"):
            return ops.attention(*heads, mask)[0]

    pairs = oracles.allowed_pairs(B, N, T, heads[1].shape[1], **parts)
    output, gradients = value_and_gradients(attend, heads, upstream)
    assert_close(output, oracles.attention(*heads, pairs)[0])
    assert_close(gradients, oracles.attention_gradients(*heads, upstream, pairs))


def _serves(heads, mask, **arguments):
    """Not where no segment has both queries and keys, or padding lets them start at different positions."""
    reason = dict(ops.explain_attention(*heads, mask, **arguments))["torch_segments"] or "leave out"
    assert "leave out" in reason or reason in UNSERVED
    return reason not in UNSERVED


UNSERVED = (
    "a segment lies in several places, or none has queries and keys",
    "queries and keys of a segment do not rise from the same position",
)


@pytest.mark.parametrize("chunk", [30, 1 << 19])
@pytest.mark.parametrize("most_kept", [0, 1 << 26])
@settings
def test_with_dropout_they_are_too_and_so_is_the_gradient_of_the_gradient(chunk, most_kept, seed, shared, padded, kind):
    (*heads, upstream), parts = drawn(seed, shared, kind == "causal", padded, kind == "cross")
    mask, dropout = mask_of(parts), ops.ScoreDropout.of(RATE, keras.random.SeedGenerator(5), seed=5)
    if not _serves(heads, mask, dropout=dropout):
        return
    pairs = oracles.allowed_pairs(B, N, T, heads[1].shape[1], **parts)
    inputs, found = [torch.tensor(x, requires_grad=True) for x in heads], []
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(torch_attention, "_CHUNK", chunk)
        patch.setattr(torch_attention, "_MOST_KEPT", most_kept)
        of_segments = oracles.allowed_pairs(B, N, T, heads[1].shape[1], **{**parts, "causal": False})
        masks = torch.from_numpy(pairs), torch.from_numpy(_factors(of_segments, shared, parts["causal"]))
        for attend, given in ((_received, mask), (_expected, masks)):
            output = attend(inputs, given)
            total = (output * torch.from_numpy(upstream)).sum()
            plain = torch.autograd.grad(total, inputs, retain_graph=True)
            again = torch.autograd.grad(total, inputs, create_graph=True)
            curvature = torch.autograd.grad(sum((x**2).sum() for x in again), inputs)
            found.append([output, *plain, *again, *curvature])
    for received, expected in zip(*found, strict=True):
        assert_close(received, expected.detach().numpy(), factor=10)


def _received(inputs, mask):
    dropout = ops.ScoreDropout.of(RATE, keras.random.SeedGenerator(5), seed=5)
    with ops.use_kernel("torch_segments"):
        return ops.attention(*inputs, mask, dropout=dropout)[0]


def _expected(inputs, masks):
    allowed, factors = masks
    query, key, value = (x.double().transpose(1, 2) for x in inputs)
    key, value = (x.repeat_interleave(N // x.shape[1], dim=1) for x in (key, value))
    logits = (query @ key.mT / math.sqrt(H)).masked_fill(~allowed, -1e300)
    return (logits.softmax(-1) * allowed * factors @ value).transpose(1, 2)


def _factors(pairs, shared, causal):
    """What scores are multiplied by: segment after segment, as many words as each has scores."""
    parts, places, keys_of_row = [], [], pairs.shape[-1]
    for row in range(B):
        place = 0
        while place < T:
            if not pairs[row, 0, place].any():
                place += 1
                continue
            keys = np.flatnonzero(pairs[row, 0, place])
            first, last = keys[0], np.flatnonzero(pairs[row, 0, :, keys[0]])[-1]
            starts = row * T + place, row * keys_of_row + first
            shape = 1, N, last + 1 - place, len(keys)
            cut = torch_attention.cut_scores(shape, shared, *starts, sees_no_later_key=causal)
            parts, places = parts + cut, places + [row] * len(cut)
            place = last + 1
    factors = np.ones(pairs.shape)
    words = torch_attention.draw_parts(parts, keras.random.SeedGenerator(5))
    for part, row, drawn in zip(parts, places, words, strict=True):
        queries, keys = (
            slice(x.start - row * n, x.stop - row * n) for x, n in ((part.queries, T), (part.keys, keys_of_row))
        )
        factors[row, part.heads, queries, keys] = (signs_of(drawn, RATE) > 0).numpy()[0] / (1 - RATE)
    return factors


def test_packed_rows_take_it_and_their_scores_are_few():
    layer = layers.MultiHeadAttention(2, 4, dropout=0.5)
    x = np.random.default_rng(0).normal(size=(1, 384, 6)).astype("float32")
    segments = np.repeat([[3, 1, 2]], 128, axis=1)
    layer(x, x)
    randomize(layer)
    for training in (False, True):
        used = []
        with ops.observe_attention(lambda request, kernel, used=used: used.append(kernel.name)):
            output = layer(x, x, segment_ids=segments, training=training)
        assert used == ["torch_segments"]
    expected = [layer(part, part) for part in np.split(x, 3, axis=1)]
    assert_close(layer(x, x, segment_ids=segments), keras.ops.concatenate(expected, axis=1))
    assert np.isfinite(output.detach().numpy()).all()


@pytest.mark.parametrize(
    "change, reason",
    [
        (dict(segments=None), "there are no segments"),
        (dict(window=2), "a window"),
        (dict(segments=(np.array([[1, 2, 1]]),) * 2), "in several places"),
        (dict(segments=(np.array([[1, 1, 1]]), np.array([[2, 2, 2]]))), "none has queries and keys"),
        (dict(causal=True, query_positions=[[1, 0, 2]], key_positions=[[1, 0, 2]]), "do not rise from"),
        (dict(causal=True, query_positions=[[0, 1, 2]], key_positions=[[1, 2, 3]]), "do not rise from"),
        (dict(bias=np.zeros((3, 3), "float32")), "a bias"),
        (dict(logit_soft_cap=3.0), "soft cap"),
        (dict(return_scores=True), "scores were asked for"),
        (dict(dropout=lambda scores: scores), "whose rate and seed are known"),
    ],
    ids=str,
)
def test_it_says_what_it_does_not_serve(change, reason):
    heads = [np.zeros((1, 3, 2, 4), "float32")] * 3
    arguments = {
        name: change[name] for name in ("bias", "logit_soft_cap", "return_scores", "dropout") if name in change
    }
    parts = {name: part for name, part in change.items() if name not in arguments}
    parts = {name: np.array(part) if "positions" in name else part for name, part in parts.items()}
    mask = mask_of(dict(segments=(np.array([[0, 0, 1]]),) * 2, causal=False), **parts)
    assert reason in dict(ops.explain_attention(*heads, mask, **arguments))["torch_segments"]


def test_many_short_segments_and_one_long_one_are_left_to_others():
    for ids, is_left in ((np.arange(256) // 4, True), (np.arange(256) // 250, True), (np.arange(256) // 64, False)):
        heads, segments = [np.zeros((1, 256, 4, 4), "float32")] * 3, tensor(ids[None])
        reason = dict(ops.explain_attention(*heads, ops.AttentionMask(segments=(segments, segments))))["torch_segments"]
        assert ("their calls cost more" in reason) if is_left else (reason is None), ids


def test_a_compiler_takes_another_kernel():
    heads, segments = [torch.zeros(1, 256, 4, 4)] * 3, torch.arange(256)[None] // 64
    used = []

    def attend(*heads):
        with ops.observe_attention(lambda request, kernel: used.append(kernel.name)):
            return ops.attention(*heads, ops.AttentionMask(segments=(segments, segments)))[0].sum()

    attend(*heads)
    torch.func.grad(attend)(*heads)
    assert used[0] == "torch_segments" != used[-1]
