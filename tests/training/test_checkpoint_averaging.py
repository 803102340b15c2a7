"""The model gets the mean of the last snapshots, exactly, however they are kept and however the run was interrupted."""

import keras
import numpy as np
import pytest
from keras import ops

from keras_tfm.training import CheckpointAveraging, TrainingCheckpoint

NUM_BATCHES, EPOCHS = 3, 4


def make_model(policy=None, width=5):
    inputs = keras.Input((4,))
    x = keras.layers.Dense(width, dtype=policy)(inputs)
    x = keras.layers.Dropout(0.3, seed=7, dtype=policy)(x)
    x = keras.layers.BatchNormalization(dtype=policy)(x)
    model = keras.Model(inputs, keras.layers.Dense(1, dtype=policy)(x))
    model.compile(keras.optimizers.Adam(0.05), "mse")
    return model


def weights(model):
    return [np.array(ops.convert_to_numpy(ops.cast(weight.value, "float32"))) for weight in model.weights]


class Recorder(keras.callbacks.Callback):
    """Keeps the weights after every batch, and interrupts at the end of batch number `stop`."""

    def __init__(self, stop=None):
        super().__init__()
        self.weights, self.stop = [], stop

    def on_train_batch_end(self, batch, logs=None):
        self.weights.append(weights(self.model))
        if len(self.weights) == self.stop:
            raise KeyboardInterrupt


def fit(model, *callbacks, epochs=EPOCHS, **arguments):
    rng = np.random.default_rng(0)
    x, y = rng.normal(size=(2 * NUM_BATCHES, 4)), rng.normal(size=(2 * NUM_BATCHES, 1))
    return model.fit(x, y, batch_size=2, epochs=epochs, shuffle=False, verbose=0, callbacks=[*callbacks], **arguments)


def mean(snapshots):
    """Means in float64, rounded once."""
    return [
        np.mean(np.stack(values).astype("float64"), axis=0).astype("float32") for values in zip(*snapshots, strict=True)
    ]


def assert_weights(model, expected):
    for here, there in zip(weights(model), expected, strict=True):
        np.testing.assert_array_equal(here, there)


def folder(tmp_path, place):
    return tmp_path / "new" / "snapshots" if place == "directory" else None


@pytest.mark.parametrize("place, last", [("memory", 1), ("memory", 3), ("directory", 3), ("directory", 9)])
def test_model_ends_with_the_mean_of_the_last_epochs(tmp_path, place, last):
    model, recorder = make_model(), Recorder()
    averaging = CheckpointAveraging(last, directory=folder(tmp_path, place))
    fit(model, recorder, averaging)
    ends = recorder.weights[NUM_BATCHES - 1 :: NUM_BATCHES][-last:]
    assert averaging.steps == [NUM_BATCHES * (EPOCHS - len(ends) + 1 + index) for index in range(len(ends))]
    assert_weights(model, mean(ends))
    averaging.restore()
    assert_weights(model, recorder.weights[-1])
    averaging.apply()
    assert_weights(model, mean(ends))


@pytest.mark.parametrize("place", ["memory", "directory"])
def test_snapshots_every_so_many_batches_count_across_epochs(tmp_path, place):
    model, recorder = make_model(), Recorder()
    averaging = CheckpointAveraging(3, every=2, directory=folder(tmp_path, place), apply_at_end=False)
    fit(model, recorder, averaging, epochs=3)
    assert averaging.steps == [4, 6, 8]
    assert_weights(model, recorder.weights[-1])
    averaging.apply()
    assert_weights(model, mean([recorder.weights[step - 1] for step in (4, 6, 8)]))


def test_half_precision_weights_are_averaged_in_float64():
    model, recorder = make_model("bfloat16"), Recorder()
    fit(model, recorder, CheckpointAveraging(3))
    expected = mean(recorder.weights[NUM_BATCHES - 1 :: NUM_BATCHES][-3:])
    for here, there in zip(weights(model), expected, strict=True):
        np.testing.assert_array_equal(here, ops.convert_to_numpy(ops.cast(ops.cast(there, "bfloat16"), "float32")))


@pytest.mark.parametrize("stop", [4, 11])
def test_a_resumed_run_has_the_average_of_one_that_was_not(tmp_path, stop):
    def run(name, seed, stop=None):
        keras.utils.set_random_seed(seed)
        model, checkpoint = make_model(), TrainingCheckpoint(tmp_path / f"{name}.npz")
        averaging = CheckpointAveraging(4, every=2, directory=tmp_path / name)
        try:
            fit(model, averaging, checkpoint, Recorder(stop), initial_epoch=checkpoint.initial_epoch)
        except KeyboardInterrupt:
            pass
        return model, averaging.steps

    whole, whole_steps = run("whole", seed=0)
    run("parts", seed=0, stop=stop)
    resumed, steps = run("parts", seed=1)
    assert steps == whole_steps == [6, 8, 10, 12]
    assert_weights(resumed, weights(whole))
    assert [len(list((tmp_path / name).iterdir())) for name in ("whole", "parts")] == [4, 4]


def test_a_new_run_removes_the_snapshots_of_the_old_one_alone(tmp_path):
    (tmp_path / "notes.txt").write_text("mine")
    for _ in range(2):
        averaging = CheckpointAveraging(9, directory=tmp_path)
        fit(make_model(), averaging, epochs=2)
        assert averaging.steps == [3, 6]
    names = ["notes.txt", "snapshot-000000003.npz", "snapshot-000000006.npz"]
    assert sorted(path.name for path in tmp_path.iterdir()) == names


def test_a_damaged_snapshot_leaves_the_weights(tmp_path):
    model, recorder = make_model(), Recorder()
    averaging = CheckpointAveraging(2, directory=tmp_path, apply_at_end=False)
    fit(model, recorder, averaging)
    path = tmp_path / "snapshot-000000012.npz"
    content = path.read_bytes()
    path.write_bytes(content[:-100])
    with pytest.raises(ValueError, match=f"The file is damaged, or is no checkpoint: .* Received: path='{path}'"):
        averaging.apply()
    assert_weights(model, recorder.weights[-1])
    other = make_model(width=6)
    fit(other, CheckpointAveraging(1, directory=tmp_path / "other"), epochs=1)
    path.write_bytes((tmp_path / "other" / "snapshot-000000003.npz").read_bytes())
    with pytest.raises(ValueError, match=r"must be of this model.* Received: a shape of \(4, 6\)"):
        averaging.apply()
    assert_weights(model, recorder.weights[-1])


def test_wrong_calls_are_named():
    averaging = CheckpointAveraging()
    averaging.set_model(make_model())
    with pytest.raises(ValueError, match=r"`apply` needs a snapshot.* Received: steps=\[\], applied=False"):
        averaging.apply()
    with pytest.raises(ValueError, match="`restore` needs a call of `apply` before it"):
        averaging.restore()
    fit(make_model(), averaging, epochs=1)
    with pytest.raises(ValueError, match=r"`restore` between two calls. Received: steps=\[3\], applied=True"):
        averaging.apply()


@pytest.mark.parametrize(
    "arguments, message",
    [
        ({"last": 0}, "`last` must be a positive integer. Received: last=0"),
        ({"every": "batch"}, "`every` must be 'epoch' or a positive number of batches. Received: every='batch'"),
        ({"every": 0}, "Received: every=0"),
    ],
)
def test_wrong_arguments_are_named(arguments, message):
    with pytest.raises(ValueError, match=message):
        CheckpointAveraging(**arguments)
