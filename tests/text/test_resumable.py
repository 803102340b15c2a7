"""A dataset resumes at any batch, by itself and inside `fit` on every backend."""

import keras
import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from keras_tfm.text import ResumableDataset, TranslationBatches

EPOCHS = 3


def make_batches(count=61, **options):
    rng = np.random.default_rng(1)
    sources = [rng.integers(3, 17, rng.integers(1, 12)).tolist() for _ in range(count)]
    return TranslationBatches(sources, [source[::-1] for source in sources], tokens_per_batch=48, **options)


def make_model():
    keras.utils.set_random_seed(3)
    source, target = (keras.Input((None,), dtype="int32", name=name) for name in ("source_ids", "target_ids"))
    embed = keras.layers.Embedding(17, 4)
    context = keras.layers.GlobalAveragePooling1D(keepdims=True)(embed(source))
    hidden = keras.layers.Add()([embed(target), context])
    model = keras.Model({"source_ids": source, "target_ids": target}, keras.layers.Dense(17)(hidden))
    loss = keras.losses.SparseCategoricalCrossentropy(from_logits=True, ignore_class=0)
    model.compile(keras.optimizers.SGD(0.5), loss)
    return model


class Recorder(keras.callbacks.Callback):
    """Counts the batches of every epoch; keeps the weights of one moment, and seeks when training begins."""

    def __init__(self, keep_at=None, seek_to=None):
        super().__init__()
        self.keep_at, self.seek_to, self.counts, self.weights = keep_at, seek_to, {}, None

    def on_train_begin(self, logs=None):
        if self.seek_to:
            dataset, *position = self.seek_to
            dataset.seek(*position)

    def on_epoch_begin(self, epoch, logs=None):
        self.epoch = epoch

    def on_train_batch_end(self, batch, logs=None):
        self.counts[self.epoch] = self.counts.get(self.epoch, 0) + 1
        if (self.epoch, self.counts[self.epoch]) == self.keep_at:
            self.weights = self.model.get_weights()


@pytest.fixture(scope="module")
def uninterrupted():
    """Weights after two batches of the second epoch, and at the end."""
    model, recorder = make_model(), Recorder(keep_at=(1, 2))
    batches = make_batches()
    model.fit(batches, epochs=EPOCHS, callbacks=[recorder], verbose=0)
    assert recorder.counts == dict.fromkeys(range(EPOCHS), len(batches))
    return recorder.weights, model.get_weights()


@pytest.mark.parametrize("moment", ["in on_train_begin", "before fit", "before fit with a fresh model"])
def test_fit_goes_on_exactly_where_it_was_interrupted(uninterrupted, moment):
    kept, final = uninterrupted
    batches, model = make_batches(), make_model()
    if moment == "before fit":
        model.fit(batches, verbose=0)  # everything is built, so that Keras does not peek
    model.set_weights(kept)
    recorder = Recorder(seek_to=(batches, 1, 2) if moment == "in on_train_begin" else None)
    if moment != "in on_train_begin":
        batches.seek(1, 2)
    model.fit(batches, initial_epoch=1, epochs=EPOCHS, callbacks=[recorder], verbose=0)
    assert recorder.counts == {1: len(batches) - 2, 2: len(batches)}
    for mine, expected in zip(model.get_weights(), final, strict=True):
        np.testing.assert_array_equal(mine, expected)


def test_fit_goes_on_with_the_last_batch_of_an_epoch():
    batches = make_batches()
    recorder = Recorder(seek_to=(batches, 4, len(batches) - 1))
    make_model().fit(batches, epochs=2, callbacks=[recorder], verbose=0)
    assert recorder.counts == {0: 1, 1: len(batches)}
    assert batches.epoch == 6


def test_each_epoch_of_fit_is_the_next_epoch_of_the_data():
    batches, model = make_batches(), make_model()
    model.fit(batches, epochs=2, verbose=0)
    assert batches.epoch == 2
    model.fit(batches, epochs=1, verbose=0)
    assert batches.epoch == 3


