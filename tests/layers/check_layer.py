"""One harness for every layer: what a layer promises besides its own numbers.

`check_layer(make, inputs)` runs each of `CHECKS`; a failure says which. `make` takes the arguments that all layers take
(`dtype`, `name`) and returns a fresh layer; inputs are small numpy arrays.
"""

import ast
import inspect
import json
import pathlib
import tempfile
import textwrap
import warnings

import keras
import numpy as np

from tests.compat.pairs import quick_collection
from tests.layers.layer_case import LayerCase, dynamic_shape
from tests.layers.on_backend import compiled_call, weight_gradients
from tests.numerics import assert_close, mask_of, to_numpy, with_mask

QUANTIZED = (keras.layers.Dense, keras.layers.EinsumDense, keras.layers.Embedding)
POLICIES = ("float32", "mixed_bfloat16", "mixed_float16", "bfloat16")


def check_layer(make, inputs, *, skip=(), **others):
    """Runs every check.

    Args:
        make, inputs, **others: see `LayerCase`; a single array may stand for the inputs.
        skip: names of checks to leave out, without `check_`.
    """
    case = LayerCase(make, inputs if isinstance(inputs, tuple) else (inputs,), **others)
    for check in CHECKS:
        if check.__name__.removeprefix("check_") not in skip:
            try:
                check(case)
            except Exception as error:
                error.add_note(f"in {check.__name__} of tests/layers/check_layer.py")
                raise


def check_symbolic(case):
    """Symbolic outputs have the shapes and dtypes of eager ones, and unknown sizes are allowed."""
    received = case.call(case.built())
    for shape_of in (lambda x: x.shape, dynamic_shape):
        symbols = case.arguments(lambda x, shape_of=shape_of: keras.KerasTensor(shape_of(x), dtype=str(x.dtype)))
        specification = case.call(case.make(), symbols)
        assert len(specification) == len(received), "symbolic and eager calls differ in the number of outputs"
        for spec, output in zip(specification, received, strict=True):
            assert keras.backend.standardize_dtype(spec.dtype) == keras.backend.standardize_dtype(output.dtype)
            assert _fits(spec.shape, output.shape, shape_of is dynamic_shape), (
                f"symbolic shape {tuple(spec.shape)}, eager shape {tuple(output.shape)}"
            )


def check_config(case):
    """A layer out of the config is the same layer."""
    layer = case.built()
    text = json.dumps(keras.saving.serialize_keras_object(layer))
    copy = keras.saving.deserialize_keras_object(json.loads(text))
    assert json.dumps(copy.get_config(), default=str) == json.dumps(layer.get_config(), default=str)
    copy = type(layer).from_config(layer.get_config())
    case.call(copy)
    copy.set_weights(layer.get_weights())
    assert_close(case.call(copy), case.call(layer), message="after from_config")


def check_file(case):
    """A saved model, loaded in safe mode, gives the same numbers."""
    model, arrays = case.model(case.built())
    assert_close(_reloaded(model)(arrays), model(arrays), message="after load_model")


def check_policies(case):
    """Reduced precision is finite, near float32, and of the policy's dtypes."""
    layer = case.built()
    exact = case.call(layer)
    for policy in POLICIES:
        other = case.built(dtype=policy)
        other.set_weights(layer.get_weights())
        floats = [variable for variable in other.weights if _is_float(variable)]
        wrong = [v.path for v in floats if v.dtype != other.variable_dtype]
        assert not wrong, f"weights of another dtype under {policy}: {wrong}"
        for output, wanted, reference in zip(_quick(case, other), _dtypes(case, other, exact), exact, strict=True):
            dtype = keras.backend.standardize_dtype(output.dtype)
            assert dtype == wanted, f"an output of {dtype} instead of {wanted} under {policy}"
            assert np.isfinite(to_numpy(output)).all(), f"an output that is not finite under {policy}"
            if _is_float(output):
                assert_close(output, reference, other.compute_dtype, case.tolerance, f"under {policy}")


def check_compiled(case):
    """Compiled calls, graphs with unknown sizes and compiled training steps give the eager numbers."""
    layer = case.built()
    expected = case.call(layer)
    if case.dynamo or keras.backend.backend() != "torch":
        outputs = compiled_call(layer, *case.arguments(), case.options)
        assert_close(keras.tree.flatten(outputs), expected, message="compiled", factor=3)
    model, arrays = case.model(layer)
    model.compile(jit_compile=False)
    assert_close(keras.tree.flatten(model.predict_on_batch(arrays)), expected, message="predict", factor=3)
    can_train = case.trains and layer.trainable_weights and _is_float(expected[0])
    if keras.backend.backend() != "torch" and can_train:
        _check_training_step(case, layer, expected[0])


