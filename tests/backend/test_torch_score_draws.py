"""What dropout on PyTorch leaves of attention scores drawn part by part: its rate everywhere, no two parts alike."""

import keras
import numpy as np
import pytest
from scipy import stats

from keras_tfm import ops

if keras.backend.backend() != "torch":
    pytest.skip("of PyTorch", allow_module_level=True)

import torch

from keras_tfm.backend import torch_attention, torch_segments

B, T, N, SHARED, RATE = 4, 64, 4, 2, 0.3


def kept(kernel, mask=None, draws=2, seed=5):
    """Which scores stay, bool `[draws, B, N, T, T]`: scores are all the same, and what is weighted are unit vectors."""
    generator, shown = keras.random.SeedGenerator(seed), torch.eye(T).expand(SHARED, T, T).transpose(0, 1)
    heads = torch.zeros(B, T, N, 8), torch.zeros(B, T, SHARED, 8), shown.expand(B, T, SHARED, T)
    dropout = ops.ScoreDropout.of(RATE, generator, seed=seed)
    with ops.use_kernel(kernel):
        outputs = [ops.attention(*heads, mask, dropout=dropout)[0] for _ in range(draws)]
    return torch.stack(outputs).transpose(2, 3).numpy() > 0


@pytest.fixture(params=["torch_dropout", "torch_segments"])
def masks(request, monkeypatch):
    """`[draws, B, N, P, queries, keys]`: P parts of the queries of a row, or its P segments."""
    monkeypatch.setattr(torch_attention, "_CHUNK", 16 * N // SHARED * T)
    monkeypatch.setattr(torch_attention, "_MOST_KEPT", 0)
    monkeypatch.setattr(torch_segments, "_FEWEST_SAVED", 0)
    if request.param == "torch_dropout":
        return kept("torch_dropout").reshape(2, B, N, 4, 16, T)
    segments = torch.arange(T).expand(B, T) // 32
    both = kept("torch_segments", ops.AttentionMask(segments=(segments, segments)))
    assert not both[..., :32, 32:].any() and not both[..., 32:, :32].any()
    return np.stack([both[..., :32, :32], both[..., 32:, 32:]], axis=3)


def test_the_share_that_is_dropped_is_the_rate_everywhere(masks):
    dropped = ~masks
    assert stats.binomtest(int(dropped.sum()), dropped.size, RATE).pvalue > 1e-4
    for axis in range(dropped.ndim):
        counts = dropped.sum(axis=tuple(other for other in range(dropped.ndim) if other != axis))
        size = dropped.size / len(counts)
        observed = np.stack([counts, size - counts])
        expected = np.stack([np.full(len(counts), size * share) for share in (RATE, 1 - RATE)])
        statistic = ((observed - expected) ** 2 / expected).sum()
        assert stats.chi2.sf(statistic, len(counts)) > 1e-5


def test_draws_rows_heads_blocks_queries_and_keys_are_independent(masks):
    for axis in range(masks.ndim):
        size = masks.shape[axis]
        for distance in {1, size // 2}:
            first, second = (masks.take(range(*ends), axis) for ends in ((distance, size), (0, size - distance)))
            table = np.array([[np.sum((first == a) & (second == b)) for b in (False, True)] for a in (False, True)])
            assert stats.chi2_contingency(table).pvalue > 1e-5


def test_a_seed_draws_the_same_again(monkeypatch):
    monkeypatch.setattr(torch_attention, "_CHUNK", 1 << 11)
    monkeypatch.setattr(torch_attention, "_MOST_KEPT", 0)
    first, again, other = (kept("torch_dropout", seed=seed) for seed in (5, 5, 6))
    np.testing.assert_array_equal(first, again)
    assert abs((first == other).mean() - (RATE**2 + (1 - RATE) ** 2)) < 0.01
