"""The schedule follows its equation, in every place where a rate is read."""

import keras
import numpy as np
import pytest

from keras_tfm.training.schedules import WarmupSchedule

STEPS = np.array([0, 1, 2, 17, 3998, 3999, 4000, 4001, 7919, 99_991, 999_999, 9_999_999, 10_000_000])
DECAYS = [
    {},
    {"hidden_dim": 128, "warmup_steps": 1, "scale": 2.0},
    {"peak_learning_rate": 3e-3, "warmup_steps": 700},
    {"decay": "cosine", "decay_steps": 100_000, "final_learning_rate": 1e-5},
    {"decay": "linear", "decay_steps": 9_000_000, "peak_learning_rate": 1.0},
]


def oracle(updates, hidden_dim=512, warmup_steps=4000, scale=1.0, peak_learning_rate=None, decay=None, **end):
    step = np.asarray(updates, "float64") + 1
    if peak_learning_rate is None and decay is None:
        return scale * hidden_dim**-0.5 * np.minimum(step**-0.5, step * warmup_steps**-1.5)
    peak = scale * (hidden_dim * warmup_steps) ** -0.5 if peak_learning_rate is None else scale * peak_learning_rate
    if decay is None:
        after = peak * np.sqrt(warmup_steps / step)
    else:
        left = 1 - np.clip((step - warmup_steps) / end["decay_steps"], 0, 1)
        left = left if decay == "linear" else (1 - np.cos(np.pi * left)) / 2
        final = end.get("final_learning_rate", 0.0)
        after = final + (peak - final) * left
    return np.where(step <= warmup_steps, peak * step / warmup_steps, after)


@pytest.mark.parametrize("arguments", DECAYS)
def test_rates_follow_the_equation_up_to_ten_million_steps(arguments):
    schedule = WarmupSchedule(**arguments)
    rates = [float(schedule(int(step))) for step in STEPS]
    np.testing.assert_allclose(rates, oracle(STEPS, **arguments), rtol=1e-6, atol=1e-9)


def test_rates_are_float32_under_any_policy():
    before = keras.config.floatx()
    keras.config.set_floatx("float16")
    try:
        rate = WarmupSchedule()(keras.ops.convert_to_tensor(9_999_999, "int32"))
    finally:
        keras.config.set_floatx(before)
    assert keras.backend.standardize_dtype(rate.dtype) == "float32"
    np.testing.assert_allclose(float(rate), oracle(9_999_999), rtol=1e-6)


def test_first_update_is_finite_and_above_zero():
    assert 0 < float(WarmupSchedule(warmup_steps=100_000)(0)) < 1e-6


def test_peak_is_reached_at_the_end_of_the_warm_up():
    for decay in ({}, {"decay": "cosine", "decay_steps": 9}, {"decay": "linear", "decay_steps": 9}):
        schedule = WarmupSchedule(warmup_steps=5, peak_learning_rate=0.25, **decay)
        rates = [float(schedule(updates)) for updates in range(8)]
        assert np.argmax(rates) == 4
        np.testing.assert_allclose(rates[4], 0.25, rtol=1e-6)


@pytest.mark.parametrize("arguments", DECAYS[:4])
def test_compiled_training_uses_the_rates_of_the_equation(arguments):
    """Plain gradient descent on `loss = w`, so that the weight falls by the sum of the rates."""
    inputs = keras.Input((1,))
    model = keras.Model(inputs, keras.layers.Dense(1, use_bias=False, kernel_initializer="zeros")(inputs))
    model.compile(keras.optimizers.SGD(WarmupSchedule(**arguments)), loss=lambda y_true, y_pred: y_pred)
    ones = np.ones((7, 1), "float32")
    model.fit(ones, ones, batch_size=1, verbose=0)
    weight = keras.ops.convert_to_numpy(model.weights[0])[0, 0]
    np.testing.assert_allclose(-weight, oracle(np.arange(7), **arguments).sum(), rtol=1e-5)


@pytest.mark.parametrize("arguments", DECAYS)
def test_configuration_makes_the_same_schedule(arguments):
    schedule = WarmupSchedule(**arguments)
    config = keras.saving.serialize_keras_object(schedule)
    again = keras.saving.deserialize_keras_object(config, safe_mode=True)
    assert type(again) is WarmupSchedule
    assert again.get_config() == schedule.get_config()


def test_schedule_survives_a_keras_file(tmp_path):
    inputs = keras.Input((3,))
    model = keras.Model(inputs, keras.layers.Dense(2)(inputs))
    model.compile(keras.optimizers.Adam(WarmupSchedule(64, 11, 0.5)), "mse")
    model.fit(np.ones((4, 3)), np.ones((4, 2)), verbose=0)
    model.save(tmp_path / "model.keras")
    again = keras.saving.load_model(tmp_path / "model.keras", safe_mode=True)
    np.testing.assert_allclose(float(again.optimizer.learning_rate), float(model.optimizer.learning_rate))
    np.testing.assert_allclose(float(again.optimizer.learning_rate), oracle(1, 64, 11, 0.5), rtol=1e-6)


@pytest.mark.parametrize(
    "arguments, message",
    [
        ({"hidden_dim": 0}, "`hidden_dim` must be a positive integer. Received: hidden_dim=0"),
        ({"warmup_steps": 0}, "`warmup_steps` must be a positive integer. Received: warmup_steps=0"),
        ({"warmup_steps": 2.5}, "`warmup_steps` must be a positive integer. Received: warmup_steps=2.5"),
        ({"scale": -1}, "`scale` must be a positive number. Received: scale=-1"),
        ({"peak_learning_rate": 0}, "`peak_learning_rate` must be a positive number"),
        ({"decay": "square"}, "`decay` must be one of inverse_sqrt, cosine, linear. Received: decay='square'"),
        ({"decay": "cosine"}, "`decay_steps` must be a positive integer. Received: decay_steps=None"),
        ({"decay_steps": 5}, "'inverse_sqrt' has no end"),
        ({"final_learning_rate": -1e-3}, "`final_learning_rate` must be a number of at least 0"),
    ],
)
def test_wrong_arguments_are_named(arguments, message):
    with pytest.raises(ValueError, match=message):
        WarmupSchedule(**arguments)
