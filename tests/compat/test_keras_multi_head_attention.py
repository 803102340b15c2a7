"""Our `MultiHeadAttention` against Keras': same weights, same numbers, same shapes."""

import keras
import numpy as np
import pytest

from keras_tfm.layers import AttachMask, MultiHeadAttention
from tests.compat.pairs import (
    assert_same,
    combinations,
    normal,
    pair,
    parameters,
    quick_collection,
    shapes,
    share_weights,
)

Original = keras.layers.MultiHeadAttention

B, T, S = 2, 5, 7

# name: (constructor arguments, shape of the query, shape of the value, shape of the key)
CONFIGURATIONS = {
    "self": ({}, (B, T, 11), (B, T, 11), None),
    "cross": ({}, (B, T, 11), (B, S, 13), None),
    "own key": ({}, (B, T, 11), (B, S, 13), (B, S, 3)),
    "value_dim": ({"value_dim": 6}, (B, T, 11), (B, S, 13), None),
    "output_shape int": ({"output_shape": 9}, (B, T, 11), (B, S, 13), None),
    "output_shape tuple": ({"output_shape": (4, 9)}, (B, T, 11), (B, S, 13), None),
    "no bias": ({"use_bias": False}, (B, T, 11), (B, S, 13), None),
    "gate": ({"use_gate": True, "value_dim": 6}, (B, T, 11), (B, S, 13), None),
    "window": ({"sliding_window": 2}, (B, T, 11), (B, T, 11), None),
    "dropout": ({"dropout": 0.4}, (B, T, 11), (B, S, 13), None),
    "all axes of images": ({}, (B, 3, 4, 11), (B, 2, 5, 13), None),
    "rows of images": ({"attention_axes": (2,)}, (B, 3, 4, 11), (B, 3, 5, 11), None),
    "columns of images": ({"attention_axes": 1, "use_gate": True}, (B, 3, 4, 11), (B, 5, 4, 11), None),
    "last axis, negative": ({"attention_axes": -2}, (B, 3, 4, 11), (B, 3, 5, 11), None),
    "two of three axes": ({"attention_axes": (2, 3), "value_dim": 6}, (B, 2, 3, 4, 7), (B, 2, 4, 3, 7), None),
    "first and last axis": ({"attention_axes": (1, 3)}, (B, 2, 3, 4, 7), (B, 5, 3, 2, 7), None),
}


def inputs_of(query_shape, value_shape, key_shape):
    """Random arrays, distinct though the shapes may be equal."""
    given = [query_shape, value_shape, key_shape]
    return [normal(*shape, seed=seed) for seed, shape in enumerate(given) if shape is not None]


def made(name):
    """`(original, ours, inputs)` of a configuration."""
    arguments, *given = CONFIGURATIONS[name]
    given = [shape for shape in given if shape is not None]
    original, ours = pair(Original, MultiHeadAttention, *given, num_heads=2, key_dim=3, **arguments)
    return original, ours, inputs_of(*CONFIGURATIONS[name][1:])


@pytest.mark.parametrize("name", CONFIGURATIONS)
def test_outputs_and_scores_are_the_originals(name):
    original, ours, inputs = made(name)
    expected = original(*inputs, return_attention_scores=True)  # without scores it fails for value_dim on JAX
    assert_same(expected, ours(*inputs, return_attention_scores=True))
    assert_same(expected[0], ours(*inputs))


@pytest.mark.parametrize("name", ["self", "cross", "gate", "dropout", "columns of images"])
def test_a_causal_mask_is_the_originals(name):
    original, ours, inputs = made(name)
    expected = original(*inputs, use_causal_mask=True, return_attention_scores=True)
    assert_same(expected, ours(*inputs, use_causal_mask=True, return_attention_scores=True))
    assert_same(expected[0], ours(*inputs, use_causal_mask=True))


@pytest.mark.parametrize("name", CONFIGURATIONS)
def test_symbolic_shapes_are_those_of_the_outputs(name):
    _, ours, inputs = made(name)
    free = [keras.Input(batch_shape=(None, *x.shape[1:])) for x in inputs]
    for scores in (False, True):
        symbolic = ours(*free, return_attention_scores=scores)
        eager = ours(*inputs, return_attention_scores=scores)
        assert [shape[1:] for shape in shapes(symbolic)] == [shape[1:] for shape in shapes(eager)]
        assert [shape[0] for shape in shapes(symbolic)] == [None] * (1 + scores)
    assert ours.compute_output_shape(*(x.shape for x in inputs)) == shapes(eager)[0]


MASKS = ("query", "value", "key", "explicit", "causal", "window")


