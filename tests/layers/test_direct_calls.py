"""Direct calls give what Keras' calls give, and Keras is asked wherever it would do something."""

import keras
import numpy as np
import pytest
from keras import ops

from keras_tfm.layers import Dropout, FeedForward, GatedFeedForward, MultiHeadAttention
from keras_tfm.layers.normalization import LayerNormalization, RMSNormalization
from keras_tfm.layers.token_dense import TokenDense, TokenEinsumDense
from tests.numerics import assert_close, mask_of, with_mask

IS_TORCH = keras.backend.backend() == "torch"
X = np.random.default_rng(0).normal(size=(2, 3, 5)).astype("float32")


def built(kind=TokenDense, **options):
    layer = kind(7, **options) if kind is TokenDense else kind("abc,cde->abde", output_shape=(None, 2, 7), **options)
    layer.build(X.shape)
    return layer


@pytest.fixture
def calls(monkeypatch):
    """The layers that were called by way of Keras."""
    made, keras_call = [], keras.layers.Layer.__call__

    def call(self, *args, **kwargs):
        made.append(self)
        return keras_call(self, *args, **kwargs)

    monkeypatch.setattr(keras.layers.Layer, "__call__", call)
    return made


@pytest.mark.parametrize("kind", [TokenDense, TokenEinsumDense])
def test_a_plain_call_on_pytorch_is_direct_and_the_same(kind, calls):
    layer, x = built(kind), ops.convert_to_tensor(X)
    received = layer(x)
    assert calls == ([] if IS_TORCH else [layer])
    assert_close(received, keras.layers.Layer.__call__(layer, x))


def with_lora(layer):
    layer.enable_lora(2)


def quantized(layer):
    layer.quantize("int8")


def hooked(layer):
    if IS_TORCH:
        layer.register_forward_hook(lambda *arguments: None)


@pytest.mark.parametrize("change", [with_lora, quantized, hooked])
def test_keras_calls_what_was_changed(change, calls):
    layer = built()
    change(layer)
    layer(ops.convert_to_tensor(X))
    assert calls[-1] is layer


def test_keras_calls_for_masks_numpy_other_precisions_and_the_first_time(calls):
    layer = built()
    mask = np.array([[True, True, False], [True, False, False]])
    np.testing.assert_array_equal(mask_of(layer(with_mask(ops.convert_to_tensor(X), mask))), mask)
    layer(X)
    layer(ops.cast(X, "float16"))
    built(dtype="mixed_bfloat16")(ops.convert_to_tensor(X))
    TokenDense(7)(ops.convert_to_tensor(X))
    built(activity_regularizer="l2")(ops.convert_to_tensor(X))
    assert len(calls) == 6


def test_a_layer_in_one_of_reduced_precision_keeps_its_own(calls):
    class Outer(keras.layers.Layer):
        def __init__(self, **kwargs):
            super().__init__(**kwargs)
            self.inner = built(dtype="float32")

        def call(self, x):
            return self.inner(ops.cast(x, "float32"))

    outer = Outer(dtype="mixed_bfloat16")
    received = outer(ops.convert_to_tensor(X))
    x = ops.cast(ops.cast(X, "bfloat16"), "float32")
    assert_close(received, ops.matmul(x, ops.convert_to_tensor(outer.inner.kernel)))


def test_a_wrong_width_is_named():
    with pytest.raises(ValueError, match="expected axis -1 of input shape to have value 5"):
        built()(ops.ones((2, 3, 4)))


def _arguments(layer):
    x = ops.convert_to_tensor(X)
    is_attention = isinstance(layer, keras.layers.MultiHeadAttention)
    mask = ops.convert_to_tensor([[True, True, False], [True, False, False]])
    return ((x, x), {"padding_mask": mask, "training": False}) if is_attention else ((x,), {})


PARTS = {
    "layer norm": lambda **options: LayerNormalization(**options),
    "RMS norm": lambda **options: RMSNormalization(**options),
    "dropout": lambda **options: Dropout(0.5, **options),
    "feed forward": lambda **options: FeedForward(7, **options),
    "gated": lambda **options: GatedFeedForward(7, **options),
    "attention": lambda **options: MultiHeadAttention(2, 4, **options),
}


@pytest.mark.parametrize("part", PARTS)
def test_the_parts_of_a_block_are_called_directly_on_pytorch(part, calls):
    layer = PARTS[part]()
    layer.build(*[X.shape] * (2 if part == "attention" else 1))
    inputs, options = _arguments(layer)
    options = {**options, **({"training": False} if layer.reads_training else {})}
    received = layer(*inputs, **options)
    assert (layer in calls) != IS_TORCH
    assert_close(received, keras.layers.Layer.__call__(layer, *inputs, **options))
    if part == "attention":
        assert_close(received, layer(query=inputs[0], value=inputs[1], **options))


@pytest.mark.parametrize("part", ["feed forward", "gated", "attention"])
def test_keras_is_asked_whether_the_layer_around_trains(part, calls):
    """Dropout is applied to what a layer around was told, as in all Keras layers."""

    class Outer(keras.layers.Layer):
        def __init__(self):
            super().__init__()
            self.inner = PARTS[part](dropout=0.5, seed=3)

        def call(self, x, training=None):
            return self.inner(*_arguments(self.inner)[0])

    outer = Outer()
    x = ops.convert_to_tensor(X)
    still, *trained = [ops.convert_to_numpy(outer(x, training=training)) for training in (False, True, True)]
    np.testing.assert_array_equal(still, ops.convert_to_numpy(outer(x, training=False)))
    assert all(np.any(each != still) for each in trained)


def test_keras_calls_attention_given_masks_of_keras_arrays_or_other_precisions(calls):
    layer = PARTS["attention"]()
    layer.build(X.shape, X.shape)
    (x, _), options = _arguments(layer)
    mask = np.array([[True, True, False], [True, False, False]])
    expected = ops.convert_to_numpy(layer(x, x, **options))
    calls.clear()
    masked = layer(x, with_mask(ops.convert_to_tensor(X), mask), training=False)
    np.testing.assert_allclose(ops.convert_to_numpy(masked), expected, rtol=1e-4, atol=1e-5)
    layer(x, X, training=False)
    layer(x, ops.cast(x, "bfloat16"), training=False)
    layer(x, x, attention_mask=np.ones((2, 3, 3), bool), training=False)
    assert [call for call in calls if call is layer] == [layer] * 4


@pytest.mark.skipif(not IS_TORCH, reason="elsewhere every call is Keras', which on JAX cannot trace `training`")
@pytest.mark.parametrize("part", ["attention", "feed forward", "layer norm"])
def test_keras_rematerializes_what_was_made_in_its_scope(part, calls):
    with keras.RematScope(mode="full"):
        layer = PARTS[part]()
        layer.build(*[X.shape] * (2 if part == "attention" else 1))
        inputs, options = _arguments(layer)
        layer(*inputs, **options, **({"training": False} if part == "feed forward" else {}))
    assert layer in calls


def test_a_layer_derived_without_that_weight_is_called_by_keras(calls):
    class Doubling(FeedForward):
        def build(self, input_shape):
            pass

        def call(self, inputs, training=None):
            return 2 * inputs

    layer = Doubling(3)
    layer.build(X.shape)
    np.testing.assert_allclose(ops.convert_to_numpy(layer(ops.convert_to_tensor(X), training=False)), 2 * X)
    assert layer in calls
