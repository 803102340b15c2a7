"""Subclasses that override `_compute_attention`, on Keras' class and on ours."""

import keras
import numpy as np
import pytest

from keras_tfm.layers import MultiHeadAttention
from tests.compat.configurations import CONFIGURATIONS, B, Original, S, T, inputs_of
from tests.compat.pairs import (
    assert_same,
    normal,
    pair,
)


def sharpened(base):
    """A user's subclass, written for Keras' class, that overrides the documented hook."""

    class Sharpened(base):
        def _compute_attention(
            self, query, key, value, attention_mask=None, training=None, return_attention_scores=False
        ):
            self.mask_shape = None if attention_mask is None else tuple(attention_mask.shape)
            return super()._compute_attention(
                2.0 * query, key, value, attention_mask, training, return_attention_scores
            )

    return Sharpened


@pytest.mark.parametrize(
    ("name", "options"),
    [
        ("cross", {}),
        ("self", {"use_causal_mask": True}),
        ("window", {"use_causal_mask": True}),
        ("cross", {"attention_mask": np.tri(T, S, 1, bool)[None]}),
        ("cross", {"value_mask": np.arange(S)[None] < [[3], [6]]}),
        ("dropout", {"value_mask": np.arange(S)[None] < [[3], [6]]}),
        ("all axes of images", {}),
        ("rows of images", {"attention_mask": np.tri(4, 5, 1, bool)[None, None]}),
        ("first and last axis", {"attention_mask": np.random.default_rng(0).random((B, 3, 2, 4, 5, 2)) < 0.9}),
        ("columns of images", {"use_causal_mask": True}),
    ],
)
@pytest.mark.parametrize("scores", [False, True])
def test_a_subclass_that_overrides_the_attention_gets_what_it_expects(name, options, scores):
    arguments, *given = CONFIGURATIONS[name]
    given = [shape for shape in given if shape is not None]
    original, ours = pair(
        sharpened(Original), sharpened(MultiHeadAttention), *given, num_heads=2, key_dim=3, **arguments
    )
    inputs = inputs_of(*CONFIGURATIONS[name][1:])
    assert_same(
        original(*inputs, return_attention_scores=scores, **options),
        ours(*inputs, return_attention_scores=scores, **options),
    )
    if original.mask_shape is not None and len(inputs[0].shape) == 3:
        assert len(ours.mask_shape) == len(original.mask_shape)


def test_a_subclass_that_overrides_the_attention_gets_shared_heads_repeated():
    _, ours = pair(Original, sharpened(MultiHeadAttention), *[(B, T, 11)] * 2, num_heads=2, key_dim=3)
    grouped = sharpened(MultiHeadAttention)(2, 3, num_key_value_heads=1)
    grouped.build((B, T, 11), (B, T, 11))
    for projection in (ours.key_dense, ours.value_dense):
        for weight in projection.weights:
            weight.assign(keras.ops.repeat(weight.value[..., :1, :], 2, -2))
    for name in ("query_dense", "key_dense", "value_dense", "output_dense"):
        for weight, full in zip(getattr(grouped, name).weights, getattr(ours, name).weights, strict=True):
            weight.assign(full.value[..., :1, :] if name in ("key_dense", "value_dense") else full.value)
    x = normal(B, T, 11)
    assert_same(ours(x, x), grouped(x, x))


def test_a_subclass_that_overrides_the_attention_is_not_silently_without_biases():
    layer = sharpened(MultiHeadAttention)(2, 3, logit_soft_cap=5.0)
    with pytest.raises(ValueError, match="must see to biases, scores, sinks, mixing and soft caps itself"):
        layer(normal(B, T, 11), normal(B, T, 11))
    layer = sharpened(MultiHeadAttention)(2, 3)
    with pytest.raises(ValueError, match="must see to biases, scores, sinks, mixing and soft caps itself"):
        layer(normal(B, T, 11), normal(B, T, 11), attention_bias=np.zeros((1, 2, T, T), "float32"))
