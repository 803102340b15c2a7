"""Law 2: what padding holds, how long it is and on which side it is changes no output of a real token.

Masks are implicit here, made by `mask_zero` alone: they have to find their way through scaled embeddings, stacked
blocks, several cross attentions and the tied output by themselves.
"""

import keras
import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from keras import ops as keras_ops

from keras_tfm import layers, models, ops, testing
from tests import oracles
from tests.numerics import assert_close, compiled_on_jax, randomize, to_numpy
from tests.properties.configurations import KERNELS, blocks, fusable_blocks, normal, padding_mask, seeds, sparingly

VOCABULARY = 11


def padded_ids(rng, kind, batch, length):
    """int32 `[B, T]`, 0 where `kind` has padding."""
    return rng.integers(1, VOCABULARY, (batch, length)).astype("int32") * padding_mask(rng, kind, batch, length)


def embedding(config, seed, absolute="sinusoidal"):
    layer = layers.PositionalEmbedding(
        VOCABULARY,
        40,
        config.sizes.width,
        embeddings_initializer="zeros",
        mask_zero=True,
        position=absolute if config.position is None else None,
        embedding_scale="sqrt",
    )
    layer.build((None, None))
    return randomize(layer, seed, scale=config.sizes.width**-0.5)


def change_padding(layer, seed):
    """Gives the padding id, and no other, another vector."""
    table = layer.token_embedding.embeddings
    values = to_numpy(table)
    values[0] = 5 * np.random.default_rng(seed).normal(size=values.shape[1])
    table.assign(values)


def program(kernel, function, *parts):
    """`function`, which calls these layers, by one kernel."""

    def run(*arrays):
        with ops.use_kernel(kernel):
            return function(*arrays)

    variables = [variable for part in parts for variable in part.variables]
    return compiled_on_jax(run, variables) if kernel == "block" else run


@pytest.mark.parametrize("kernel", KERNELS)
@sparingly
@given(config=fusable_blocks, padding=st.sampled_from(["right", "left", "holes"]), seed=seeds)
def test_what_padding_holds_does_not_matter_to_an_encoder(kernel, config, padding, seed):
    rng = np.random.default_rng(seed)
    embed, encode = embedding(config, 1), config.encoder(num_layers=3)
    ids = padded_ids(rng, padding, config.sizes.batch, config.sizes.keys)
    apply = program(kernel, lambda ids: encode(embed(ids)), embed, encode)
    before = to_numpy(apply(ids))[ids > 0]
    change_padding(embed, seed)
    assert_close(to_numpy(apply(ids))[ids > 0], before)


@pytest.mark.parametrize("kernel", KERNELS)
@sparingly
@given(
    config=fusable_blocks,
    source_padding=st.sampled_from(["right", "left", "holes", "empty"]),
    target_padding=st.sampled_from(["right", "left", "holes"]),
    seed=seeds,
)
def test_what_padding_holds_does_not_matter_to_a_decoder(kernel, config, source_padding, target_padding, seed):
    """Two encoder blocks and two decoder blocks, each with a cross attention to the same memory."""
    rng = np.random.default_rng(seed)
    sizes = config.sizes
    embed_source, embed_target = embedding(config, 1), embedding(config, 2, absolute="learned")
    encode, decode = config.encoder(num_layers=2), config.decoder(num_layers=2, seed=3)
    source = padded_ids(rng, source_padding, sizes.batch, sizes.keys)
    target = padded_ids(rng, target_padding, sizes.batch, sizes.queries)

    def run(source, target):
        hidden = decode(embed_target(target), encode(embed_source(source)))
        return embed_target(hidden, reverse=True)

    apply = program(kernel, run, embed_source, embed_target, encode, decode)
    before = to_numpy(apply(source, target))[target > 0][:, 1:]
    change_padding(embed_source, seed)
    change_padding(embed_target, seed + 1)
    assert_close(to_numpy(apply(source, target))[target > 0][:, 1:], before)


@sparingly
@given(
    config=blocks.filter(lambda config: config.position is not None),
    seed=seeds,
    side=st.sampled_from(["left", "right"]),
)
def test_how_long_padding_is_does_not_matter_where_positions_are_relative(config, seed, side):
    rng = np.random.default_rng(seed)
    sizes = config.sizes
    embed, encode, decode = embedding(config, 1), config.encoder(num_layers=2), config.decoder(num_layers=2)
    source, target = (rng.integers(1, VOCABULARY, (sizes.batch, length)) for length in (sizes.keys, sizes.queries))

    def run(extra):
        width = ((0, 0), (extra, 0) if side == "left" else (0, extra))
        memory = encode(embed(np.pad(source, width)))
        hidden = to_numpy(decode(embed(np.pad(target, width)), memory))
        return hidden[:, extra:] if side == "left" else hidden[:, : hidden.shape[1] - extra]

    assert_close(run(extra=3), run(extra=0), factor=5)


