"""What docs/low_rank_value.md says: a head writes by one matrix, the product of its value and output projections."""

import pathlib
import re

import numpy as np
import pytest

from keras_tfm import layers
from tests.numerics import assert_close, randomize, to_numpy

B, T, D, N, H = 2, 5, 11, 3, 4


@pytest.mark.parametrize("value_dim", [None, 2, 7])
def test_a_head_writes_by_one_matrix_of_low_rank(value_dim):
    layer = layers.MultiHeadAttention(N, H, value_dim=value_dim, use_bias=False)
    layer.build((None, None, D), (None, None, D))
    randomize(layer)
    x = np.random.default_rng(0).normal(size=(B, T, D)).astype("float32")
    output, scores = layer(x, x, return_attention_scores=True)
    products = np.einsum("dnh,nhe->nde", to_numpy(layer.value_dense.kernel), to_numpy(layer.output_dense.kernel))
    assert [np.linalg.matrix_rank(product) for product in products] == [value_dim or H] * N
    assert_close(output, np.einsum("bnts,bsd,nde->bte", to_numpy(scores), x, products))


def test_the_program_of_the_page_runs():
    page = pathlib.Path(__file__).parents[2] / "docs" / "low_rank_value.md"
    (program,) = re.findall(r"```python\n(.*?)```", page.read_text(encoding="utf-8"), flags=re.DOTALL)
    exec(compile(program, page.name, "exec"), {})
