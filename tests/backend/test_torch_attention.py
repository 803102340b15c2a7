"""PyTorch's attention with dropout, in place: beside the same in float64, operation by operation."""

import keras
import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from keras_tfm import ops
from keras_tfm.ops.dropout import keep_mask

if keras.backend.backend() != "torch":
    pytest.skip("of PyTorch", allow_module_level=True)

import torch

from keras_tfm.backend import torch_attention
from keras_tfm.backend.torch_random import signs_of

RATE, HEADS, QUERIES, KEYS = 0.3, 6, 5, 7
BIASES = [None, (QUERIES, KEYS), (1, HEADS, 1, KEYS), (3, 1, QUERIES, KEYS), (3, HEADS, QUERIES, KEYS)]


def _inputs(shared, seed, batch=3):
    generator = torch.Generator().manual_seed(seed)
    sizes = [(batch, QUERIES, HEADS, 8), (batch, KEYS, shared, 8), (batch, KEYS, shared, 4)]
    return [torch.randn(size, generator=generator) for size in sizes], generator


def _dropout(rate=RATE):
    return ops.ScoreDropout.of(rate, keras.random.SeedGenerator(5), seed=5)


def _expected(query, key, value, bias, real, rate=RATE, causal=False):
    shared = key.shape[2]
    query, key, value = (x.double().transpose(1, 2) for x in (query, key, value))
    key, value = (x.repeat_interleave(HEADS // x.shape[1], dim=1) for x in (key, value))
    logits = query @ key.mT * query.shape[-1] ** -0.5
    logits = logits if bias is None else logits + bias.double()
    allowed = real[:, None, None]
    if causal:
        allowed = allowed & torch.ones(QUERIES, KEYS, dtype=torch.bool).tril()
    scores = logits.masked_fill(~allowed, -torch.inf).softmax(-1)
    kept = _drawn(scores, rate, shared, causal)
    return (scores * kept / (1 - rate) @ value).transpose(1, 2)


def _drawn(scores, rate, shared, causal):
    """Which scores stay: of one draw if they are few, else each part's by its place."""
    generator = keras.random.SeedGenerator(5)
    parts = torch_attention.cut_scores(tuple(scores.shape), shared, sees_no_later_key=causal)
    if torch_attention.are_few(parts):
        return keep_mask(tuple(scores.shape), rate, generator, like=scores)
    kept = torch.ones(scores.shape, dtype=torch.bool)
    for part, words in zip(parts, torch_attention.draw_parts(parts, generator), strict=True):
        part.of_pairs(kept).copy_(signs_of(words, rate) > 0)
    return kept


def _received(query, key, value, bias, real, rate=RATE, causal=False):
    mask = ops.AttentionMask(key_padding=real, is_causal=causal)
    with ops.use_kernel("torch_dropout"):
        return ops.attention(query, key, value, mask, bias=bias, dropout=_dropout(rate))[0]


@pytest.mark.parametrize("chunk", [1, 40, 1 << 19])
@pytest.mark.parametrize("most_kept", [0, 1 << 26])
@pytest.mark.parametrize("bias_shape", BIASES)
@given(shared=st.sampled_from([1, 3, 6]), seed=st.integers(0, 99), causal=st.booleans())
def test_value_gradient_and_its_gradient_are_those_of_float64(chunk, most_kept, bias_shape, shared, seed, causal):
    inputs, generator = _inputs(shared, seed)
    if bias_shape:
        inputs.append(torch.randn(bias_shape, generator=generator))
    inputs = [x.requires_grad_() for x in inputs]
    upstream = torch.randn(3, QUERIES, HEADS, 4, generator=generator)
    real = torch.arange(KEYS) < torch.tensor([[7], [4], [1]])
    found = []
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(torch_attention, "_CHUNK", chunk)
        patch.setattr(torch_attention, "_MOST_KEPT", most_kept)
        for attend in (_received, _expected):
            bias = inputs[3] if bias_shape else None
            output = attend(*inputs[:3], bias, real, causal=causal)
            total = (output * upstream).sum()
            plain = torch.autograd.grad(total, inputs, retain_graph=True)
            again = torch.autograd.grad(total, inputs, create_graph=True)
            curvature = torch.autograd.grad(sum((x**2).sum() for x in again), inputs)
            found.append([output, *plain, *again, *curvature])
    for received, expected in zip(*found, strict=True):
        largest = max(1.0, float(expected.detach().abs().max()))
        assert float((received - expected).detach().abs().max()) < 1e-5 * largest


def test_nothing_gives_nothing():
    (query, key, value), _ = _inputs(3, 0, batch=0)
    assert _received(query, key, value, None, torch.ones(0, KEYS, dtype=torch.bool)).shape == (0, QUERIES, HEADS, 4)
    (query, key, value), _ = _inputs(3, 0)
    none, real = query[:, :0].requires_grad_(), torch.ones(3, KEYS, dtype=torch.bool)
    _received(none, key, value, None, real).sum().backward()
    assert none.grad.shape == (3, 0, HEADS, 8)


def test_a_bias_may_have_no_gradient():
    (query, key, value), _ = _inputs(6, 0)
    key.requires_grad_()
    real, bias = torch.ones(3, KEYS, dtype=torch.bool), torch.ones(QUERIES, KEYS)
    for create_graph in (False, True):
        total = _received(query, key, value, bias, real).sum()
        (received,) = torch.autograd.grad(total, [key], create_graph=create_graph)
        (expected,) = torch.autograd.grad(_expected(query, key, value, bias, real).sum(), [key])
        assert float((received - expected).detach().abs().max()) < 1e-5


@pytest.mark.parametrize(
    "change, reason",
    [
        (dict(dropout=None), "whose rate and seed are known"),
        (dict(dropout=lambda scores: scores), "whose rate and seed are known"),
        (dict(dropout=1.0), "whose rate and seed are known"),
        (dict(dtype=torch.bfloat16), "float32 on a CPU"),
        (dict(return_scores=True), "scores were asked for"),
        (dict(logit_soft_cap=3.0), "soft cap"),
    ],
)
def test_it_says_what_it_does_not_serve(change, reason):
    dropout = change.pop("dropout", RATE)
    dropout = _dropout(dropout) if isinstance(dropout, float) else dropout
    inputs = [x.to(change.pop("dtype", torch.float32)) for x in _inputs(3, 0)[0]]
    assert reason in dict(ops.explain_attention(*inputs, dropout=dropout, **change))["torch_dropout"]


def test_training_takes_it_and_prediction_does_not():
    inputs, _ = _inputs(3, 0)
    assert [name for name, why in ops.explain_attention(*inputs, dropout=_dropout()) if why is None][
        0
    ] == "torch_dropout"
    assert [name for name, why in ops.explain_attention(*inputs) if why is None][0] == "torch_sdpa"


def test_transformations_of_functions_take_another_kernel():
    inputs, _ = _inputs(3, 0)

    def total(query):
        return ops.attention(query, *inputs[1:], dropout=_dropout())[0].sum()

    query = inputs[0].requires_grad_()
    (expected,) = torch.autograd.grad(total(query), [query])
    np.testing.assert_allclose(torch.func.grad(total)(query.detach()), expected, rtol=0, atol=1e-5)


def test_memory_is_linear_in_the_length():
    """Neither output nor gradient ever holds a tensor of as many numbers as there are scores."""
    length, heads = 4096, 8
    inputs = [torch.zeros(1, length, heads, 4, requires_grad=True) for _ in range(3)]
    seen = []

    class Sizes(torch.utils._python_dispatch.TorchDispatchMode):
        def __torch_dispatch__(self, function, types, args=(), kwargs=None):
            result = function(*args, **(kwargs or {}))
            seen.extend(x.untyped_storage().nbytes() for x in keras.tree.flatten(result) if torch.is_tensor(x))
            return result

    with Sizes(), ops.use_kernel("torch_dropout"):
        ops.attention(*inputs, ops.AttentionMask(is_causal=True), dropout=_dropout())[0].sum().backward()
    assert len(seen) > 1000 and max(seen) <= 4 * max(torch_attention._CHUNK, length * heads * 4)


def test_a_bias_on_many_scores_takes_another_kernel(monkeypatch):
    inputs, _ = _inputs(6, 0)
    bias = torch.zeros(QUERIES, KEYS)
    assert dict(ops.explain_attention(*inputs, bias=bias, dropout=_dropout()))["torch_dropout"] is None
    monkeypatch.setattr(torch_attention, "_MOST_KEPT", 0)
    reasons = dict(ops.explain_attention(*inputs, bias=bias, dropout=_dropout()))
    assert "held as a whole" in reasons["torch_dropout"]
