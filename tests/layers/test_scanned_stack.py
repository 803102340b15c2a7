"""`layer_loop="scan"`: blocks in one loop give the numbers, gradients, draws and files of blocks one after another."""

import json

import keras
import numpy as np
import pytest

from keras_tfm.layers.block_function import BlockFunction
from keras_tfm.layers.mixture_of_experts import MixtureOfExperts
from keras_tfm.layers.relative_position_bias import RelativePositionBias
from keras_tfm.layers.transformer_decoder_stack import TransformerDecoderStack
from keras_tfm.layers.transformer_encoder_stack import TransformerEncoderStack
from tests.layers.block_configurations import MEMORY, REAL, REAL_MEMORY, B, D, N, S, T, X
from tests.layers.check_layer import check_layer
from tests.layers.depth_cases import F, L, model_of, values_after_training
from tests.layers.on_backend import compiled_call
from tests.numerics import assert_close, to_numpy

IS_TORCH = keras.backend.backend() == "torch"
CASES = {
    "one block for all": ("encoder", {"dropout": 0.3, "num_distinct_layers": 1, "stochastic_depth": 0.2}, None),
    "two passes each, experts": (
        "encoder",
        {"feed_forward": "experts", "num_layers": 4, "num_distinct_layers": 2},
        None,
    ),
    "statistics, a position for all, masks": (
        "encoder",
        {"normalization": "batch", "placement": "pre", "position": "shared"},
        {"padding_mask": REAL},
    ),
    "decoder with memory": ("decoder", {"dropout": 0.3}, {"encoder_padding_mask": REAL_MEMORY}),
}


def arguments_of(arguments):
    parts = {
        "shared": lambda: RelativePositionBias(8, 20),
        "experts": lambda: MixtureOfExperts(2, F, jitter=0.1, balance_coefficient=1.0),
    }
    return {name: parts.get(value, lambda value=value: value)() for name, value in arguments.items()}


@pytest.mark.parametrize("case", CASES)
def test_training_is_that_of_blocks_one_after_another(case):
    """Losses, gradients by their updates, states of random generators and moving statistics, of two compiled steps."""
    side, arguments, masks = CASES[case]
    expected = values_after_training(side, arguments_of(arguments), masks)
    received = values_after_training(side, {**arguments_of(arguments), "layer_loop": "scan"}, masks)
    assert_close(received, expected, factor=5)


@pytest.mark.skipif(IS_TORCH, reason="PyTorch runs the blocks one after another")
def test_one_body_is_traced_however_many_blocks_there_are(monkeypatch):
    calls = []
    run = BlockFunction.__call__

    def counted(self, *arguments):
        calls.append(1)
        return run(self, *arguments)

    monkeypatch.setattr(BlockFunction, "__call__", counted)
    counts = []
    for num_layers in (2, 7):
        stack = TransformerEncoderStack(num_layers, F, N, layer_loop="scan")
        stack.build((B, T, D))
        stack.built = True
        calls.clear()
        compiled_call(stack, [keras.ops.convert_to_tensor(X)], {}, {})
        counts.append(len(calls))
    assert counts[0] == counts[1] > 0


@pytest.mark.parametrize("saved, loaded", [("unrolled", "scan"), ("scan", "unrolled")])
def test_weights_files_fit_both_ways(saved, loaded, tmp_path):
    first, stack = model_of("encoder", {"layer_loop": saved})
    second, other = model_of("encoder", {"layer_loop": loaded})
    for variable in other.trainable_variables:
        variable.assign(variable * 0)
    first.save_weights(tmp_path / "stack.weights.h5")
    second.load_weights(tmp_path / "stack.weights.h5")
    names = [[v.path.split("/", 1)[1] for v in each.weights] for each in (stack, other)]
    assert names[0] == names[1]
    assert_close(second.predict_on_batch([X]), first.predict_on_batch([X]))


def outputs_of(stack, inputs, **options):
    """Compiled where the backend compiles."""
    inputs = [keras.ops.convert_to_tensor(x) for x in inputs]
    return stack(*inputs, **options) if IS_TORCH else compiled_call(stack, inputs, {}, options)


def test_scores_come_from_each_pass():
    _, stack = model_of("decoder", {"layer_loop": "scan"})
    _, plain = model_of("decoder", {})
    received = outputs_of(stack, [X, MEMORY], return_attention_scores=True)
    assert [len(each) for each in received[1:]] == [L, L]
    assert tuple(received[2][0].shape) == (B, N, T, S)
    assert_close(received, plain(X, MEMORY, return_attention_scores=True))


