"""Stacks: blocks in a row, shared blocks and positions, what grows with depth, and one cache for each pass."""

import keras
import numpy as np
import pytest

from keras_tfm.layers.deep_norm import DeepNorm
from keras_tfm.layers.linear_attention import LinearAttention
from keras_tfm.layers.mixture_of_experts import MixtureOfExperts
from keras_tfm.layers.multi_head_attention import MultiHeadAttention
from keras_tfm.layers.multi_head_latent_attention import MultiHeadLatentAttention
from keras_tfm.layers.relative_position_bias import RelativePositionBias
from keras_tfm.layers.transformer_decoder_stack import TransformerDecoderStack
from keras_tfm.layers.transformer_encoder_stack import TransformerEncoderStack
from tests.layers.block_configurations import MEMORY, REAL, REAL_MEMORY, B, D, N, S, T, X
from tests.layers.check_layer import check_layer
from tests.numerics import assert_close, randomize, to_numpy

F = 11
SHAPE = (None, None, D)
STACKS = {"encoder": (TransformerEncoderStack, [SHAPE]), "decoder": (TransformerDecoderStack, [SHAPE, SHAPE])}


def made(side, num_layers, **arguments):
    stack_class, shapes = STACKS[side]
    stack = stack_class(num_layers, F, N, **arguments)
    stack.build(*shapes)
    stack.built = True
    return randomize(stack)


def inputs_of(side):
    return [X] if side == "encoder" else [X, MEMORY]


def num_weights(layer):
    return sum(int(np.prod(weight.shape)) for weight in layer.weights)


@pytest.mark.parametrize("side", STACKS)
@pytest.mark.parametrize("placement", ["post", "pre", "output"])
def test_it_is_its_blocks_and_a_norm_where_they_leave_none(side, placement):
    stack = made(side, 3, placement=placement)
    x = X
    for block in stack.blocks:
        x = block(x, *inputs_of(side)[1:])
    assert (stack.final_norm is None) == (placement == "post")
    assert_close(stack(*inputs_of(side)), x if stack.final_norm is None else stack.final_norm(x))


@pytest.mark.parametrize("side", STACKS)
@pytest.mark.parametrize(
    "num_layers, num_distinct_layers, order",
    [(3, 1, [0, 0, 0]), (4, 2, [0, 0, 1, 1]), (5, 2, [0, 0, 0, 1, 1]), (3, 3, [0, 1, 2]), (3, None, [0, 1, 2])],
)
def test_blocks_may_share_weights(side, num_layers, num_distinct_layers, order):
    stack = made(side, num_layers, num_distinct_layers=num_distinct_layers)
    assert len(stack.blocks) == len(set(order))
    assert num_weights(stack) == len(set(order)) * num_weights(stack.blocks[0])
    x = X
    for i in order:
        x = stack.blocks[i](x, *inputs_of(side)[1:])
    assert_close(stack(*inputs_of(side)), x)


@pytest.mark.parametrize("num_distinct_layers", [1, 2])
def test_shared_blocks_have_a_cache_and_scores_for_each_pass(num_distinct_layers):
    stack = made("decoder", 3, num_distinct_layers=num_distinct_layers, placement="pre", position="rope")
    full, self_scores, cross_scores = stack(X, MEMORY, return_attention_scores=True)
    assert [tuple(x.shape) for x in self_scores] == [(B, N, T, T)] * 3
    assert [tuple(x.shape) for x in cross_scores] == [(B, N, T, S)] * 3
    assert np.abs(to_numpy(self_scores[0]) - to_numpy(self_scores[2])).max() > 1e-3
    cache = stack.create_cache(B, T, MEMORY)
    assert len(cache.self_attention) == len(cache.cross_attention) == 3
    for start, end in ((0, 3), (3, 4), (4, 5)):
        output, cache = stack(X[:, start:end], cache=cache, cache_update_index=start)
        assert_close(output, to_numpy(full)[:, start:end])
    specification = stack(
        keras.Input((T, D)), keras.Input((S, D)), return_attention_scores=True
    )  # symbolic: as many as eager
    assert [len(each) for each in specification[1:]] == [3, 3]


def positions_of(stack):
    return {id(block.self_attention.position) for block in stack.blocks}


@pytest.mark.parametrize("side", STACKS)
def test_a_position_layer_is_shared_and_stays_shared(side, tmp_path):
    stack = made(side, 3, position=RelativePositionBias(8, 20))
    assert len(positions_of(stack)) == 1
    tables = [weight for weight in stack.weights if "embeddings" in weight.path]
    assert len(tables) == 1
    copy = type(stack).from_config(stack.get_config())
    copy(*inputs_of(side))
    copy.set_weights(stack.get_weights())
    assert len(positions_of(copy)) == 1
    expected = to_numpy(stack(*inputs_of(side)))
    assert_close(copy(*inputs_of(side)), expected)
    inputs = [keras.Input((None, D)) for _ in inputs_of(side)]
    keras.Model(inputs, stack(*inputs)).save(tmp_path / "model.keras")
    loaded = keras.saving.load_model(tmp_path / "model.keras")
    assert len(positions_of(loaded.layers[-1])) == 1
    assert_close(loaded(inputs_of(side)), expected)


