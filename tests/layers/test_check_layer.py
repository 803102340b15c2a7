"""The harness finds what it looks for: a sound layer passes, and no check passes a layer that breaks its promise."""

import keras
import numpy as np
import pytest
from keras import ops

from tests.layers import check_layer as harness
from tests.layers.check_layer import check_layer
from tests.layers.layer_case import LayerCase

X = np.random.default_rng(0).normal(size=(2, 5, 3)).astype("float32")


@keras.saving.register_keras_serializable(package="keras_tfm_tests")
class Sound(keras.layers.Layer):
    """A dense layer with dropout that keeps every promise; the broken ones change one thing each."""

    def __init_subclass__(cls, **kwargs):
        super().__init_subclass__(**kwargs)
        keras.saving.register_keras_serializable(package="keras_tfm_tests")(cls)

    def __init__(self, units=7, dropout=0.5, **kwargs):
        super().__init__(**kwargs)
        self.supports_masking = True
        self.units = units
        self.dropout = dropout

    def build(self, input_shape):
        self.dense = keras.layers.Dense(self.units, dtype=self.dtype_policy, name="dense")
        self.dense.build(input_shape)
        self.dropping = keras.layers.Dropout(self.dropout, dtype=self.dtype_policy, name="dropping")

    def call(self, inputs, training=None):
        return self.dropping(self.dense(inputs), training=training)

    def compute_output_shape(self, input_shape):
        return (*input_shape[:-1], self.units)

    def get_config(self):
        return {**super().get_config(), "units": self.units, "dropout": self.dropout}


class WrongShape(Sound):
    def compute_output_shape(self, input_shape):
        return (*input_shape[:-1], self.units + 1)


class WrongDtype(Sound):
    def compute_output_spec(self, inputs, training=None):
        return keras.KerasTensor((*inputs.shape[:-1], self.units), dtype="float16")


class WrongNumberOfOutputs(Sound):
    def call(self, inputs, training=None):
        output = super().call(inputs, training=training)
        return output, output


class NoUnknownSizes(Sound):
    def compute_output_shape(self, input_shape):
        return (input_shape[0], input_shape[1] + 0, self.units)


class ConfigWithAnotherValue(Sound):
    def get_config(self):
        return {**super().get_config(), "units": self.units + 1}


class NumbersOutsideOfWeights(Sound):
    def build(self, input_shape):
        super().build(input_shape)
        self.hidden = np.random.default_rng().normal()

    def call(self, inputs, training=None):
        return super().call(inputs, training=training) * self.hidden


class ForgetsItsWeights(Sound):
    def build(self, input_shape):
        super().build(input_shape)
        self.gain = self.add_weight(name="gain", shape=(), initializer="ones")

    def call(self, inputs, training=None):
        return super().call(inputs, training=training) * self.gain

    def load_own_variables(self, store):
        del store


class DenseOfItsOwnDtype(Sound):
    def build(self, input_shape):
        super().build(input_shape)
        self.dense = keras.layers.Dense(self.units, dtype="float32")
        self.dense.build(input_shape)

    def call(self, inputs, training=None):
        return self.dense(inputs)


class Overflows(Sound):
    def call(self, inputs, training=None):
        return super().call(inputs, training=training) * 1e4 * 1e4 * 1e-8


class LosesPrecision(Sound):
    def call(self, inputs, training=None):
        return (super().call(inputs, training=training) + 1e3) - 1e3


class WeightOfItsOwnDtype(Sound):
    def build(self, input_shape):
        super().build(input_shape)
        self.gain = self.add_weight(name="gain", shape=(), dtype="float32")

    def call(self, inputs, training=None):
        return super().call(inputs, training=training) * ops.cast(self.gain, self.compute_dtype)


class CountsItsCalls(Sound):
    calls = 0

    def call(self, inputs, training=None):
        self.calls += 1
        return super().call(inputs, training=training) * (1 + self.calls / 10)


class UnusedWeight(Sound):
    def build(self, input_shape):
        super().build(input_shape)
        self.gain = self.add_weight(name="gain", shape=())


class StoppedGradient(Sound):
    def build(self, input_shape):
        super().build(input_shape)
        self.gain = self.add_weight(name="gain", shape=(), initializer="ones")

    def call(self, inputs, training=None):
        return super().call(inputs, training=training) * ops.stop_gradient(self.gain.value)


class GradientThatIsNotFinite(Sound):
    def call(self, inputs, training=None):
        output = super().call(inputs, training=training)
        return ops.where(output > 0, output, ops.sqrt(output - output))


class DropsTheMask(Sound):
    def call(self, inputs, training=None):
        return super().call(inputs, training=training) * 1.0  # the parts would hand it on

    def compute_mask(self, inputs, previous_mask):
        return None


class ChangesTheMask(DropsTheMask):
    def compute_mask(self, inputs, previous_mask):
        return None if previous_mask is None else ops.logical_not(previous_mask)


class TakesTheMaskOff(Sound):
    def call(self, inputs, training=None):
        output = super().call(inputs, training=training)
        inputs._keras_mask = None
        return output


class NeverDrops(Sound):
    def call(self, inputs, training=None):
        return self.dense(inputs) if training is None else self.dense(inputs)