def test_masks_in_every_combination_are_the_originals():
    """Implicit masks of all inputs, an explicit one, causality and a window, wherever a row has a key left."""
    random = np.random.default_rng(0)
    query, value, key = inputs_of((B, T, 11), (B, T, 11), (B, T, 11))
    real = {name: random.random((B, T)) < 0.8 for name in ("query", "value", "key")}
    explicit = random.random((B, T, T)) < 0.8
    position = np.arange(T)
    bands = {
        "causal": position[:, None] >= position,
        "window": abs(position[:, None] - position) < 3,
    }
    shape = (B, T, 11)
    built = {
        window: pair(Original, MultiHeadAttention, shape, shape, num_heads=2, key_dim=3, sliding_window=window)
        for window in (None, 3)
    }
    for chosen in combinations(*MASKS):
        allowed = np.ones((B, T, T), bool)
        if chosen["query"]:
            allowed = allowed & real["query"][:, :, None]
        for name in ("value", "key"):
            allowed = allowed & (real[name][:, None, :] if chosen[name] else True)
        allowed = allowed & (explicit if chosen["explicit"] else True)
        for name, band in bands.items():
            allowed = allowed & (band if chosen[name] else True)

        def call(layer, chosen=chosen):
            inputs = {"query": query, "value": value, "key": key}
            inputs = {name: AttachMask()([x, real[name]]) if chosen[name] else x for name, x in inputs.items()}
            mask = explicit if chosen["explicit"] else None
            return layer(**inputs, attention_mask=mask, use_causal_mask=chosen["causal"])

        original, ours = built[3 if chosen["window"] else None]
        assert_same(call(original), call(ours), message=chosen, rows=allowed.any(-1))


@pytest.mark.parametrize(
    "shape", [(B, T, S), (1, T, S), (B, 1, S), (B, T, 1), (B, 2, T, S), (B, 1, T, S), (1, 1, T, S)]
)
@pytest.mark.parametrize("dtype", ["bool", "int32"])
def test_explicit_masks_broadcast_as_in_the_original(shape, dtype):
    original, ours, inputs = made("cross")
    mask = (np.random.default_rng(5).random(shape) < 0.7).astype(dtype)
    mask[..., 0] = 1
    for scores in (False, True):
        options = {"attention_mask": mask, "return_attention_scores": scores}
        assert_same(original(*inputs, **options), ours(*inputs, **options))


@pytest.mark.parametrize(
    ("name", "shape"),
    [
        ("rows of images", (B, 4, 5)),
        ("rows of images", (B, 3, 4, 5)),
        ("rows of images", (B, 3, 2, 4, 5)),
        ("columns of images", (B, 4, 3, 5)),
        ("all axes of images", (B, 3, 4, 2, 5)),
        ("all axes of images", (B, 2, 3, 4, 2, 5)),
        ("all axes of images", (B, 1, 3, 1, 1, 5)),
        ("two of three axes", (B, 2, 3, 4, 4, 3)),
        ("first and last axis", (B, 3, 2, 4, 5, 2)),
    ],
)
def test_explicit_masks_over_several_axes_are_the_originals(name, shape):
    original, ours, inputs = made(name)
    mask = np.random.default_rng(5).random(shape) < 0.7
    mask.reshape(-1)[:: shape[-1]] = True
    options = {"attention_mask": mask, "return_attention_scores": True}
    assert_same(original(*inputs, **options), ours(*inputs, **options))


def test_explicit_value_and_key_masks_are_the_originals():
    original, ours, inputs = made("own key")
    random = np.random.default_rng(2)
    masks = {name: random.random((B, S)) < 0.8 for name in ("value_mask", "key_mask")}
    for mask in masks.values():
        mask[:, 0] = True
    assert_same(original(*inputs, **masks), ours(*inputs, **masks))


@pytest.mark.parametrize("name", ["cross", "rows of images"])
def test_gradients_are_the_originals(name):
    original, ours, inputs = made(name)
    free = [keras.Input(x.shape[1:]) for x in inputs]
    for layer in (original, ours):
        model = keras.Model(free, layer(*free))
        model.compile(keras.optimizers.SGD(0.5), "mse")
        model.fit(inputs, np.ones(model.output.shape[1:], "float32")[None].repeat(B, 0), verbose=0)
    assert_same(original.get_weights(), ours.get_weights())


def test_dropout_with_the_same_seed_is_the_originals():
    shape = (B, T, 11)
    original, ours = pair(Original, MultiHeadAttention, shape, shape, num_heads=2, key_dim=3, dropout=0.4, seed=7)
    x = normal(*shape)
    assert_same(original(x, x, training=True), ours(x, x, training=True))
    assert_same(original(x, x, training=False), ours(x, x, training=False))


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
        assert type(getattr(ours, name)) is type(getattr(original, name)), name


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
    with pytest.raises(ValueError, match="must see to biases and soft caps itself"):
        layer(normal(B, T, 11), normal(B, T, 11))
    layer = sharpened(MultiHeadAttention)(2, 3)
    with pytest.raises(ValueError, match="must see to biases and soft caps itself"):
        layer(normal(B, T, 11), normal(B, T, 11), attention_bias=np.zeros((1, 2, T, T), "float32"))