def _check_training_step(case, layer, output):
    model, arrays = case.model(layer, 0)
    target = np.random.default_rng(1).normal(size=output.shape).astype("float32")
    modes = [{"jit_compile": True}]
    if keras.backend.backend() == "tensorflow":
        modes.append({"run_eagerly": True})  # op by op, which JAX would compile one by one
    before, results = model.get_weights(), []
    for mode in modes:
        model.set_weights(before)
        model.compile(keras.optimizers.SGD(0.01), "mse", **mode)
        with warnings.catch_warnings():
            if case.zero_gradients:
                warnings.filterwarnings("ignore", "Gradients do not exist")  # TensorFlow's, declared by the case
            results.append([np.asarray(model.train_on_batch(arrays, target)), *model.get_weights()])
        assert all(np.isfinite(x).all() for x in results[-1]), f"a training step with {mode} is not finite"
        assert any((x != y).any() for x, y in zip(results[-1][1:], before, strict=True)), "a step that trains nothing"
    model.set_weights(before)
    if not _rates(layer):
        assert_close(results[-1], results[0], message="a training step with jit_compile", factor=3)


def check_gradients(case):
    """Every trainable weight gets a gradient that is finite and not zero."""
    layer = case.built()
    if not case.trains or not layer.trainable_weights or not any(_is_float(x) for x in case.call(layer)):
        return
    inputs, keywords = case.arguments()
    gradients = weight_gradients(layer, inputs, keywords, {**case.options, **_training(layer)})
    for variable, gradient in zip(layer.trainable_weights, gradients, strict=True):
        assert gradient is None or np.isfinite(gradient).all(), f"the gradient of {variable.path} is not finite"
    largest = max(np.abs(gradient).max() for gradient in gradients if gradient is not None)
    without = [
        variable.path
        for variable, gradient in zip(layer.trainable_weights, gradients, strict=True)
        if gradient is None or np.abs(gradient).max() <= 1e-6 * largest
    ]
    unexpected = [path for path in without if not any(part in path for part in case.zero_gradients)]
    assert not unexpected, f"weights without a gradient: {unexpected}"


def check_mask(case):
    """The implicit mask of the first input goes on, or ends as declared, and is not taken off the input."""
    inputs, keywords = case.arguments()
    first = keras.tree.flatten(inputs)[0]
    if case.passes_mask is None:
        return
    mask = np.arange(first.shape[0] * first.shape[1]).reshape(first.shape[:2]) % 5 != 3
    first = with_mask(first, mask)
    inputs = keras.tree.pack_sequence_as(inputs, [first, *keras.tree.flatten(inputs)[1:]])
    received = mask_of(case.call(case.built(), (inputs, keywords))[0])
    assert mask_of(first) is not None, "the mask was taken off the input"
    np.testing.assert_array_equal(mask_of(first), mask, "the mask of the input was changed")
    if not case.passes_mask:
        assert received is None, "the output carries a mask"
        return
    assert received is not None, "the mask did not reach the output"
    expected = mask if case.own_mask is None else np.logical_and(mask, case.own_mask)
    np.testing.assert_array_equal(received, expected, "the mask was changed on its way to the output")


def check_training(case):
    """With training=True outputs are finite, and dropout, where there is any, drops; without, nothing is drawn."""
    layer = case.built()
    first, second = case.call(layer), case.call(layer)
    assert_close(first, second, message="two calls without training")
    if not _training(layer):
        assert not _rates(layer), "a rate of dropout, and no `training`"
        return
    trained = case.call(layer, training=True)
    assert all(np.isfinite(to_numpy(x)).all() for x in trained), "an output in training is not finite"
    if _rates(layer):
        moved = any(np.abs(to_numpy(x) - to_numpy(y)).max() > 1e-3 for x, y in zip(trained, first, strict=True))
        assert moved, f"nothing is dropped with {_rates(layer)}"


def check_arguments(case):
    """Every argument is read, and every argument of the constructor is in the config."""
    layer = case.built()
    config = layer.get_config()
    missing = [name for name in _parameters(type(layer).__init__) if name not in {*config, *case.unused}]
    assert not missing, f"arguments that are not in the config: {missing}"
    for method in (type(layer).__init__, type(layer).call):
        unread = [name for name in _unread(method) if name not in case.unused]
        assert not unread, f"arguments that `{method.__name__}` does not read: {unread}"


def check_lora(case):
    """LoRA on every part that has it changes nothing at first, learns something, and survives a file."""
    layer = case.built()
    parts = [part for part in _parts(layer) if hasattr(part, "enable_lora")]
    if not parts:
        return
    model, arrays = case.model(layer)
    expected = keras.tree.flatten(model(arrays))
    for part in parts:
        part.enable_lora(2)
    assert_close(keras.tree.flatten(model(arrays)), expected, message="with a LoRA of zeros")
    rng = np.random.default_rng(3)
    for part in parts:
        for matrix in _lora_matrices(part):
            matrix.assign(0.3 * rng.normal(size=matrix.shape))
    adapted = keras.tree.flatten(model(arrays))
    moved = any(_is_float(x) and _relative_error(x, y) > 1e-4 for x, y in zip(adapted, expected, strict=True))
    assert moved, "LoRA changes no output"
    assert_close(keras.tree.flatten(_reloaded(model)(arrays)), adapted, message="LoRA in a file", factor=3)