def test_validation_does_not_move_the_training_data():
    batches, model = make_batches(), make_model()
    model.fit(batches, validation_data=make_batches(23, shuffle=False), epochs=2, verbose=0)
    assert batches.epoch == 2


@pytest.mark.parametrize("width", [4, 8])
def test_fit_takes_every_shape_whatever_the_first_batches_are(width):
    """TensorFlow infers from the first two batches which lengths vary."""
    sources = [[5] * length for length in [3] * 20 + [width] * 2 + [4] * 20]
    batches = TranslationBatches(sources, [[6] * 3] * len(sources), tokens_per_batch=32, width_multiple=1)
    make_model().fit(batches, epochs=2, verbose=0)


@given(st.integers(1, 61), st.integers(0, 3), st.data())
def test_the_rest_of_an_epoch_is_the_tail_of_the_whole(count, epoch, data):
    def all_of(dataset):
        return [(inputs["source_ids"].tolist(), labels.tolist()) for inputs, labels in dataset]

    batches = make_batches(count)
    batches.seek(epoch)
    whole = all_of(batches)
    first = data.draw(st.integers(0, len(whole) - 1))
    batches = make_batches(count)
    batches.seek(epoch, first)
    assert (batches.epoch, batches.first_batch, len(batches)) == (epoch, first, len(whole))
    rest = all_of(batches)
    assert rest == whole[first:] and len(batches) == len(rest)
    batches.on_epoch_end()
    assert (batches.epoch, batches.first_batch, len(batches)) == (epoch + 1, 0, len(whole))
    following = make_batches(count)
    following.seek(epoch, len(whole))  # all batches are done
    assert all_of(batches) == all_of(following)


def test_an_epoch_that_was_not_read_to_its_end_is_not_over():
    batches = make_batches()
    batches.seek(2, 3)
    batches.on_epoch_end()
    batches.on_epoch_begin()
    batches[0]
    batches.on_epoch_end()
    assert (batches.epoch, batches.first_batch) == (2, 3)


def test_a_running_epoch_keeps_its_order_whatever_indices_are_asked_for():
    """`fit(shuffle=True)`, the default, asks for shuffled indices."""
    batches, planned = make_batches(), make_batches()
    batches.on_epoch_begin()
    shuffled = np.random.default_rng(0).permutation(len(batches))
    for index, (inputs, _) in zip(shuffled, planned, strict=True):
        np.testing.assert_array_equal(batches[index][0]["source_ids"], inputs["source_ids"])
    with pytest.raises(IndexError):
        batches[0]


def test_looking_at_a_batch_reads_none():
    batches, planned = make_batches(), make_batches()
    for index, (inputs, _) in enumerate(batches):
        looked_at, _ = batches.make_batch(batches.item(3))
        np.testing.assert_array_equal(looked_at["source_ids"], planned[3][0]["source_ids"])
        np.testing.assert_array_equal(inputs["source_ids"], planned[index][0]["source_ids"])


def test_there_are_no_batches_outside_an_epoch():
    batches = make_batches()
    for index in (-1, len(batches)):
        with pytest.raises(IndexError, match=rf"`index` must be in \[0, {len(batches)}\). Received: index={index}"):
            batches[index]


@pytest.mark.parametrize(("epoch", "batch"), [(-1, 0), (0, -1), (0, 1000)])
def test_there_is_no_seeking_outside_an_epoch(epoch, batch):
    with pytest.raises(ValueError, match=f"Received: epoch={epoch}, batch={batch}"):
        make_batches().seek(epoch, batch)


def test_a_subclass_needs_a_plan_and_batches():
    with pytest.raises(NotImplementedError):
        ResumableDataset()
    with pytest.raises(NotImplementedError):
        ResumableDataset.make_batch(None, 0)
