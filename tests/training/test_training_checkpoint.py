"""A run that was interrupted at any batch and resumed in a fresh model is the run that was not."""

import pathlib
import shutil

import keras
import numpy as np
import pytest
from keras import ops

from keras_tfm.text import ResumableDataset
from keras_tfm.training import Perplexity, TokenAccuracy, TokenCrossEntropy, TrainingCheckpoint, WarmupSchedule
from keras_tfm.training.array_file import read_description

VOCABULARY, NUM_BATCHES, EPOCHS = 11, 3, 2


class Words(ResumableDataset):
    """Three batches of random sequences, shuffled anew in every epoch."""

    def plan(self, rng):
        return list(rng.permutation(NUM_BATCHES))

    def make_batch(self, item):
        rng = np.random.default_rng(item)
        return rng.integers(1, VOCABULARY, (4, 5)), rng.integers(0, VOCABULARY, (4, 5))


def make_model(width=8, rate=None, policy=None, name=None, metrics=True):
    ids = keras.Input((None,), dtype="int32")
    x = keras.layers.Embedding(VOCABULARY, width, dtype=policy)(ids)
    x = keras.layers.Dropout(0.4, dtype=policy)(x)
    x = keras.layers.Dropout(0.4, seed=1, dtype=policy)(x)
    x = keras.layers.BatchNormalization(dtype=policy)(x)
    x = keras.layers.Dense(VOCABULARY, name=name, dtype=policy)(x)
    model = keras.Model(ids, x)
    optimizer = keras.optimizers.Adam(rate or WarmupSchedule(width, 4, scale=0.5))
    model.compile(optimizer, TokenCrossEntropy(0.1), metrics=[TokenAccuracy(), Perplexity()] if metrics else None)
    return model


class Recorder(keras.callbacks.Callback):
    """Keeps what every batch reports, and interrupts before the end of batch number `stop`."""

    def __init__(self, stop=None):
        super().__init__()
        self.batches, self.stop = [], stop

    def on_train_batch_end(self, batch, logs=None):
        if len(self.batches) == self.stop:
            raise KeyboardInterrupt
        self.batches.append({name: float(value) for name, value in logs.items()})


class Copier(keras.callbacks.Callback):
    """Keeps the checkpoint as it is after each number of batches, as an interruption would leave it."""

    def __init__(self, path):
        super().__init__()
        self.path, self.num_batches = pathlib.Path(path), 0

    def copy(self):
        shutil.copy(self.path, self.path.with_suffix(f".{self.num_batches}"))

    def on_train_batch_end(self, batch, logs=None):
        self.num_batches += 1
        if batch + 1 < NUM_BATCHES:
            self.copy()

    def on_epoch_end(self, epoch, logs=None):
        self.copy()


def train(path, stop=None, resume=True, save_every=1, epochs=EPOCHS, seed=0, validate=False, copy=False, **model):
    """Trains a fresh model; returns it with the reports of its batches and its history, `None` if interrupted."""
    keras.utils.set_random_seed(seed)  # every process begins with other weights; only the file makes them equal
    model, dataset, recorder = make_model(**model), Words(), Recorder(stop)
    checkpoint = TrainingCheckpoint(path, dataset, save_every=save_every, resume=resume)
    try:
        history = model.fit(
            dataset,
            epochs=epochs,
            initial_epoch=checkpoint.initial_epoch,
            callbacks=[recorder, checkpoint, *([Copier(path)] if copy else [])],
            validation_data=Words().make_batch(99) if validate else None,
            verbose=0,
        )
    except KeyboardInterrupt:
        history = None
    return model, recorder.batches, history


def values(model):
    variables = [*model.variables, *model.optimizer.variables]
    return [np.array(ops.convert_to_numpy(variable.value)) for variable in variables]


def assert_same_run(model, batches, history, whole):
    whole_model, whole_batches, whole_history = whole
    for here, there in zip(values(model), values(whole_model), strict=True):
        np.testing.assert_array_equal(here, there)
    assert batches == whole_batches[len(whole_batches) - len(batches) :]
    assert history.epoch == whole_history.epoch
    assert history.history == whole_history.history


@pytest.fixture(scope="module")
def path(tmp_path_factory):
    return tmp_path_factory.mktemp("whole") / "training.npz"


