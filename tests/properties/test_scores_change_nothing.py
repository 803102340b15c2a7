"""Law 3: asking for scores changes no output; the scores are the softmax's rows, whose sum is 1."""

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from keras_tfm import layers
from tests.numerics import assert_close, randomize, repeated_dropout, to_numpy
from tests.properties.configurations import (
    DTYPES,
    SOME_SIZES,
    AttentionLayer,
    attention_layers,
    blocks,
    layer_allowed,
    layer_arguments,
    masks,
    normal,
    padding_mask,
    seeds,
    sparingly,
)


@sparingly
@given(config=attention_layers, masks=masks, seed=seeds, training=st.booleans())
def test_multi_head_attention(config, masks, seed, training):
    rng = np.random.default_rng(seed)
    sizes, layer = config.sizes, config.make()
    parts = {**masks.draw(rng, sizes), "window": config.window, "pattern": config.pattern}
    query, value = (normal(rng, sizes.batch, length, sizes.width) for length in (sizes.queries, sizes.keys))
    options = dict(training=training, **layer_arguments(parts))
    call = repeated_dropout(layer)
    output, scores = call(query, value, return_attention_scores=True, **options)
    assert_close(output, call(query, value, **options))
    pairs = layer_allowed(parts, sizes)
    assert scores.shape == pairs.shape
    if config.sink is not None and not config.mixing:
        assert (to_numpy(scores).sum(-1) < 1).all()
    elif not config.mixing:
        assert_close(to_numpy(scores).sum(-1), pairs.any(-1))
    assert (to_numpy(scores)[~pairs] == 0).all()


@pytest.mark.parametrize("dtype", DTYPES)
@pytest.mark.parametrize("masked", [False, True])
def test_in_every_dtype(dtype, masked):
    rng = np.random.default_rng(0)
    sizes = SOME_SIZES[0]
    layer = AttentionLayer(sizes, dtype=dtype).make()
    x = normal(rng, sizes.batch, sizes.queries, sizes.width)
    options = dict(padding_mask=padding_mask(rng, "empty", sizes.batch, sizes.queries)) if masked else {}
    output, scores = layer(x, x, return_attention_scores=True, **options)
    assert_close(output, layer(x, x, **options), dtype)
    real = options.get("padding_mask", np.ones((sizes.batch, 1), bool)).any(-1)
    assert_close(to_numpy(scores).sum(-1)[real], np.ones((real.sum(), sizes.heads, sizes.queries)), dtype)


@sparingly
@given(config=blocks, seed=seeds, training=st.booleans())
def test_blocks_and_stacks(config, seed, training):
    rng = np.random.default_rng(seed)
    sizes = config.sizes
    source, target = (normal(rng, sizes.batch, length, sizes.width) for length in (sizes.keys, sizes.queries))
    real = padding_mask(rng, "right", sizes.batch, sizes.keys)
    encoder, decoder = repeated_dropout(config.encoder()), repeated_dropout(config.decoder())
    options = dict(training=training)
    output, scores = encoder(source, padding_mask=real, return_attention_scores=True, **options)
    assert_close(output, encoder(source, padding_mask=real, **options))
    assert_close(to_numpy(scores).sum(-1), np.ones((sizes.batch, sizes.heads, sizes.keys)))
    options["encoder_padding_mask"] = real
    output, own, cross = decoder(target, source, return_attention_scores=True, **options)
    assert_close(output, decoder(target, source, **options))
    for each, keys in ((own, sizes.queries), (cross, sizes.keys)):
        assert each.shape == (sizes.batch, sizes.heads, sizes.queries, keys)
        assert_close(to_numpy(each).sum(-1), np.ones(each.shape[:-1]))


def test_stacks_return_the_scores_of_every_block():
    rng = np.random.default_rng(0)
    source, target = normal(rng, 2, 7, 12), normal(rng, 2, 5, 12)
    encoder, decoder = layers.TransformerEncoderStack(3, 14, 4), layers.TransformerDecoderStack(2, 14, 4)
    plain = encoder(source), decoder(target, source)
    randomize(encoder), randomize(decoder)
    plain = encoder(source), decoder(target, source)
    memory, encoder_scores = encoder(source, return_attention_scores=True)
    output, own, cross = decoder(target, source, return_attention_scores=True)
    assert_close([memory, output], list(plain))
    assert [len(encoder_scores), len(own), len(cross)] == [3, 2, 2]
    assert {tuple(each.shape) for each in (*encoder_scores, *own)} == {(2, 4, 7, 7), (2, 4, 5, 5)}
    assert {tuple(each.shape) for each in cross} == {(2, 4, 5, 7)}
    assert np.abs(to_numpy(cross[0]) - to_numpy(cross[1])).max() > 1e-3
