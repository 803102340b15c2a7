"""Rollout and flow beside the paper's equation by hand, by the smallest cut, and by SciPy."""

import itertools

import numpy as np
import pytest

from keras_tfm.visualization import AttentionRecord, attention_flow, attention_rollout


def some_layers(num_layers=3, batch=2, heads=2, length=4, seed=0):
    scores = np.random.default_rng(seed).random((num_layers, batch, heads, length, length)) ** 3
    return list(scores / scores.sum(-1, keepdims=True))


def test_rollout_is_the_product_of_the_layers_with_their_residuals():
    layers = some_layers()
    expected = np.eye(4)
    for layer in layers:
        expected = (0.5 * layer[1].mean(0) + 0.5 * np.eye(4)) @ expected
    np.testing.assert_allclose(attention_rollout(layers)[1], expected, rtol=1e-6)
    of_layers = attention_rollout(layers, all_layers=True)
    assert of_layers.shape == (3, 2, 4, 4)
    np.testing.assert_allclose(of_layers[-1, 1], expected, rtol=1e-6)
    np.testing.assert_allclose(of_layers.sum(-1), 1, rtol=1e-6)


@pytest.mark.parametrize("heads, fuse", [("max", np.max), ("min", np.min)])
def test_heads_are_fused_and_the_smallest_scores_discarded(heads, fuse):
    (layer,) = some_layers(1)
    rows = fuse(layer, axis=1)[0]
    kept = np.where(rows >= np.sort(rows, axis=-1)[:, 2:3], rows, 0)
    expected = 0.2 * np.eye(4) + 0.8 * kept / kept.sum(-1, keepdims=True)
    np.testing.assert_allclose(
        attention_rollout([layer], heads=heads, residual=0.2, discard=0.5)[0], expected, rtol=1e-6
    )


def test_padding_stays_with_itself_and_reaches_no_real_token():
    layers = some_layers(batch=1)
    for layer in layers:
        layer[..., 3] = 0
        layer[..., 3, :] = 0
        layer[..., :3, :] /= layer[..., :3, :].sum(-1, keepdims=True)
    rolled = attention_rollout(layers)[0]
    np.testing.assert_allclose(rolled[3], [0, 0, 0, 1])
    assert not rolled[:3, 3].any()
    assert not attention_flow(layers)[0, :3, 3].any()


def test_only_the_encoder_of_a_translation_model_is_taken():
    one, other = some_layers(2)
    records = [AttentionRecord("a", "encoder", one), AttentionRecord("b", "decoder", other)]
    np.testing.assert_array_equal(attention_rollout(records), attention_rollout([one]))


def smallest_cut(layers, token, source):
    """By the theorem of largest flow and smallest cut: the least capacity that any split of the nodes cuts."""
    depth, length = len(layers), layers.shape[1]
    nodes = list(itertools.product(range(depth + 1), range(length)))
    inner = [node for node in nodes if node not in ((depth, token), (0, source))]
    best = np.inf
    for bits in itertools.product((False, True), repeat=len(inner)):
        side = {**dict(zip(inner, bits, strict=True)), (depth, token): True, (0, source): False}
        cut = sum(
            layers[d - 1, row, column]
            for d in range(1, depth + 1)
            for row in range(length)
            for column in range(length)
            if side[d, row] and not side[d - 1, column]
        )
        best = min(best, cut)
    return best


def test_flow_is_the_smallest_cut():
    layers = some_layers(2, batch=1, heads=1, length=3, seed=1)
    mixed = np.stack([(layer[0, 0] + np.eye(3)) / 2 for layer in layers])
    flow = attention_flow(layers, tokens=[2])
    assert flow.shape == (1, 1, 3)
    np.testing.assert_allclose(flow[0, 0], [smallest_cut(mixed, 2, source) for source in range(3)], rtol=1e-5)


def test_flow_is_that_of_scipy():
    csgraph = pytest.importorskip("scipy.sparse.csgraph")
    from scipy.sparse import csr_array

    layers = some_layers(3, batch=1, length=5, seed=2)
    capacity = np.zeros((20, 20), "int32")
    for depth, layer in enumerate(layers, 1):
        mixed = (layer[0].mean(0) + np.eye(5)) / 2
        capacity[5 * depth : 5 * depth + 5, 5 * depth - 5 : 5 * depth] = np.round(mixed * 1e6)
    flow = attention_flow(layers)[0]
    for token, source in ((0, 0), (3, 1), (4, 2)):
        expected = csgraph.maximum_flow(csr_array(capacity), 15 + token, source).flow_value / 1e6
        np.testing.assert_allclose(flow[token, source], expected, atol=3e-5)


@pytest.mark.parametrize(
    "layers, options, message",
    [
        (some_layers(1), {"heads": "sum"}, "`heads` must be one of"),
        (some_layers(1), {"residual": 2}, r"`residual` must be in \[0, 1\]"),
        ([], {}, r"Received: \[\]"),
        ([np.ones((1, 2, 3, 4))], {}, "layers of self-attention over the same tokens"),
    ],
)
def test_what_cannot_be_rolled_out_is_refused(layers, options, message):
    with pytest.raises(ValueError, match=message):
        attention_rollout(layers, **options)
    with pytest.raises(ValueError, match="`tokens` must be in"):
        attention_flow(some_layers(1), tokens=[4])