@pytest.fixture(scope="module")
def whole(path):
    return train(path, copy=True)


@pytest.fixture
def copy_of(path, whole, tmp_path):
    """The checkpoint after some batches, in a folder of its own."""

    def copy(num_batches):
        return shutil.copy(path.with_suffix(f".{num_batches}"), tmp_path / "training.npz")

    return copy


@pytest.mark.parametrize("num_batches", range(1, EPOCHS * NUM_BATCHES + 1))
def test_resuming_after_any_batch_changes_nothing(copy_of, whole, num_batches):
    resumed = train(copy_of(num_batches), seed=num_batches)
    assert len(resumed[1]) == EPOCHS * NUM_BATCHES - num_batches
    assert_same_run(*resumed, whole)


def test_several_interruptions_change_nothing(tmp_path, whole):
    path = tmp_path / "training.npz"
    assert train(path, stop=2)[2] is None
    assert train(path, stop=3, seed=1)[2] is None
    resumed = train(path, seed=2)
    assert len(resumed[1]) == 1
    assert_same_run(*resumed, whole)


def test_batches_since_the_last_checkpoint_are_trained_again(tmp_path, whole):
    path = tmp_path / "training.npz"
    train(path, stop=NUM_BATCHES + 2, save_every=2)
    assert read_description(path)["batch"] == 2
    train(path, stop=0, save_every=None)
    resumed = train(path, seed=7, save_every=None)
    assert len(resumed[1]) == NUM_BATCHES - 2
    assert_same_run(*resumed, whole)


def test_validated_epochs_resume_too(tmp_path):
    whole = train(tmp_path / "whole.npz", validate=True, copy=True)
    for num_batches in (1, NUM_BATCHES):
        resumed = train(tmp_path / f"whole.{num_batches}", seed=3, validate=True)
        assert "val_loss" in resumed[2].history
        assert_same_run(*resumed, whole)


@pytest.mark.parametrize("policy", ["mixed_float16", "bfloat16"])
def test_other_precisions_resume_exactly(tmp_path, policy):
    """With float16 the scale of the loss is part of the state; bfloat16 is no type of NumPy's."""
    whole = train(tmp_path / "whole.npz", policy=policy, copy=True)
    assert_same_run(*train(tmp_path / "whole.2", seed=4, policy=policy), whole)


def test_resume_false_starts_anew(copy_of, whole):
    again = train(copy_of(4), resume=False)
    assert len(again[1]) == EPOCHS * NUM_BATCHES
    assert_same_run(*again, whole)


def test_an_epoch_that_was_stopped_is_not_saved_as_done(tmp_path):
    path, dataset, model = tmp_path / "training.npz", Words(), make_model()
    stop = keras.callbacks.LambdaCallback(on_train_batch_end=lambda batch, logs: setattr(model, "stop_training", True))
    model.fit(dataset, epochs=2, callbacks=[stop, TrainingCheckpoint(path, dataset)], verbose=0)
    assert not path.exists()


def test_plain_arrays_resume_at_whole_epochs(tmp_path):
    ids, targets = Words().make_batch(0)

    def fit(path, seed, epochs):
        keras.utils.set_random_seed(seed)
        model, checkpoint = make_model(), TrainingCheckpoint(path)
        arguments = {"initial_epoch": checkpoint.initial_epoch, "batch_size": 2, "shuffle": False, "verbose": 0}
        return model, [], model.fit(ids, targets, epochs=epochs, callbacks=[checkpoint], **arguments)

    fit(tmp_path / "parts.npz", 1, epochs=1)
    assert_same_run(*fit(tmp_path / "parts.npz", 2, epochs=2), fit(tmp_path / "whole.npz", 1, epochs=2))


@pytest.mark.parametrize("fault", ["truncated", "damaged", "foreign"])
def test_bad_files_change_nothing(copy_of, fault):
    path = copy_of(2)
    content = path.read_bytes()
    middle = len(content) // 2
    path.write_bytes(
        {
            "truncated": content[:middle],
            # More bytes than a header between two arrays has, some of whose fields nobody reads.
            "damaged": content[:middle] + bytes(x ^ 1 for x in content[middle:][:400]) + content[middle + 400 :],
            "foreign": b"no checkpoint",
        }[fault]
    )
    assert_refused(make_model(), path, f"The file is damaged, or is no checkpoint: .* Received: path='{path}'")


