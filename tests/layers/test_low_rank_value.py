"""The claims of docs/low_rank_value.md, on the layers."""

import pathlib
import re

import numpy as np
import pytest

from keras_tfm.layers.multi_head_attention import MultiHeadAttention
from keras_tfm.layers.multi_head_latent_attention import MultiHeadLatentAttention
from tests.numerics import assert_close, randomize, to_numpy

PAGE = pathlib.Path(__file__).parents[2] / "docs" / "low_rank_value.md"
B, T, D, N, H, HV = 2, 5, 13, 3, 4, 2
X = np.random.default_rng(0).normal(size=(B, T, D)).astype("float32")


def built(value_dim=HV, **options):
    layer = MultiHeadAttention(N, H, value_dim, use_bias=False, **options)
    layer.build(X.shape, X.shape)
    layer.built = True
    return randomize(layer)


def maps(layer):
    """What each head does to a token: `[N, D, D]`."""
    return np.einsum("dnv,nve->nde", to_numpy(layer.value_dense.kernel), to_numpy(layer.output_dense.kernel))


def test_the_pages_example_runs():
    names = {}
    (code,) = re.findall(r"```python\n(.*?)```", PAGE.read_text(encoding="utf-8"), re.DOTALL)
    exec(compile(code, str(PAGE), "exec"), names)
    assert names["ranks"].tolist() == [3, 3, 3, 3]
    assert names["error"] < 1e-5


@pytest.mark.parametrize("value_dim", [1, HV, D, D + 4])
def test_a_heads_map_has_rank_value_dim_at_most(value_dim):
    ranks = np.linalg.matrix_rank(maps(built(value_dim)), tol=1e-4)
    assert ranks.tolist() == [min(value_dim, D)] * N


@pytest.mark.parametrize("causal", [False, True])
def test_the_output_is_the_scores_times_the_maps(causal):
    layer = built()
    output, scores = layer(X, X, use_causal_mask=causal, return_attention_scores=True)
    rebuilt = np.einsum("bnts,bsd,nde->bte", to_numpy(scores), np.float64(X), maps(layer))
    assert_close(output, rebuilt)


def test_any_map_of_that_rank_is_a_heads():
    """Truncated by its singular values, a full map is the nearest one that a narrower head can be."""
    wide, narrow = built(D), built(HV)
    left, values, right = np.linalg.svd(maps(wide))
    narrow.query_dense.kernel.assign(wide.query_dense.kernel)
    narrow.key_dense.kernel.assign(wide.key_dense.kernel)
    narrow.value_dense.kernel.assign(np.transpose(left[:, :, :HV] * values[:, None, :HV], (1, 0, 2)))
    narrow.output_dense.kernel.assign(right[:, :HV])
    error = np.linalg.norm(maps(narrow) - maps(wide), ord=2, axis=(1, 2))
    np.testing.assert_allclose(error, values[:, HV], rtol=1e-4)


def test_the_factors_of_a_map_are_not_unique():
    layer, other = built(), built()
    mixing = np.random.default_rng(1).normal(size=(N, HV, HV))
    other.value_dense.kernel.assign(np.einsum("dnv,nvw->dnw", to_numpy(layer.value_dense.kernel), mixing))
    inverse = np.linalg.inv(mixing)
    other.output_dense.kernel.assign(np.einsum("nvw,nwd->nvd", inverse, to_numpy(layer.output_dense.kernel)))
    assert_close(other(X, X), layer(X, X), factor=5)


def test_latent_attention_is_one_more_factor_for_all_heads_together():
    rank = 5
    layer = MultiHeadLatentAttention(N, H, latent_dim=rank, rotary_dim=2, value_dim=HV, latent_normalization=None)
    layer.build(X.shape, X.shape)
    down = to_numpy(randomize(layer).key_value_down.kernel)[:, :rank]
    ups = [to_numpy(part.kernel).reshape(rank, -1) for part in (layer.key_up, layer.value_up)]
    together = down @ np.concatenate(ups, axis=1)
    assert together.shape == (D, N * (H + HV))
    assert np.linalg.matrix_rank(together, tol=1e-4) == rank


def test_attention_whose_projections_have_joint_rank_r_is_a_latent_attention():
    rank, rng = 5, np.random.default_rng(2)
    plain = built()
    low = rng.normal(size=(D, rank)) @ rng.normal(size=(rank, N * (H + HV)))
    plain.key_dense.kernel.assign(low[:, : N * H].reshape(D, N, H))
    plain.value_dense.kernel.assign(low[:, N * H :].reshape(D, N, HV))

    latent = MultiHeadLatentAttention(N, H, rank, 2, HV, latent_normalization=None, position=None)
    latent.build(X.shape, X.shape)
    latent.built = True
    left, values, right = np.linalg.svd(low, full_matrices=False)
    down = np.concatenate([left[:, :rank] * values[:rank], np.zeros((D, 2))], axis=1)  # the shared key is not used
    latent.key_value_down.kernel.assign(down)
    latent.key_up.kernel.assign(right[:rank, : N * H].reshape(rank, N, H))
    latent.value_up.kernel.assign(right[:rank, N * H :].reshape(rank, N, HV))
    scale = np.sqrt((H + 2) / H)  # the logits of latent attention are divided by the root of H + Hr
    queries = to_numpy(plain.query_dense.kernel) * scale
    latent.query_dense.kernel.assign(np.concatenate([queries, np.zeros((D, N, 2))], axis=-1))
    latent.output_dense.kernel.assign(plain.output_dense.kernel)

    full = plain(X, X, use_causal_mask=True)
    assert_close(latent(X, X, use_causal_mask=True), full, factor=5)
    cached, cache = latent(X, X, use_causal_mask=True, cache=latent.create_cache(B, T), cache_update_index=0)
    assert_close(cached, full, factor=5)
    assert sum(x.shape[-1] for x in cache) == rank + 2 < N * (H + HV)


def test_the_caches_are_as_large_as_the_page_says():
    text = PAGE.read_text(encoding="utf-8")
    assert [f"{size:,}" in text for size in (128 * 256, 8 * 256, 512 + 64)] == [True] * 3
    plain = MultiHeadAttention(8, 4, 2, num_key_value_heads=4).create_cache(1, 1)
    assert sum(int(np.prod(x.shape)) for x in plain) == 4 * (4 + 2)
    latent = MultiHeadLatentAttention(8, 4, latent_dim=5, rotary_dim=2).create_cache(1, 1)
    assert sum(int(np.prod(x.shape)) for x in latent) == 5 + 2
