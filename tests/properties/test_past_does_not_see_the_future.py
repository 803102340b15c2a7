"""Law 1: changing token t changes no output before t, in any configuration."""

import dataclasses

import numpy as np
import pytest
from hypothesis import given, reject
from hypothesis import strategies as st
from keras import ops as keras_ops

from keras_tfm import layers, models, ops, testing
from tests.numerics import assert_close, compiled_on_jax, randomize, repeated_dropout, to_numpy
from tests.properties.configurations import (
    KERNELS,
    SOME_SIZES,
    AttentionLayer,
    Masks,
    attention_layers,
    attention_mask,
    blocks,
    masks,
    normal,
    seeds,
    sizes,
    sparingly,
)

# A pattern of the future alone leaves nothing under a causal mask.
causal_layers = attention_layers.filter(lambda config: config.pattern != "neither causal nor far")


def changed_from(rng, array, position, axis=1):
    """The array with other numbers from `position` on."""
    changed = array.copy()
    future = (slice(None),) * axis + (slice(position, None),)
    changed[future] = 3 * normal(rng, *array[future].shape)
    return changed


def assert_past_is_the_same(call, rng, array, axis=1, position=None):
    """`call` of an array, and of one with another future: what is before the change is equal, the rest is not."""
    if array.shape[axis] == 1:
        reject()
    position = rng.integers(1, array.shape[axis]) if position is None else position
    before, after = (to_numpy(call(each)) for each in (array, changed_from(rng, array, position, axis)))
    past = (slice(None),) * axis + (slice(None, position),)
    assert_close(after[past], before[past])
    assert np.abs(after - before).max() > 1e-3, "nothing depends on the input: nothing was tested"


@pytest.mark.parametrize("kernel", KERNELS)
@given(sizes=sizes, masks=masks, seed=seeds, data=st.data())
def test_attention(kernel, sizes, masks, seed, data):
    rng = np.random.default_rng(seed)
    length = sizes.queries
    masks = dataclasses.replace(masks, pattern=None if masks.pattern == "neither causal nor far" else masks.pattern)
    parts = {**masks.draw(rng, sizes, keys=length), "causal": True}
    if parts["explicit"] is not None:
        parts["explicit"] |= np.eye(length, dtype=bool)
    parts["key_padding"] = parts["query_padding"] = parts["prefix"] = None
    parts = {name: part for name, part in parts.items() if "positions" not in name}
    query = normal(rng, sizes.batch, length, sizes.heads, sizes.key_dim)
    key = normal(rng, sizes.batch, length, sizes.shared, sizes.key_dim)

    def attend(key):
        with ops.use_kernel(kernel):
            return ops.attention(*map(keras_ops.convert_to_tensor, (query, key, key)), attention_mask(parts))[0]

    assert_past_is_the_same(compiled_on_jax(attend) if kernel == "block" else attend, rng, key)


@sparingly
@given(config=causal_layers, masks=masks, seed=seeds, training=st.booleans(), scores=st.booleans())
def test_multi_head_attention(config, masks, seed, training, scores):
    """Any parts, dropout on and off, scores asked for or not, any other mask."""
    rng = np.random.default_rng(seed)
    sizes, layer = config.sizes, config.make()
    parts = Masks(explicit=masks.explicit, segments=masks.segments).draw(rng, sizes, keys=sizes.queries)
    options = dict(attention_mask=parts["explicit"], training=training, use_causal_mask=True)
    if parts["segments"]:
        options["segment_ids"] = parts["segments"][0]
    options = {name: value for name, value in options.items() if value is not None}
    call = repeated_dropout(layer)

    def attend(x):
        return call(x, x, return_attention_scores=True, **options)[0] if scores else call(x, x, **options)

    assert_past_is_the_same(attend, rng, normal(rng, sizes.batch, sizes.queries, sizes.width))


@sparingly
@given(config=causal_layers, seed=seeds)
def test_by_positions_in_any_order(config, seed):
    """Tokens in disorder, whose positions say which is the past: not the index counts."""
    rng = np.random.default_rng(seed)
    sizes, layer = config.sizes, config.make()
    order = np.stack([rng.permutation(sizes.queries) for _ in range(sizes.batch)])
    rows = np.arange(sizes.batch)[:, None]

    def attend(in_order):
        x = np.empty_like(in_order)
        x[rows, order] = in_order
        positions = np.empty_like(order)
        positions[rows, order] = np.arange(sizes.queries)
        output = to_numpy(layer(x, x, use_causal_mask=True, query_positions=positions.astype("int32")))
        return output[rows, order]

    x = normal(rng, sizes.batch, sizes.queries, sizes.width)
    assert_past_is_the_same(attend, rng, x)
    assert_close(attend(x), layer(x, x, use_causal_mask=True))