def assert_refused(model, path, message, dataset=None, initial_epoch=0):
    before = [ops.convert_to_numpy(variable.value).copy() for variable in model.variables]
    dataset = Words() if dataset is None else dataset
    with pytest.raises(ValueError, match=message):
        model.fit(dataset, callbacks=[TrainingCheckpoint(path, dataset)], initial_epoch=initial_epoch, verbose=0)
    for variable, value in zip(model.variables, before, strict=True):
        np.testing.assert_array_equal(ops.convert_to_numpy(variable.value), value)


def test_files_of_other_models_are_refused_with_the_first_difference(copy_of):
    path = copy_of(2)
    assert_refused(
        make_model(width=9), path, r"first difference is model/0: .*embeddings \(11, 9\) float32 here, .* \(11, 8\)"
    )
    assert_refused(make_model(name="logits"), path, "logits/kernel .* here, .*dense.*/kernel .* in the file")
    assert_refused(make_model(policy="bfloat16"), path, r"model/0: .* bfloat16 here, .* float32 in the file")
    assert_refused(make_model(rate=0.1), path, r"optimizer/1: .*learning_rate \(\) float32 here")
    shallow = keras.Sequential([keras.Input((None,), dtype="int32"), keras.layers.Embedding(VOCABULARY, VOCABULARY)])
    shallow.compile("sgd", TokenCrossEntropy())
    assert_refused(shallow, path, "The checkpoint must be of a model with the same variables")
    assert_refused(make_model(metrics=False), path, r"metrics/2: nothing here, .*total \(\) float32 in the file")


def test_the_wrong_epoch_and_a_missing_dataset_are_refused(copy_of):
    ids, targets = Words().make_batch(0)
    with pytest.raises(ValueError, match="`dataset` is needed, because .* at batch 2"):
        make_model().fit(ids, targets, callbacks=[TrainingCheckpoint(copy_of(2))], verbose=0)
    path, dataset = copy_of(4), Words()
    with pytest.raises(ValueError, match="`initial_epoch=checkpoint.initial_epoch`. Received: initial_epoch=0"):
        make_model().fit(dataset, callbacks=[TrainingCheckpoint(path, dataset)], verbose=0)
    dataset = Words()
    with pytest.raises(ValueError, match="`dataset` must be what `fit` trains on"):
        make_model().fit(dataset, steps_per_epoch=2, callbacks=[TrainingCheckpoint(path, dataset)], verbose=0)


def test_another_backend_is_told(tmp_path, monkeypatch):
    path = tmp_path / "training.npz"
    with monkeypatch.context() as patch:
        patch.setattr("keras_tfm.training.training_checkpoint.keras.backend.backend", lambda: "numpy")
        checkpoint = TrainingCheckpoint(path, Words(), save_every=1)
        checkpoint.set_model(make_model())
        checkpoint.model.optimizer.build(checkpoint.model.trainable_variables)
        checkpoint._save(0, 0)
    with pytest.warns(UserWarning, match=r"training.npz was written on numpy: training goes on"):
        model, dataset = make_model(), Words()
        model.fit(dataset, callbacks=[TrainingCheckpoint(path, dataset)], verbose=0)


def test_a_failing_write_leaves_the_last_checkpoint(copy_of, monkeypatch):
    path = copy_of(2)
    before = path.read_bytes()

    def fail(*_, **__):
        raise OSError("disk full")

    monkeypatch.setattr("os.replace", fail)
    with pytest.raises(OSError, match="disk full"):
        train(path, seed=8)
    assert path.read_bytes() == before


@pytest.mark.parametrize(
    "arguments, message",
    [
        ({"dataset": [1, 2]}, r"`dataset` must have a method `seek\(epoch, batch\)`. Received: dataset=\[1, 2\]"),
        ({"save_every": 2}, "`save_every` must be None, or .* Received: save_every=2, dataset=None"),
        ({"save_every": 0, "dataset": Words()}, "Received: save_every=0"),
    ],
)
def test_wrong_arguments_are_named(tmp_path, arguments, message):
    with pytest.raises(ValueError, match=message):
        TrainingCheckpoint(tmp_path / "training.npz", **arguments)
