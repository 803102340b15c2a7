"""What a beam sees stands in rows of the other beams: the table of origins says where, and each kernel follows it."""

import numpy as np
import pytest
from keras import ops

from keras_tfm.ops.attention import attention, explain_attention, use_kernel
from keras_tfm.ops.masks import AttentionMask

GROUPS, BEAMS, S, N, K, H, V = 2, 3, 7, 4, 2, 5, 11
R = GROUPS * BEAMS


def draw(seed=0):
    rng = np.random.default_rng(seed)
    query, key, value = (
        rng.normal(size=shape).astype("float32") for shape in ((R, 1, N, H), (R, S, K, H), (R, S, K, V))
    )
    return query, key, value, rng.integers(0, BEAMS, (GROUPS, BEAMS, S)).astype("int32")


def oracle(query, key, value, origins, num_seen, soft_cap=None):
    """Plain numpy in float64, a row at a time."""
    output = np.zeros((R, 1, N, V))
    for row in range(R):
        group, beam = divmod(row, BEAMS)
        there = [group * BEAMS + origins[group, beam, s] for s in range(num_seen)]
        for head in range(N):
            keys, values = (np.stack([x[r, s, head // (N // K)] for s, r in enumerate(there)]) for x in (key, value))
            logits = keys.astype("float64") @ query[row, 0, head] / np.sqrt(H)
            logits = logits if soft_cap is None else soft_cap * np.tanh(logits / soft_cap)
            weights = np.exp(logits - logits.max())
            output[row, 0, head] = weights @ values / weights.sum()
    return output


@pytest.mark.parametrize("kernel", ["beam", "reference"])
@pytest.mark.parametrize("soft_cap", [None, 0.7])
def test_a_beam_sees_what_the_table_says_and_nothing_later(kernel, soft_cap):
    query, key, value, origins = draw()
    seen = 5
    mask = AttentionMask(is_causal=True, query_positions=ops.convert_to_tensor([seen - 1], "int32"))
    with use_kernel(kernel):
        output, scores = attention(
            *map(ops.convert_to_tensor, (query, key, value)),
            mask,
            logit_soft_cap=soft_cap,
            origins=ops.convert_to_tensor(origins),
            has_finite_keys=True,
            return_scores=True,
        )
    expected = oracle(query, key, value, origins, seen, soft_cap)
    np.testing.assert_allclose(ops.convert_to_numpy(output), expected, rtol=1e-5, atol=1e-6)
    scores = ops.convert_to_numpy(scores)
    np.testing.assert_allclose(scores.sum(-1), 1, rtol=1e-6)
    assert not scores[..., seen:].any()


def test_it_runs_where_there_is_a_table_and_nothing_else_reads_the_keys():
    query, key, value, origins = map(ops.convert_to_tensor, draw())

    def reason(*heads, **arguments):
        return dict(explain_attention(*heads, **arguments))["beam"]

    assert reason(query, key, value, origins=origins) is None
    assert "no table" in reason(query, key, value)
    two = ops.concatenate([query, query], axis=1)
    assert "one query a row" in reason(two, key, value, origins=origins)
    assert "may read the keys" in reason(query, key, value, origins=origins, bias=lambda *heads: None)
    many = ops.zeros((1, 33, S), "int32")
    assert "more than 32 beams" in reason(*(ops.ones((33, *x.shape[1:])) for x in (query, key, value)), origins=many)


def test_a_bias_that_reads_the_keys_reads_those_that_are_seen():
    query, key, value, origins = map(ops.convert_to_tensor, draw(1))
    seen = []

    def bias(query, key, query_positions, key_positions):
        seen.append(ops.convert_to_numpy(key))

    attention(query, key, value, bias=bias, origins=origins, has_finite_keys=True)
    key, origins = ops.convert_to_numpy(key), ops.convert_to_numpy(origins)
    for row, s in np.ndindex(R, S):
        group, beam = divmod(row, BEAMS)
        np.testing.assert_array_equal(seen[0][row, s], key[group * BEAMS + origins[group, beam, s], s])