def test_a_position_of_ones_own_reaches_all_blocks():
    stack = made("encoder", 2, position=RelativePositionBias(8, 20))
    before = to_numpy(stack(X, return_attention_scores=True)[1][1])
    stack.blocks[0].self_attention.position.embeddings.assign(np.random.default_rng(0).normal(size=(8, N)) * 3)
    assert np.abs(to_numpy(stack(X, return_attention_scores=True)[1][1]) - before).max() > 1e-2


def test_a_position_by_name_is_each_blocks_own():
    stack = made("encoder", 3, position="t5")
    assert len(positions_of(stack)) == 3


def test_given_parts_are_copied_for_each_block():
    stack = made(
        "decoder",
        2,
        attention=MultiHeadAttention(N, 4),
        cross_attention=MultiHeadAttention(1, 5),
        feed_forward=MixtureOfExperts(3, F),
        normalization=keras.layers.LayerNormalization(center=False),
        residual="layer_scale",
    )
    parts = ("self_attention", "cross_attention", "feed_forward", "self_attention_norm", "feed_forward_residual")
    for part in parts:
        first, second = (getattr(block, part) for block in stack.blocks)
        assert first is not second and len(first.weights) == len(second.weights) > 0
        assert not {id(weight) for weight in first.weights} & {id(weight) for weight in second.weights}
    assert all(block.self_attention_norm.beta is None for block in stack.blocks)
    assert stack.final_norm is None
    copy = type(stack).from_config(stack.get_config())
    copy.build(SHAPE, SHAPE)
    copy.set_weights(stack.get_weights())
    assert_close(copy(X, MEMORY), stack(X, MEMORY))


@pytest.mark.parametrize(
    "attention",
    [
        LinearAttention(N, 4),
        MultiHeadLatentAttention(N, 4, 7, rotary_dim=2),
        MultiHeadAttention(N, 4, position="rope", sliding_window=4),
    ],
    ids=["linear", "latent", "rotary window"],
)
def test_other_attention_layers_stand_in_its_blocks(attention):
    stack = made("decoder", 2, attention=attention, cross_attention=attention, placement="pre")
    full = to_numpy(stack(X, MEMORY, encoder_padding_mask=REAL_MEMORY))
    cache = stack.create_cache(B, T, MEMORY, encoder_padding_mask=REAL_MEMORY)
    for start, end in ((0, 3), (3, 4), (4, 5)):
        output, cache = stack(X[:, start:end], cache=cache, cache_update_index=start, encoder_padding_mask=REAL_MEMORY)
        assert_close(output, full[:, start:end])


def test_the_rates_of_stochastic_depth_grow_linearly():
    """Huang et al. 2016, equation 4: the last block has the rate that is given, the first an L-th of it."""
    stack = made("encoder", 4, stochastic_depth=0.2)
    np.testing.assert_allclose([block.stochastic_depth for block in stack.blocks], [0.05, 0.1, 0.15, 0.2])
    assert stack.get_config()["stochastic_depth"] == 0.2
    np.testing.assert_array_equal(to_numpy(stack(X)), to_numpy(stack(X, training=False)))
    copy = TransformerEncoderStack.from_config(stack.get_config())
    assert [block.stochastic_depth for block in copy.blocks] == [block.stochastic_depth for block in stack.blocks]


def test_a_dropped_block_leaves_the_stream_as_it_is():
    stack = made("encoder", 2, stochastic_depth=0.99, placement="pre", final_normalization="none")
    stack.blocks[0].stochastic_depth = 0.99
    x = np.concatenate([X] * 20)
    output = to_numpy(stack.blocks[1](x, training=True))
    assert (np.abs(output - x).max((1, 2)) == 0).mean() > 0.9


@pytest.mark.parametrize("side, has_encoder", [("encoder", None), ("decoder", False), ("decoder", True)])
def test_deep_norm_knows_the_depth(side, has_encoder):
    stack_class, shapes = STACKS[side]
    stack = stack_class(6, F, N, residual="deepnorm", kernel_initializer="ones")
    stack.build(*shapes[: 1 + bool(has_encoder)])
    expected = DeepNorm.of_encoder(6) if side == "encoder" else DeepNorm.of_decoder(6, has_encoder)
    for block in stack.blocks:
        attentions = [block.self_attention] + ([block.cross_attention] if has_encoder else [])
        kernels = {1.0: [], expected.beta: [part.kernel for part in (block.feed_forward.intermediate_dense,)]}
        kernels[expected.beta].append(block.feed_forward.output_dense.kernel)
        for layer in attentions:
            kernels[1.0] += [layer._query_dense.kernel, layer._key_dense.kernel]
            kernels[expected.beta] += [layer._value_dense.kernel, layer._output_dense.kernel]
        for value, each in kernels.items():
            for kernel in each:
                np.testing.assert_allclose(to_numpy(kernel), value, rtol=1e-6)
        assert block.self_attention_residual.alpha == block.feed_forward_residual.alpha == expected.alpha