class AlwaysDrops(Sound):
    def call(self, inputs, training=None):
        return self.dropping(self.dense(inputs), training=True if training is None else True)


class NanInTraining(Sound):
    def call(self, inputs, training=None):
        output = super().call(inputs, training=training)
        return output * float("nan") if training else output


class ArgumentNotInConfig(Sound):
    def __init__(self, units=7, dropout=0.5, gain=1.0, **kwargs):
        super().__init__(units, dropout, **kwargs)
        self.gain = gain


class UnreadArgument(Sound):
    def call(self, inputs, padding_mask=None, training=None):
        return super().call(inputs, training=training)


class UnreadConstructorArgument(Sound):
    def __init__(self, units=7, dropout=0.5, gain=1.0, **kwargs):
        super().__init__(units, dropout, **kwargs)

    def get_config(self):
        return {**super().get_config(), "gain": 1.0}


class ReadsTheKernel(Sound):
    def call(self, inputs, training=None):
        kernel = ops.cast(self.dense._kernel, inputs.dtype)
        return self.dropping(ops.matmul(inputs, kernel) + self.dense.bias, training=training)


class NoPolicyForItsParts(Sound):
    def build(self, input_shape):
        super().build(input_shape)
        self.dense = keras.layers.Dense(self.units, dtype=self.compute_dtype, name="dense")
        self.dense.build(input_shape)


@pytest.mark.parametrize(
    ("check", "broken", "message"),
    [
        ("symbolic", WrongShape, "symbolic shape"),
        ("symbolic", WrongDtype, None),
        ("symbolic", WrongNumberOfOutputs, "number of outputs"),
        ("symbolic", NoUnknownSizes, None),
        ("config", ConfigWithAnotherValue, None),
        ("config", NumbersOutsideOfWeights, "after from_config"),
        ("file", ForgetsItsWeights, "after load_model"),
        ("policies", DenseOfItsOwnDtype, "instead of bfloat16 under mixed_bfloat16"),
        ("policies", WeightOfItsOwnDtype, "weights of another dtype under bfloat16"),
        ("policies", Overflows, "not finite under mixed_float16"),
        ("policies", LosesPrecision, "under mixed_bfloat16"),
        ("compiled", CountsItsCalls, None),
        ("gradients", UnusedWeight, "weights without a gradient.*gain"),
        ("gradients", StoppedGradient, "weights without a gradient.*gain"),
        ("gradients", GradientThatIsNotFinite, "is not finite"),
        ("mask", DropsTheMask, "did not reach the output"),
        ("mask", ChangesTheMask, "was changed on its way"),
        ("mask", TakesTheMaskOff, "taken off the input"),
        ("training", NeverDrops, "nothing is dropped"),
        ("training", AlwaysDrops, "two calls without training"),
        ("training", NanInTraining, "not finite"),
        ("arguments", ArgumentNotInConfig, "not in the config.*gain"),
        ("arguments", UnreadArgument, "`call` does not read.*padding_mask"),
        ("arguments", UnreadConstructorArgument, "`__init__` does not read.*gain"),
        ("lora", ReadsTheKernel, "LoRA changes no output"),
        ("int8", ReadsTheKernel, "int8 moves an output"),
        ("int8", NoPolicyForItsParts, None),
    ],
    ids=lambda value: getattr(value, "__name__", None),
)
def test_a_broken_promise_is_found(check, broken, message):
    with pytest.raises((AssertionError, ValueError, TypeError), match=message):
        getattr(harness, f"check_{check}")(LayerCase(broken, (X,)))


def test_every_check_is_broken_once():
    marks = test_a_broken_promise_is_found.pytestmark[0].args[1]
    assert {f"check_{check}" for check, *_ in marks} == {check.__name__ for check in harness.CHECKS}


def test_a_sound_layer_passes():
    check_layer(Sound, X, dynamo=True)


def test_a_declared_exception_passes_and_others_do_not():
    harness.check_gradients(LayerCase(UnusedWeight, (X,), zero_gradients=("gain",)))
    with pytest.raises(AssertionError, match="without a gradient"):
        harness.check_gradients(LayerCase(UnusedWeight, (X,), zero_gradients=("other",)))


def test_the_failing_check_is_named():
    with pytest.raises(AssertionError) as caught:
        check_layer(DropsTheMask, X, skip=("symbolic", "config", "file", "policies", "compiled", "gradients"))
    assert "check_mask" in caught.value.__notes__[0]


@pytest.mark.skipif(keras.backend.backend() == "torch", reason="PyTorch runs eagerly, Python that reads data included")
def test_python_that_reads_data_is_found():
    class ReadsData(Sound):
        def call(self, inputs, training=None):
            gain = 1.0 if float(ops.convert_to_numpy(ops.max(inputs))) > 0 else 2.0
            return super().call(inputs, training=training) * gain

    # Keras fails to pass JAX's error on: it makes a new one of the same class out of the message.
    with pytest.raises(Exception, match="Tracer|[Ss]ymbolic|numpy|_error_repr"):
        harness.check_compiled(LayerCase(ReadsData, (X,)))