@pytest.mark.parametrize("position", ["sinusoidal", "learned", "rope"])
def test_how_long_padding_is_does_not_matter_to_the_models(position):
    options = dict(position=position, sequence_length=12)
    sequence = randomize(models.Seq2SeqTransformer(VOCABULARY, 2, 12, 14, 3, **options))
    testing.assert_padding_invariant(sequence, input_names=["source_ids"])
    testing.assert_padding_invariant(sequence)
    for model_class in (models.SequenceTagger, models.SequenceClassifier):
        model = model_class(5, 2, 12, 14, 3, vocabulary_size=VOCABULARY, character_vocabulary_size=9, **options)
        testing.assert_padding_invariant(randomize(model))


@sparingly
@given(config=blocks, seed=seeds, padding=st.sampled_from(["right", "left"]))
def test_left_padding_in_a_cache_is_not_seen(config, seed, padding):
    """A padded prompt goes into a cache, then token after token: each equals the full pass under the same mask."""
    rng = np.random.default_rng(seed)
    sizes, decode = config.sizes, config.decoder(num_layers=2, has_memory=False)
    prompt, total = sizes.queries, sizes.queries + 2
    x = normal(rng, sizes.batch, total, sizes.width)
    mask = np.ones((sizes.batch, total), bool)
    mask[:, :prompt] = padding_mask(rng, padding, sizes.batch, prompt)
    noise = np.where(mask[..., None], x, 9 * normal(rng, *x.shape))
    expected = to_numpy(decode(x, decoder_padding_mask=mask))
    cache, outputs = decode.create_cache(sizes.batch, total), []
    for start, end in ((0, prompt), (prompt, prompt + 1), (prompt + 1, total)):
        output, cache = decode(noise[:, start:end], decoder_padding_mask=mask, cache=cache, cache_update_index=start)
        outputs.append(to_numpy(output))
    assert_close(np.concatenate(outputs, axis=1)[mask], expected[mask])


def tagging_model(normalize_first):
    """The standard recipe: scaled embedding, blocks, tied output; nothing hands a mask on but the layers themselves."""
    ids = keras.Input((None,), dtype="int32")
    embed = layers.PositionalEmbedding(
        VOCABULARY, 20, 12, mask_zero=True, position="sinusoidal", embedding_scale="sqrt", name="embed"
    )
    x = embed(ids)
    for _ in range(2):
        x = layers.TransformerEncoder(14, 3, normalize_first=normalize_first)(x)
    return randomize(keras.Model(ids, embed(x, reverse=True)))


@pytest.mark.parametrize("normalize_first", [False, True])
def test_the_loss_and_the_metrics_do_not_see_padding(normalize_first):
    model = tagging_model(normalize_first)
    model.compile(
        loss=keras.losses.SparseCategoricalCrossentropy(from_logits=True),
        metrics=[keras.metrics.SparseCategoricalAccuracy(name="accuracy")],
    )
    rng = np.random.default_rng(0)
    ids = padded_ids(rng, "right", 3, 7)
    targets = rng.integers(0, VOCABULARY, ids.shape)
    logits = to_numpy(model(ids))
    expected = oracles.cross_entropy(logits, targets, ids > 0)
    accuracy = (logits.argmax(-1) == targets)[ids > 0].mean()

    def evaluate(extra, fill):
        padded, labels = np.pad(ids, ((0, 0), (0, extra))), np.pad(targets, ((0, 0), (0, extra)), constant_values=fill)
        labels[padded == 0] = fill
        return model.evaluate(padded, labels, return_dict=True, verbose=0, batch_size=3)

    for extra, fill in ((0, 0), (5, 0), (5, 7)):
        assert evaluate(extra, fill) == pytest.approx({"loss": expected, "accuracy": accuracy}, abs=1e-5)


def test_keras_own_layers_break_this_law():
    """The recipe of stock Keras, as a check of the check: padding leaks from the second block on."""
    ids = keras.Input((None,), dtype="int32")
    embed = keras.layers.Embedding(VOCABULARY, 12, mask_zero=True)
    x = embed(ids)
    for _ in range(2):
        x = keras.layers.LayerNormalization()(x + keras.layers.MultiHeadAttention(3, 4)(x, x))
    model = randomize(keras.Model(ids, x))
    values = np.array([[3, 4, 5, 0, 0]])
    before = to_numpy(model(values))[:, :3]
    table = to_numpy(embed.embeddings)
    table[0] += 5
    embed.embeddings.assign(table)
    assert np.abs(to_numpy(model(values))[:, :3] - before).max() > 0.1


def test_an_explicit_padding_mask_does_what_an_implicit_one_does():
    rng = np.random.default_rng(0)
    encoder = randomize(_built(layers.TransformerEncoderStack(2, 14, 3)))
    x, mask = normal(rng, 2, 5, 12), np.arange(5) < np.array([[5], [3]])
    tensor = keras_ops.convert_to_tensor(x)
    tensor._keras_mask = keras_ops.convert_to_tensor(mask)
    implicit, explicit = to_numpy(encoder(tensor)), to_numpy(encoder(x, padding_mask=mask))
    assert_close(implicit[mask], explicit[mask])
    assert_close(implicit, encoder(x, mask=mask))


def _built(layer):
    layer.build((None, None, 12))
    layer.built = True
    return layer