class Unbuilt(keras.Model):
    """A model that is built by its first batch, on JAX inside a stateless scope."""

    def __init__(self, stack):
        super().__init__()
        self.stack = stack

    def call(self, inputs):
        return self.stack(inputs)


def test_deep_norm_starts_small_in_models_that_data_builds():
    model = Unbuilt(TransformerEncoderStack(6, F, N, residual="deepnorm", kernel_initializer="ones"))
    model.compile(loss="mse")
    model.evaluate(X, X, verbose=0)
    attention = model.stack.blocks[0].self_attention
    np.testing.assert_allclose(to_numpy(attention._key_dense.kernel), 1)
    np.testing.assert_allclose(to_numpy(attention._value_dense.kernel), 48**-0.25, rtol=1e-6)


def test_a_lone_block_needs_the_depth():
    with pytest.raises(ValueError, match="`residual='deepnorm'` needs `num_layers`"):
        TransformerEncoderStack.block_class(F, N, residual="deepnorm")(X)


@pytest.mark.parametrize("kind", ["layer", "rms", "batch", "none"])
def test_the_final_normalization_is_what_was_asked_for(kind):
    stack = made("encoder", 1, placement="post", final_normalization=kind)
    names = {
        "layer": "LayerNormalization",
        "rms": "RMSNormalization",
        "batch": "BatchNormalization",
        "none": "NoneType",
    }
    assert type(stack.final_norm).__name__ == names[kind]


@pytest.mark.parametrize("num_distinct_layers", [None, 1])
def test_everything_random_trains_compiled(num_distinct_layers):
    """Dropout, stochastic depth, jitter and the experts' losses, one for each pass, inside a compiled step."""
    experts = MixtureOfExperts(2, F, jitter=0.1, dropout=0.2, balance_coefficient=1.0)
    stack = TransformerEncoderStack(
        3,
        None,
        N,
        dropout=0.3,
        stochastic_depth=0.5,
        feed_forward=experts,
        num_distinct_layers=num_distinct_layers,
        placement="pre",
    )
    inputs = keras.Input((None, D))
    model = keras.Model(inputs, stack(inputs))
    model.compile(keras.optimizers.SGD(1e-3), "mse", jit_compile=keras.backend.backend() != "torch")
    x = np.concatenate([X] * 8)
    before = model.get_weights()
    losses = [float(model.train_on_batch(x, x)) for _ in range(3)]
    assert min(losses) >= 3 and len(set(losses)) == 3, losses
    assert all(np.abs(x - y).max() > 0 for x, y in zip(before, model.get_weights(), strict=True) if x.ndim == 3)
    assert float(model.evaluate(x, x, verbose=0)) < min(losses) - 2
    stack(X, training=True)
    assert len(stack.losses) == 3


def test_batch_statistics_of_all_blocks_are_those_of_real_tokens():
    stack = made("encoder", 2, normalization="batch", placement="pre")
    before = [to_numpy(variable) for variable in stack.non_trainable_variables]
    outputs = []
    for garbage in (0.0, 9.0):
        for variable, value in zip(stack.non_trainable_variables, before, strict=True):
            variable.assign(value)
        stack(np.where(REAL[..., None], X, garbage), padding_mask=REAL, training=True)
        outputs.append([to_numpy(variable) for variable in stack.non_trainable_variables])
    for zeros, dirty, first in zip(*outputs, before, strict=True):
        np.testing.assert_allclose(dirty, zeros, atol=1e-6)
        assert np.abs(zeros - first).max() > 1e-4


@pytest.mark.parametrize(
    "arguments, skip",
    [
        ({"num_distinct_layers": 1, "feed_forward": "swiglu", "placement": "sandwich"}, ()),
        # A position layer that is given has a dtype policy of its own.
        (
            {"position": RelativePositionBias(8, 20), "residual": "deepnorm", "final_normalization": "rms"},
            ("policies",),
        ),
    ],
    ids=["shared blocks", "shared position"],
)
@pytest.mark.parametrize("side", STACKS)
def test_it_keeps_the_promises_of_all_layers(side, arguments, skip):
    check_layer(
        lambda **options: STACKS[side][0](2, F, N, **arguments, **options),
        tuple(inputs_of(side)),
        skip=("arguments", *skip),
        zero_gradients=("key/bias",),
        tolerance=3.0,
    )


@pytest.mark.parametrize("value", [0, 4, 1.5])
def test_bad_numbers_of_distinct_layers(value):
    with pytest.raises(ValueError, match=f"`num_distinct_layers` must be.*num_distinct_layers={value}, num_layers=3"):
        TransformerEncoderStack(3, F, N, num_distinct_layers=value)
