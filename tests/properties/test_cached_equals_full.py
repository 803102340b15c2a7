"""Law 5: cached steps equal the full pass, and prefill in chunks equals prefill at once."""

import numpy as np
from hypothesis import assume, given
from hypothesis import strategies as st
from keras import ops as keras_ops

from keras_tfm import ops
from keras_tfm.backend import compile_loop
from tests.numerics import assert_close, to_numpy
from tests.properties.configurations import SOME_SIZES, Block, attention_layers, blocks, normal, seeds, sparingly


def chunks(rng, length):
    """Cuts of `length`: pairs of start and end. Few sizes, as some backends compile each."""
    cuts = [cut for cut in ((), (1,), (2, 3))[rng.integers(3)] if cut < length]
    edges = [0, *cuts, length]
    return list(zip(edges, edges[1:], strict=False))


@sparingly
@given(config=attention_layers, seed=seeds, room=st.integers(0, 3), as_tensor=st.booleans(), scores=st.booleans())
def test_multi_head_attention_in_chunks(config, seed, room, as_tensor, scores):
    rng = np.random.default_rng(seed)
    sizes, layer = config.sizes, config.make()
    length = sizes.keys
    x = normal(rng, sizes.batch, length, sizes.width)
    full, full_scores = map(to_numpy, layer(x, x, use_causal_mask=True, return_attention_scores=True))
    cache = layer.create_cache(sizes.batch, length + room)
    for start, end in chunks(rng, length):
        index = keras_ops.convert_to_tensor(start, dtype="int32") if as_tensor else start
        part = x[:, start:end]
        output, *rest = layer(
            part,
            part,
            use_causal_mask=True,
            return_attention_scores=scores,
            cache=cache,
            cache_update_index=index,
        )
        cache = ops.KVCache(*rest[-1])
        assert_close(output, full[:, start:end])
        if scores:
            part_scores = to_numpy(rest[0])
            assert_close(part_scores[..., :length], full_scores[:, :, start:end])
            assert (part_scores[..., length:] == 0).all()


@sparingly
@given(config=attention_layers, seed=seeds)
def test_without_causality_what_is_written_so_far_is_seen(config, seed):
    rng = np.random.default_rng(seed)
    sizes, layer = config.sizes, config.make()
    assume(sizes.keys > 1)
    x = normal(rng, sizes.batch, sizes.keys, sizes.width)
    _, cache = layer(x[:, :1], x[:, :1], cache=layer.create_cache(sizes.batch, sizes.keys + 2), cache_update_index=0)
    output, _ = layer(x[:, 1:], x[:, 1:], cache=cache, cache_update_index=1)
    assert_close(output, to_numpy(layer(x, x))[:, 1:])


@sparingly
@given(config=attention_layers, seed=seeds, scores=st.booleans())
def test_a_static_cache_stands_for_the_memory(config, seed, scores):
    rng = np.random.default_rng(seed)
    sizes, layer = config.sizes, config.make()
    x, memory = (normal(rng, sizes.batch, length, sizes.width) for length in (sizes.queries, sizes.keys))
    mask = rng.random((sizes.batch, sizes.keys)) < 0.7
    expected = keras_ops.convert_to_numpy(layer(x, memory, padding_mask=mask))
    cache = layer.project_memory(memory)
    for value in (None, memory):
        output, *rest = layer(x, value, padding_mask=mask, cache=cache, return_attention_scores=scores)
        assert_close(output, expected)
        assert len(rest) == 1 + scores
        assert_close(rest[-1], cache)


@sparingly
@given(config=blocks, seed=seeds, has_memory=st.booleans(), masked=st.booleans())
def test_decoder_stacks_in_chunks(config, seed, has_memory, masked):
    rng = np.random.default_rng(seed)
    sizes, stack = config.sizes, config.decoder(num_layers=2, has_memory=has_memory)
    x, memory = (normal(rng, sizes.batch, length, sizes.width) for length in (sizes.queries, sizes.keys))
    options = dict(encoder_padding_mask=rng.random((sizes.batch, sizes.keys)) < 0.7) if has_memory and masked else {}
    inputs = [memory] if has_memory else []
    full = to_numpy(stack(x, *inputs, **options))
    cache = stack.create_cache(sizes.batch, sizes.queries + 1, *inputs)
    for start, end in chunks(rng, sizes.queries):
        output, cache = stack(x[:, start:end], cache=cache, cache_update_index=start, **options)
        assert_close(output, full[:, start:end])


@given(seed=seeds, normalize_first=st.booleans())
def test_a_block_takes_stacked_caches_and_fills_the_cross_attention_s(seed, normalize_first):
    """Tensors `[B, 2, S, K, H]` as keras_hub has them, and as they came back in."""
    rng = np.random.default_rng(seed)
    sizes = SOME_SIZES[0]
    block = Block(sizes, normalize_first=normalize_first).decoder()
    x, memory = (normal(rng, sizes.batch, length, sizes.width) for length in (sizes.queries, sizes.keys))
    full = to_numpy(block(x, memory))
    own, cross = (
        np.zeros((sizes.batch, 2, length, sizes.heads, sizes.key_dim), "float32")
        for length in (sizes.queries, sizes.keys)
    )
    fill = 0
    for step in range(sizes.queries):
        output, own, cross = block(
            x[:, step : step + 1],
            memory,
            self_attention_cache=own,
            self_attention_cache_update_index=step,
            cross_attention_cache=cross,
            cross_attention_cache_update_index=fill,
        )
        fill = None
        assert_close(output, full[:, step : step + 1])
    assert tuple(own.shape) == (sizes.batch, 2, sizes.queries, sizes.heads, sizes.key_dim)


def test_a_compiled_loop_equals_the_full_pass():
    rng = np.random.default_rng(0)
    sizes = SOME_SIZES[0]
    stack = Block(sizes, position="rope", grouped=True).decoder(num_layers=2)
    x, memory = (normal(rng, sizes.batch, length, sizes.width) for length in (sizes.queries, sizes.keys))

    def decode(x, memory):
        def step(index, cache, outputs):
            token = keras_ops.slice(x, (0, index, 0), (sizes.batch, 1, sizes.width))
            output, cache = stack(token, cache=cache, cache_update_index=index)
            return index + 1, cache, keras_ops.slice_update(outputs, (0, index, 0), output)

        start = keras_ops.convert_to_tensor(0, dtype="int32")
        state = (start, stack.create_cache(sizes.batch, sizes.queries, memory), keras_ops.zeros_like(x))
        return keras_ops.while_loop(lambda index, *_: index < sizes.queries, step, state)[2]

    tensors = [keras_ops.convert_to_tensor(each) for each in (x, memory)]
    assert_close(compile_loop(decode, stack.variables)(*tensors), stack(x, memory))
