"""Our `MultiHeadAttention` against Keras': arguments, weights, configs, files, LoRA and int8."""

import keras
import numpy as np
import pytest

from keras_tfm.layers import MultiHeadAttention
from tests.compat.configurations import CONFIGURATIONS, B, Original, S, T, made
from tests.compat.pairs import (
    assert_same,
    normal,
    pair,
    parameters,
    quick_collection,
    share_weights,
)


def test_initializers_give_the_originals_weights():
    arguments = {
        "kernel_initializer": keras.initializers.GlorotUniform(seed=3),
        "bias_initializer": keras.initializers.RandomNormal(seed=5),
    }
    layers = [made_class(2, 3, use_gate=True, **arguments) for made_class in (Original, MultiHeadAttention)]
    for layer in layers:
        layer.build((B, T, 11), (B, S, 13))
    assert_same(layers[0].get_weights(), layers[1].get_weights())


@pytest.mark.parametrize(
    "arguments",
    [
        {"kernel_regularizer": "l2", "bias_regularizer": "l1"},
        {"activity_regularizer": keras.regularizers.L2(0.1)},
    ],
)
def test_regularization_losses_are_the_originals(arguments):
    x = normal(B, T, 11)
    losses = []
    for layer in pair(Original, MultiHeadAttention, x.shape, x.shape, num_heads=2, key_dim=3, **arguments):
        layer(x, x)
        losses.append(float(keras.ops.convert_to_numpy(sum(layer.losses))))
    assert losses[0] > 0
    np.testing.assert_allclose(losses[1], losses[0], rtol=1e-5)


def test_constraints_reach_every_kernel_and_bias():
    _, ours = pair(
        Original,
        MultiHeadAttention,
        (B, T, 11),
        (B, S, 13),
        num_heads=2,
        key_dim=3,
        use_gate=True,
        kernel_constraint="non_neg",
        bias_constraint="unit_norm",
    )
    kinds = {type(weight.constraint) for weight in ours.weights if "kernel" in weight.path}
    assert kinds == {keras.constraints.NonNeg}
    kinds = {type(weight.constraint) for weight in ours.weights if "bias" in weight.path}
    assert kinds == {keras.constraints.UnitNorm}


@pytest.mark.parametrize("policy", ["mixed_bfloat16", "mixed_float16", "float16"])
def test_reduced_precision_is_as_near_as_its_rounding(policy):
    shape = (B, T, 11)
    original, ours = pair(Original, MultiHeadAttention, shape, shape, num_heads=2, key_dim=3, dtype=policy)
    x = normal(*shape)
    assert original.compute_dtype == ours.compute_dtype == keras.backend.standardize_dtype(ours(x, x).dtype)
    assert_same(original(x, x), ours(x, x), tolerance=6e-2)


def test_a_dtype_policy_map_reaches_the_projections():
    policies = keras.dtype_policies.DTypePolicyMap()
    policies["attention/query"] = keras.dtype_policies.DTypePolicy("float16")
    x = normal(B, T, 11)
    arguments = {"num_heads": 2, "key_dim": 3, "dtype": policies, "name": "attention"}
    for layer in (Original(**arguments), MultiHeadAttention(**arguments)):
        layer.build(x.shape, x.shape)
        assert layer.query_dense.compute_dtype == "float16"
        assert layer.key_dense.compute_dtype == "float32"


def test_ours_is_the_originals_subclass():
    assert isinstance(MultiHeadAttention(2, 3), Original)


def test_arguments_are_the_originals_first():
    for method in ("__init__", "call", "build", "compute_output_shape"):
        expected = parameters(getattr(Original, method))
        assert parameters(getattr(MultiHeadAttention, method))[: len(expected)] == expected, method


def test_properties_are_the_originals():
    original, ours, _ = made("gate")
    names = [name for name in dir(Original) if isinstance(getattr(Original, name), property)]
    own = {"num_heads", "key_dim", "value_dim", "dropout", "use_bias", "attention_axes"}
    assert own <= set(names)
    for name in own:
        assert getattr(ours, name) == getattr(original, name), name
    for name in ("query_dense", "key_dense", "value_dense", "output_dense"):
        assert isinstance(getattr(ours, name), type(getattr(original, name))), name


@pytest.mark.parametrize("name", CONFIGURATIONS)
def test_configs_are_supersets_and_exchange(name):
    arguments = {"num_heads": 2, "key_dim": 3, **CONFIGURATIONS[name][0]}
    original, ours = Original(**arguments, name="attention"), MultiHeadAttention(**arguments, name="attention")
    theirs = original.get_config()
    assert {key: value for key, value in ours.get_config().items() if key in theirs} == theirs
    assert MultiHeadAttention.from_config(theirs).get_config() == ours.get_config()
    assert Original.from_config({key: ours.get_config()[key] for key in theirs}).get_config() == theirs


def attention_model(attention, **arguments):
    source, target = keras.Input((S, 13)), keras.Input((T, 11))
    x = attention(2, 3, dropout=0.3, use_gate=True, **arguments)(target, source)
    x = keras.layers.LayerNormalization()(x + target)
    x = attention(3, 4, attention_axes=1, **arguments)(x, x, use_causal_mask=True)
    return keras.Model([source, target], keras.layers.Dense(3)(x))


@pytest.mark.parametrize("suffix", [".weights.h5", ".keras"])
@pytest.mark.parametrize(
    ("saver", "loader"),
    [(Original, MultiHeadAttention), (MultiHeadAttention, Original)],
    ids=["ours loads", "it loads"],
)
def test_weight_files_load_both_ways(tmp_path, saver, loader, suffix):
    path = str(tmp_path / f"model{suffix}")
    saved, loaded = attention_model(saver), attention_model(loader)
    if suffix == ".keras":
        saved.save(path)
    else:
        saved.save_weights(path)
    inputs = [normal(B, S, 13), normal(B, T, 11)]
    loaded.load_weights(path)
    assert_same(saved(inputs), loaded(inputs))


def test_lora_adapters_and_their_files_are_the_originals(tmp_path):
    models = [attention_model(Original), attention_model(MultiHeadAttention)]
    share_weights(*models)
    for model in models:
        for layer in model.layers:
            if isinstance(layer, Original):
                layer.query_dense.enable_lora(2)
                layer.value_dense.enable_lora(2)
    share_weights(*models)
    inputs = [normal(B, S, 13), normal(B, T, 11)]
    assert_same(models[0](inputs), models[1](inputs))
    models[0].save_weights(str(tmp_path / "lora.weights.h5"))
    plain = attention_model(MultiHeadAttention)
    plain.load_weights(str(tmp_path / "lora.weights.h5"))
    assert_same(models[0](inputs), plain(inputs))


@pytest.mark.filterwarnings("ignore:Layer .* does not have a `quantize` method:UserWarning")
def test_int8_is_the_originals():
    models = [attention_model(Original), attention_model(MultiHeadAttention)]
    share_weights(*models)
    inputs = [normal(B, S, 13), normal(B, T, 11)]
    exact = models[0](inputs)
    with quick_collection():
        for model in models:
            model.quantize("int8")
    assert_same(models[0](inputs), models[1](inputs), tolerance=1e-4)
    assert_same(exact, models[1](inputs), tolerance=0.3)
