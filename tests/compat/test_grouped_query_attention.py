"""Our shared heads against Keras' `GroupQueryAttention`."""

import keras
import numpy as np
import pytest

from keras_tfm.layers import MultiHeadAttention
from tests.compat.configurations import B, T
from tests.compat.pairs import (
    assert_same,
    normal,
    share_weights,
)


@pytest.mark.parametrize(("num_heads", "num_key_value_heads"), [(4, 4), (4, 2), (4, 1)])
@pytest.mark.parametrize("arguments", [{}, {"use_gate": True}, {"use_bias": False, "sliding_window": 3}], ids=str)
def test_grouped_queries_are_those_of_keras(num_heads, num_key_value_heads, arguments):
    original = keras.layers.GroupQueryAttention(3, num_heads, num_key_value_heads, **arguments)
    ours = MultiHeadAttention(num_heads, 3, num_key_value_heads=num_key_value_heads, **arguments)
    query, value = normal(B, T, 11), normal(B, T, 11, seed=1)
    for layer in (original, ours):
        layer.build(query.shape, value.shape)
    share_weights(original, ours)
    real = np.arange(T) < [[3], [5]]
    for options in (
        {},
        {"use_causal_mask": True},
        {"value_mask": real, "use_causal_mask": True},
        {"attention_mask": np.tri(T, T, 1, bool)[None], "key_mask": real},
    ):
        mask = np.tri(T, dtype=bool) if options.get("use_causal_mask") else np.ones((T, T), bool)
        mask = mask & np.asarray(options.get("attention_mask", True)) & (real[:, None] if len(options) > 1 else True)
        if "sliding_window" in arguments:
            mask = mask & (abs(np.arange(T)[:, None] - np.arange(T)) < 3)
        rows = np.broadcast_to(mask, (B, T, T)).any(-1)
        expected = original(query, value, return_attention_scores=True, **options)
        received = ours(query, value, return_attention_scores=True, **options)
        assert_same(expected[0], received[0], message=options, rows=rows)
        assert_same(expected[0], ours(query, value, **options), message=options, rows=rows)
        scores = [keras.ops.transpose(x[1], (0, 2, 1, 3)) for x in (expected, received)]
        assert_same(scores[0], scores[1], message=options, rows=rows)