@sparingly
@given(config=causal_layers, seed=seeds)
def test_a_prefix_is_seen_by_all_and_nothing_else_of_the_future(config, seed):
    rng = np.random.default_rng(seed)
    sizes, layer = dataclasses.replace(config, pattern=None, window=None).sizes, config.make()
    prefix = 2
    length = sizes.queries + prefix

    def attend(x):
        return layer(x, x, use_causal_mask=True, prefix_length=np.full(sizes.batch, prefix))

    x = normal(rng, sizes.batch, length, sizes.width)
    assert_past_is_the_same(attend, rng, x, position=rng.integers(prefix, length))
    alone = dataclasses.replace(config, pattern=None, window=None).make()
    first = alone(x[:, :prefix], x[:, :prefix])
    assert_close(alone(x, x, use_causal_mask=True, prefix_length=np.full(sizes.batch, prefix))[:, :prefix], first)


@pytest.mark.parametrize("axes, causal_axis", [((1,), 1), ((2,), 2), (-2, 2)])
def test_multi_head_attention_over_one_of_several_axes(axes, causal_axis):
    rng = np.random.default_rng(0)
    layer = layers.MultiHeadAttention(2, 3, attention_axes=axes)
    layer.build((None, 3, 5, 7), (None, 3, 5, 7))
    randomize(layer)
    assert_past_is_the_same(lambda x: layer(x, x, use_causal_mask=True), rng, normal(rng, 2, 3, 5, 7), axis=causal_axis)


def test_multi_head_attention_over_two_axes_counts_them_in_order():
    rng = np.random.default_rng(0)
    layer = layers.MultiHeadAttention(2, 3, attention_axes=(1, 2))
    layer.build((None, 3, 5, 7), (None, 3, 5, 7))
    randomize(layer)

    def attend(flat):
        x = flat.reshape(2, 3, 5, 7)
        return keras_ops.reshape(layer(x, x, use_causal_mask=True), (2, 15, 7))

    assert_past_is_the_same(attend, rng, normal(rng, 2, 15, 7), position=7)


@sparingly
@given(config=causal_layers, seed=seeds, as_tensor=st.booleans())
def test_what_a_cache_holds_further_on_is_not_seen(config, seed, as_tensor):
    """Neither what lies in the unwritten part of a cache nor later tokens of the same call."""
    rng = np.random.default_rng(seed)
    sizes, layer = config.sizes, config.make()
    index, length = 2, sizes.queries + 5
    empty = layer.create_cache(sizes.batch, length)
    shapes = [tuple(leaf.shape) for leaf in empty]
    past = [normal(rng, *shape) for shape in shapes]
    start = keras_ops.convert_to_tensor(index, dtype="int32") if as_tensor else index

    def attend(x, leaves=past, **options):
        cache = ops.KVCache(*map(keras_ops.convert_to_tensor, leaves))
        return layer(x, x, cache=cache, cache_update_index=start, **options)[0]

    x = normal(rng, sizes.batch, sizes.queries, sizes.width)
    assert_past_is_the_same(lambda x: attend(x, use_causal_mask=True), rng, x)
    garbage = [changed_from(rng, leaf, index) for leaf in past]
    for causal in (True, False):
        assert_close(attend(x, garbage, use_causal_mask=causal), attend(x, use_causal_mask=causal))


@sparingly
@given(config=blocks, seed=seeds, training=st.booleans(), scores=st.booleans(), has_memory=st.booleans())
def test_decoder_block(config, seed, training, scores, has_memory):
    rng = np.random.default_rng(seed)
    sizes, layer = config.sizes, config.decoder(has_memory=has_memory)
    memory = [normal(rng, sizes.batch, sizes.keys, sizes.width)] if has_memory else []
    call = repeated_dropout(layer)

    def decode(x):
        outputs = call(x, *memory, training=training, return_attention_scores=scores)
        return outputs[0] if scores else outputs

    assert_past_is_the_same(decode, rng, normal(rng, sizes.batch, sizes.queries, sizes.width))


@sparingly
@given(config=blocks, seed=seeds)
def test_decoder_stack(config, seed):
    rng = np.random.default_rng(seed)
    sizes, stack = config.sizes, config.decoder(num_layers=2)
    memory = normal(rng, sizes.batch, sizes.keys, sizes.width)
    assert_past_is_the_same(lambda x: stack(x, memory), rng, normal(rng, sizes.batch, sizes.queries, sizes.width))


@pytest.mark.parametrize("position", ["sinusoidal", "learned", "rope"])
def test_seq2seq_model(position):
    model = models.Seq2SeqTransformer(11, 2, 12, 14, 3, position=position, sequence_length=9)
    testing.assert_causal(randomize(model))


def test_scores_of_the_future_are_zero():
    layer = AttentionLayer(SOME_SIZES[0]).make()
    rng = np.random.default_rng(0)
    x = normal(rng, 2, 5, 30)
    scores = to_numpy(layer(x, x, use_causal_mask=True, return_attention_scores=True)[1])
    assert (scores[..., np.triu(np.ones((5, 5), bool), 1)] == 0).all()
