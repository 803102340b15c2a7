"""MultiSourceAttention against the papers' combinations of plain attentions, in numpy float64."""

import functools

import numpy as np
import pytest

from keras_tfm.layers.multi_source_attention import COMBINATIONS, MultiSourceAttention
from keras_tfm.ops import KVCache
from tests import oracles
from tests.layers.check_layer import check_layer
from tests.numerics import assert_close, mask_of, randomize, to_numpy, value_and_gradients, with_mask

B, T, D, N, K, H, HV = 2, 3, 8, 4, 2, 5, 3
RNG = np.random.default_rng(0)
QUERY = RNG.normal(size=(B, T, D)).astype("float32")
MEMORIES = [RNG.normal(size=(B, *size)).astype("float32") for size in ((5, 7), (2, 11), (6, 8))]
PADDINGS = [
    np.array([[True] * 4 + [False], [False] * 2 + [True] * 3]),
    None,
    np.array([[True, False] * 3, [False] * 6]),  # the second sequence has nothing in this memory
]
make = functools.partial(MultiSourceAttention, N, H, value_dim=HV, num_key_value_heads=K)


def built(combination, memories=MEMORIES, **options):
    layer = make(combination, **options)
    layer.build(QUERY.shape, [x.shape for x in memories])
    layer.built = True
    return randomize(layer)


def dense(part, x, equation="btd,dnh->btnh"):
    return np.einsum(equation, x, to_numpy(part.kernel)) + to_numpy(part.bias)


def attend(part, query, memory, padding):
    """Multi-head attention by a `MultiHeadAttention`'s weights: output and scores."""
    padding = np.ones(memory.shape[:2], bool) if padding is None else padding
    heads, scores = oracles.attention(
        dense(part.query_dense, query),
        dense(part.key_dense, memory),
        dense(part.value_dense, memory),
        padding[:, None, None],
    )
    return dense(part.output_dense, heads, "btnh,nhd->btd"), scores


def flat(layer, query, memories, paddings):
    part = layer.flat_attention
    keys, values = (
        np.concatenate([dense(each, x) for each, x in zip(parts, memories, strict=True)], 1)
        for parts in (part.key_denses, part.value_denses)
    )
    whole = [np.ones(x.shape[:2], bool) if p is None else p for x, p in zip(memories, paddings, strict=True)]
    heads, scores = oracles.attention(
        dense(part.query_dense, query), keys, values, np.concatenate(whole, 1)[:, None, None]
    )
    cuts = np.cumsum([x.shape[1] for x in memories])[:-1]
    return dense(part.output_dense, heads, "btnh,nhd->btd"), np.split(scores, cuts, -1)


def parallel(layer, query, memories, paddings):
    found = [attend(*each) for each in zip(layer.attentions, [query] * len(memories), memories, paddings, strict=True)]
    return sum(output for output, _ in found), [scores for _, scores in found]


def serial(layer, query, memories, paddings):
    x, all_scores = query, []
    for i, (part, memory, padding) in enumerate(zip(layer.attentions, memories, paddings, strict=True)):
        norm = layer.step_norms[i - 1] if i else None
        asked = x if norm is None else oracles.layer_norm(x, to_numpy(norm.gamma), to_numpy(norm.beta), 1e-5)
        update, scores = attend(part, asked, memory, padding)
        x = x + update
        all_scores.append(scores)
    return x - query, all_scores


def hierarchical(layer, query, memories, paddings):
    found = [attend(*each) for each in zip(layer.attentions, [query] * len(memories), memories, paddings, strict=True)]
    output, scores = np.zeros(query.shape), np.zeros((B, N, T, len(memories)))
    for b, t in np.ndindex(B, T):
        contexts = np.stack([context[b, t] for context, _ in found])[None]
        live = np.array([[padding is None or padding[b].any() for padding in paddings]])
        output[b, t], weights = (
            x[0] for x in attend(layer.context_attention, query[b : b + 1, t : t + 1], contexts, live)
        )
        scores[b, :, t] = weights[:, 0]
    return output, [*(each for _, each in found), scores]


ORACLES = {"flat": flat, "parallel": parallel, "serial": serial, "hierarchical": hierarchical}


@pytest.mark.parametrize("combination", COMBINATIONS)
@pytest.mark.parametrize("paddings", [[None] * 3, PADDINGS], ids=["open", "padded"])
def test_it_is_the_papers_combination(combination, paddings):
    layer = built(combination)
    received = layer(QUERY, MEMORIES, padding_masks=paddings, return_attention_scores=True)
    expected = ORACLES[combination](layer, np.float64(QUERY), [np.float64(x) for x in MEMORIES], paddings)
    assert_close(received, expected, factor=4)
    assert_close(layer(QUERY, MEMORIES, padding_masks=paddings), received[0], message="without scores")


