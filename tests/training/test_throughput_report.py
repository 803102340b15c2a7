"""The report counts what `fit` trained on, no more and no less, whatever is read ahead."""

import keras
import numpy as np
import pytest

from keras_tfm.training.throughput_report import ThroughputReport
from keras_tfm.training.token_counts import PaddingShare, TokenCount

V = 7
# TensorFlow traces one step for all lengths, and a step that makes variables, as the first one does, twice.
TRACES = {"jax": 2, "tensorflow": 2, "torch": None}[keras.backend.backend()]


class Batches(keras.utils.PyDataset):
    """Four batches of two shapes, read ahead."""

    def __len__(self):
        return 4

    def __getitem__(self, index):
        ids = np.random.default_rng(index).integers(0, V, (3, 5 if index % 2 else 11))
        return ids, ids


def model_of(metrics, **options):
    model = keras.Sequential([keras.layers.Embedding(V, 2), keras.layers.Dense(V)])
    model.compile("sgd", keras.losses.SparseCategoricalCrossentropy(from_logits=True), metrics=metrics, **options)
    return model


TOKENS = sum(int((Batches()[i][1] != 0).sum()) for i in range(4))
PLACES = 3 * 2 * (5 + 11)


def test_an_epoch_counts_its_batches():
    lines = []
    report = ThroughputReport(lines.append)
    model = model_of([TokenCount(), PaddingShare()])
    history = model.fit(Batches(), epochs=2, validation_data=Batches(), callbacks=[report], verbose=0).history
    assert [epoch.tokens for epoch in report.epochs] == [TOKENS, TOKENS]
    np.testing.assert_allclose([epoch.padding_share for epoch in report.epochs], 1 - TOKENS / PLACES, rtol=1e-6)
    assert [epoch.num_traced for epoch in report.epochs] == [TRACES, TRACES and 0]
    assert history["tokens_per_second"] == [TOKENS / epoch.seconds for epoch in report.epochs]
    assert len(lines) == 2 and lines[1].startswith("\nepoch 2: ") and "% padding" in lines[1]


def test_validation_is_not_timed():
    class Slow(keras.callbacks.Callback):
        def on_test_batch_begin(self, batch, logs=None):
            keras.ops.convert_to_numpy(self.model.optimizer.iterations.value)
            seconds.append(report._seconds)

    seconds, report = [], ThroughputReport(None)
    model_of([TokenCount()]).fit(Batches(), validation_data=Batches(), callbacks=[report, Slow()], verbose=0)
    assert seconds == [report.epochs[0].seconds] * 4
    assert report.epochs[0].padding_share is None


def test_padding_and_many_shapes_are_advised_upon():
    class Ragged(keras.utils.PyDataset):
        def __len__(self):
            return 5

        def __getitem__(self, index):
            ids = np.zeros((2, 3 + index), "int32")
            ids[:, 0] = 1
            return ids, ids

    report = ThroughputReport(None)
    model_of([TokenCount(), PaddingShare()]).fit(Ragged(), callbacks=[report], verbose=0)
    assert "pack several into a row" in report.epochs[0].advice
    assert ("pad lengths to multiples" in report.epochs[0].advice) == (keras.backend.backend() == "jax")


def test_without_compiled_steps_none_are_counted():
    report = ThroughputReport(None)
    model_of([TokenCount()], run_eagerly=True).fit(Batches(), callbacks=[report], verbose=0)
    assert (report.epochs[0].tokens, report.epochs[0].num_traced) == (TOKENS, None)


@pytest.mark.parametrize("weights", [None, np.array([0.0, 2.0]), np.array([[0.0] * 3, [1.0, 1.0, 0.5]])])
def test_what_weighs_nothing_is_padding(weights):
    targets = np.array([[1, 2, -7], [3, -7, 5]])
    count, share = TokenCount(ignore_id=-7), PaddingShare(ignore_id=-7)
    for metric in (count, share):
        metric.update_state(targets, np.zeros((2, 3, V), "float32"), weights)
    expected = 4 if weights is None else 2
    assert float(count.result()) == expected
    assert float(share.result()) == pytest.approx(1 - expected / 6)


def test_configs_come_back():
    for metric in (TokenCount(3, name="a"), PaddingShare(-1, name="b")):
        copy = keras.metrics.deserialize(keras.metrics.serialize(metric))
        assert type(copy) is type(metric) and copy.get_config() == metric.get_config()


def test_errors():
    with pytest.raises(ValueError, match=r"needs the metric `keras_tfm.training.TokenCount`.*Received: metrics=\["):
        model_of(["accuracy"]).fit(Batches(), callbacks=[ThroughputReport()], verbose=0)
    with pytest.raises(ValueError, match="`ignore_id` must be an integer or None"):
        TokenCount(ignore_id="0")