def check_int8(case):
    """Quantized to int8 the outputs are near, and a file of it loads into a layer with the policies of its parts."""
    layer = case.built(name="layer")
    parts = [part for part in _parts(layer) if isinstance(part, QUANTIZED)]
    if not parts:
        return
    with warnings.catch_warnings(), quick_collection():
        warnings.filterwarnings("ignore", "Layer .* does not have a `quantize` method")
        warnings.filterwarnings("ignore", r"[\s\S]*The use of `x.T` on tensors")  # Keras' reversed embedding on PyTorch
        _check_int8_model(case, layer, parts)


def _check_int8_model(case, layer, parts):
    model, arrays = case.model(layer)
    expected = keras.tree.flatten(model(arrays))
    model.quantize("int8")
    assert {part.quantization_mode for part in parts} == {"int8"}, "a part was not quantized"
    received = keras.tree.flatten(model(arrays))
    for output, reference in zip(received, expected, strict=True):
        error = _relative_error(output, reference)
        assert error < case.int8_error, f"int8 moves an output by {error:.2f} of its size"
    policies = keras.dtype_policies.DTypePolicyMap(default_policy="float32")
    for part in parts:
        policies[part.path] = part.dtype_policy
    copy, _ = case.model(case.make(name="layer", dtype=policies))
    with tempfile.TemporaryDirectory() as folder:
        model.save_weights(f"{folder}/int8.weights.h5")
        copy.load_weights(f"{folder}/int8.weights.h5")
    assert_close(keras.tree.flatten(copy(arrays)), received, message="int8 in a file", factor=3)


CHECKS = (
    check_symbolic,
    check_config,
    check_file,
    check_policies,
    check_compiled,
    check_gradients,
    check_mask,
    check_training,
    check_arguments,
    check_lora,
    check_int8,
)


def _quick(case, layer):
    """The outputs; on JAX compiled at once, which takes a fraction of compiling op by op."""
    if keras.backend.backend() != "jax":
        return case.call(layer)
    return keras.tree.flatten(compiled_call(layer, *case.arguments(), case.options))


def _fits(symbolic, eager, may_be_unknown):
    return len(symbolic) == len(eager) and all(
        size == wanted or (size is None and may_be_unknown) for size, wanted in zip(symbolic, eager, strict=True)
    )


def _is_float(tensor):
    return "float" in keras.backend.standardize_dtype(tensor.dtype)


def _dtypes(case, layer, outputs):
    """The dtype that each output must have."""
    wanted = case.output_dtype
    wanted = wanted if isinstance(wanted, (list, tuple)) else [wanted] * len(outputs)
    return [
        (dtype or layer.compute_dtype) if _is_float(x) else keras.backend.standardize_dtype(x.dtype)
        for dtype, x in zip(wanted, outputs, strict=True)
    ]


def _training(layer):
    return {"training": True} if "training" in inspect.signature(layer.call).parameters else {}


def _rates(layer):
    config = layer.get_config()
    rates = {name: rate for name, rate in config.items() if "dropout" in name or name == "rate"}
    return {name: rate for name, rate in rates.items() if isinstance(rate, float) and rate > 0}


def _parts(layer):
    """The layer and all layers in it that have weights of their own and none below them."""
    return [part for part in layer._flatten_layers() if len(list(part._flatten_layers())) == 1 and part.built]


def _lora_matrices(part):
    return [weight for weight in part.trainable_weights if "lora" in weight.path and weight.path.endswith("_b")]


def _relative_error(received, reference):
    received, reference = to_numpy(received), to_numpy(reference)
    return np.linalg.norm(received - reference) / max(np.linalg.norm(reference), 1e-6)


def _reloaded(model):
    with tempfile.TemporaryDirectory() as folder:
        path = str(pathlib.Path(folder) / "model.keras")
        model.save(path)
        return keras.models.load_model(path)


def _parameters(function):
    kinds = (inspect.Parameter.VAR_POSITIONAL, inspect.Parameter.VAR_KEYWORD)
    parameters = inspect.signature(function).parameters.values()
    return [parameter.name for parameter in parameters if parameter.name != "self" and parameter.kind not in kinds]


def _unread(function):
    tree = ast.parse(textwrap.dedent(inspect.getsource(inspect.unwrap(function))))
    read = {node.id for node in ast.walk(tree) if isinstance(node, ast.Name) and isinstance(node.ctx, ast.Load)}
    return [name for name in _parameters(function) if name not in read]