def test_queries_of_later_steps_are_normalized():
    layer = built("serial", normalization="layer")
    received = layer(QUERY, MEMORIES, padding_masks=PADDINGS, return_attention_scores=True)
    assert_close(received, serial(layer, np.float64(QUERY), [np.float64(x) for x in MEMORIES], PADDINGS), factor=4)


@pytest.mark.parametrize("combination", COMBINATIONS)
def test_scores_sum_to_one(combination):
    _, scores = built(combination)(QUERY, MEMORIES, return_attention_scores=True)
    scores = [to_numpy(each) for each in scores]
    if combination == "flat":
        scores = [np.concatenate(scores, -1)]
    for each in scores:
        np.testing.assert_allclose(each.sum(-1), 1, atol=1e-5)


@pytest.mark.parametrize("combination", COMBINATIONS)
def test_projected_memories_are_attended_to_again(combination):
    layer = built(combination)
    cache = layer.project_memories(MEMORIES)
    full = layer(QUERY, MEMORIES, padding_masks=PADDINGS, return_attention_scores=True)
    for t in range(T):
        output, scores, after = layer(
            QUERY[:, t : t + 1], None, padding_masks=PADDINGS, return_attention_scores=True, cache=cache
        )
        assert_close(output, full[0][:, t : t + 1], factor=3)
        assert_close(scores, [each[:, :, t : t + 1] for each in full[1]], factor=3)
        assert_close(after, cache)
        assert all(isinstance(each, KVCache) for each in after)


@pytest.mark.parametrize("combination", COMBINATIONS)
def test_implicit_masks_apply_and_the_querys_goes_on(combination):
    layer = built(combination)
    query_mask = np.array([[True, True, False], [True, True, True]])
    memories = [with_mask(x, padding) for x, padding in zip(MEMORIES, PADDINGS, strict=True)]
    output = layer(with_mask(QUERY, query_mask), memories)
    assert_close(output, layer(QUERY, MEMORIES, query_mask=query_mask, padding_masks=PADDINGS))
    np.testing.assert_array_equal(mask_of(output), query_mask)
    for memory, padding in zip(memories, PADDINGS, strict=True):
        assert padding is None or (mask_of(memory) == padding).all()


@pytest.mark.parametrize("combination", COMBINATIONS)
def test_padding_does_not_matter_not_even_nan(combination):
    layer = built(combination)

    def function(*memories):
        return layer(QUERY, list(memories), padding_masks=PADDINGS)

    expected = value_and_gradients(function, MEMORIES, np.ones((B, T, D)))
    for filler in (1e30, np.nan):
        memories = [
            x if p is None else np.where(p[..., None], x, filler) for x, p in zip(MEMORIES, PADDINGS, strict=True)
        ]
        assert_close(value_and_gradients(function, memories, np.ones((B, T, D))), expected)


@pytest.mark.parametrize("combination", COMBINATIONS)
def test_nothing_anywhere_is_zero_heads(combination):
    layer = built(combination, MEMORIES[:2], use_bias=False)
    nothing = [np.zeros(x.shape[:2], bool) for x in MEMORIES[:2]]
    output, scores = layer(QUERY, MEMORIES[:2], padding_masks=nothing, return_attention_scores=True)
    assert not to_numpy(output).any()
    assert not any(to_numpy(each).any() for each in scores)


@pytest.mark.parametrize(
    ("call", "message"),
    [
        (lambda: make("sum"), "`combination` must be one of .*'sum'"),
        (lambda: make("flat", normalization="layer"), "`normalization` has no use.*combination='flat'"),
        (lambda: make("serial", output_shape=5), "`output_shape` has no use.*combination='serial'"),
        (lambda: built("flat")(QUERY, MEMORIES[:2]), "`memories` must be a list with one for each of 3.*Received: 2"),
        (lambda: built("flat")(QUERY, MEMORIES, padding_masks=PADDINGS[:1]), "`padding_masks` must be a list .*: 1"),
        (lambda: built("serial")(QUERY, MEMORIES, padding_masks=PADDINGS[::-1]), "`padding_masks` does not fit"),
    ],
)
def test_what_does_not_fit_is_refused(call, message):
    with pytest.raises(ValueError, match=message):
        call()


@pytest.mark.parametrize(
    ("combination", "dropout"),
    [("flat", 0.5), ("flat", 0.0), ("hierarchical", 0.0), ("serial", 0.5), ("parallel", 0.0)],
)
def test_the_promises_of_every_layer(combination, dropout):
    check_layer(
        functools.partial(make, combination, dropout=dropout),
        (QUERY, MEMORIES),
        options={"return_attention_scores": True},
        zero_gradients=("key/bias",),
        tolerance=6,
    )