def test_caches_give_the_numbers_of_the_whole():
    _, stack = model_of("decoder", {"layer_loop": "scan", "position": "rope"})
    whole = to_numpy(outputs_of(stack, [X, MEMORY]))
    cache = stack.create_cache(B, T, MEMORY)
    for start, end in ((0, 3), (3, 5)):
        output, cache = stack(X[:, start:end], cache=cache, cache_update_index=start)
        assert_close(output, whole[:, start:end])


@pytest.mark.parametrize("policy", ["mixed_bfloat16", "norms in float32"])
def test_each_part_computes_in_its_own_precision(policy):
    if policy == "norms in float32":
        policy = keras.dtype_policies.DTypePolicyMap(default_policy="mixed_bfloat16")
        policy[".*norm"] = keras.dtype_policies.DTypePolicy("float32")
    _, stack = model_of("encoder", {"dtype": policy, "placement": "pre", "layer_loop": "scan"})
    _, plain = model_of("encoder", {"dtype": policy, "placement": "pre"})
    options = {"padding_mask": keras.ops.convert_to_tensor(REAL)}
    assert_close(outputs_of(stack, [X], **options), outputs_of(plain, [X], **options), "bfloat16")


@pytest.mark.parametrize("kind", ["lora", "int8"])
def test_changed_weights_are_scanned_too(kind):
    models = [model_of("encoder", {"layer_loop": layer_loop}) for layer_loop in ("scan", "unrolled")]
    results = []
    for model, stack in models:
        change(model, stack, kind)
        results.append([model.predict_on_batch([X]), model.train_on_batch([X], X), *map(to_numpy, stack.variables)])
    assert_close(*results, factor=50 if kind == "int8" else 5)


def change(model, stack, kind):
    for block in stack.blocks:
        if kind == "lora":
            keras.utils.set_random_seed(5)
            block.feed_forward.output_dense.enable_lora(2)
        else:
            for layer in (block.feed_forward.intermediate_dense, block.feed_forward.output_dense):
                layer.quantize("int8")
    model.compile(keras.optimizers.SGD(1.0), "mse", jit_compile=not IS_TORCH)


@pytest.mark.skipif(IS_TORCH, reason="PyTorch runs the blocks one after another")
def test_blocks_that_differ_are_refused():
    _, stack = model_of("encoder", {"layer_loop": "scan"})
    stack.blocks[1].feed_forward.output_dense.enable_lora(2)
    with pytest.raises(ValueError, match=r"`layer_loop='scan'` all `blocks` must[\s\S]*variables in block_0"):
        outputs_of(stack, [X])


def test_its_mask_goes_on_and_its_config_comes_back():
    check_layer(
        lambda **options: TransformerDecoderStack(2, F, N, placement="pre", layer_loop="scan", **options),
        (X, MEMORY),
        skip=("arguments", "policies", "lora", "int8"),
        zero_gradients=("key/bias",),
    )
    stack = TransformerEncoderStack(2, F, N, layer_loop="scan", rematerialization="full")
    config = json.loads(json.dumps(stack.get_config()))
    copy = TransformerEncoderStack.from_config(config)
    assert (copy.layer_loop, copy.rematerialization) == ("scan", "full")


def test_no_gradient_is_lost_where_the_batch_is_unknown():
    """On TensorFlow graphs of unknown sizes run without XLA as well."""
    model, stack = model_of("encoder", {"layer_loop": "scan", "dropout": 0.2})
    model.compile(keras.optimizers.SGD(1.0), "mse", jit_compile=False, run_eagerly=False)
    before = [to_numpy(weight) for weight in stack.trainable_variables]
    for rows in (B, B + 1):
        model.train_on_batch([np.resize(X, (rows, T, D))], np.resize(X, (rows, T, D)) + 1)
    for weight, old in zip(stack.trainable_variables, before, strict=True):
        assert "key/bias" in weight.path or np.abs(to_numpy(weight) - old).max() > 0, weight.path


@pytest.mark.parametrize(
    "arguments, message",
    [
        ({"layer_loop": "rolled"}, "`layer_loop` must be one of.*layer_loop='rolled'"),
        (
            {"layer_loop": "scan", "stochastic_depth": 0.1},
            "`layer_loop='scan'`.*`stochastic_depth`.*stochastic_depth=0.1",
        ),
        ({"layer_loop": "scan", "num_distinct_layers": 3}, "`num_distinct_layers` must divide `num_layers`.*=3, .*=4"),
    ],
)
def test_what_cannot_be_one_body_is_refused(arguments, message):
    with pytest.raises(ValueError, match=message):
        TransformerEncoderStack(4, F, N, **arguments)
