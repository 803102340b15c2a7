"""Law 8: sequences packed with `segment_ids` give what they give alone."""

import numpy as np
from hypothesis import given
from hypothesis import strategies as st

from keras_tfm import layers
from tests.numerics import assert_close, randomize, to_numpy
from tests.properties.configurations import attention_layers, blocks, normal, seeds, shift_invariant_layers, sparingly

LENGTHS = ((2, 3), (3, 2), (2, 1, 2))


def packed(parts):
    """Sequences `[B, t, D]` in a row, and their segment ids."""
    ids = np.concatenate([np.full(part.shape[:2], number) for number, part in enumerate(parts)], axis=1)
    return np.concatenate(parts, axis=1), ids.astype("int32")


def positions_of(lengths):
    """int32 `[t + t' + ...]`: each sequence counts from 0."""
    return np.concatenate([np.arange(length) for length in lengths]).astype("int32")


@sparingly
@given(config=shift_invariant_layers, lengths=st.sampled_from(LENGTHS), causal=st.booleans(), seed=seeds)
def test_multi_head_attention(config, lengths, causal, seed):
    assert_packed_equals_separate(config, lengths, causal, seed)


@sparingly
@given(config=attention_layers, lengths=st.sampled_from(LENGTHS), causal=st.booleans(), seed=seeds)
def test_multi_head_attention_with_positions(config, lengths, causal, seed):
    """Patterns that count blocks or first tokens need to be told where each sequence starts."""
    assert_packed_equals_separate(config, lengths, causal, seed, query_positions=positions_of(lengths))


def assert_packed_equals_separate(config, lengths, causal, seed, **positions):
    rng = np.random.default_rng(seed)
    sizes, layer = config.sizes, config.make()
    parts = [normal(rng, sizes.batch, length, sizes.width) for length in lengths]
    x, ids = packed(parts)
    together = layer(x, x, segment_ids=ids, use_causal_mask=causal, **positions)
    alone = [to_numpy(layer(part, part, use_causal_mask=causal)) for part in parts]
    assert_close(together, np.concatenate(alone, axis=1))


@sparingly
@given(config=attention_layers, seed=seeds)
def test_cross_attention_with_segments_of_its_own(config, seed):
    rng = np.random.default_rng(seed)
    sizes, layer = config.sizes, config.make()
    queries = [normal(rng, sizes.batch, length, sizes.width) for length in (2, 3)]
    memories = [normal(rng, sizes.batch, length, sizes.width) for length in (3, 1)]
    (x, ids), (memory, key_ids) = packed(queries), packed(memories)
    together = layer(
        x,
        memory,
        segment_ids=ids,
        key_segment_ids=key_ids,
        query_positions=positions_of((2, 3)),
        key_positions=positions_of((3, 1)),
    )
    alone = [to_numpy(layer(query, value)) for query, value in zip(queries, memories, strict=True)]
    assert_close(together, np.concatenate(alone, axis=1))


@sparingly
@given(config=blocks, lengths=st.sampled_from(LENGTHS), seed=seeds)
def test_blocks(config, lengths, seed):
    rng = np.random.default_rng(seed)
    sizes = config.sizes
    parts = [normal(rng, sizes.batch, length, sizes.width) for length in lengths]
    x, ids = packed(parts)
    for stack in (config.encoder(num_layers=2), config.decoder(num_layers=2, has_memory=False)):
        alone = [to_numpy(stack(part)) for part in parts]
        assert_close(stack(x, segment_ids=ids), np.concatenate(alone, axis=1))


def test_axes_that_are_not_attended_over_have_segments_of_their_own():
    rng = np.random.default_rng(0)
    layer = layers.MultiHeadAttention(2, 3, attention_axes=2)
    layer.build((None, 3, 5, 7), (None, 3, 5, 7))
    randomize(layer)
    x, ids = normal(rng, 2, 3, 5, 7), np.cumsum(rng.random((2, 3, 5)) < 0.4, axis=2).astype("int32")
    flat = layers.MultiHeadAttention(2, 3)
    flat.build((None, 5, 7), (None, 5, 7))
    flat.set_weights(layer.get_weights())
    expected = to_numpy(flat(*[x.reshape(6, 5, 7)] * 2, segment_ids=ids.reshape(6, 5))).reshape(2, 3, 5, 7)
    assert_close(layer(x, x, segment_ids=ids), expected)
