"""The report counts real tokens, padding and shapes exactly, of whatever `fit` is given, and changes no batch."""

import keras
import numpy as np
import pytest

from keras_tfm.training.throughput_report import EpochThroughput, ThroughputReport
from keras_tfm.training.watched_batches import count_batch

LENGTHS = [(5, [5, 2, 1]), (7, [7, 3, 3]), (5, [4, 4, 4])]  # width, and the tokens of each row
TOKENS, PLACES = 33, 51


def made_batches():
    rng = np.random.default_rng(0)
    batches = []
    for width, lengths in LENGTHS:
        ids = np.zeros((len(lengths), width), "int32")
        for row, length in enumerate(lengths):
            ids[row, :length] = rng.integers(1, 9, length)
        batches.append((ids, ids))
    return batches


def made_model(jit_compile="auto"):
    model = keras.Sequential([keras.Input((None,), dtype="int32"), keras.layers.Embedding(9, 3), keras.layers.Dense(9)])
    loss = keras.losses.SparseCategoricalCrossentropy(from_logits=True)
    model.compile("sgd", loss, jit_compile=jit_compile)
    return model


class Indexed(keras.utils.PyDataset):
    def __init__(self, batches, **kwargs):
        super().__init__(**kwargs)
        self.batches = batches
        self.begun = 0

    def __getitem__(self, index):
        return self.batches[index]

    def __len__(self):
        return len(self.batches)

    def on_epoch_begin(self):
        self.begun += 1


class Sized:
    """As a `DataLoader`: a length, no indices, read again and again."""

    def __init__(self, batches):
        self.batches = batches

    def __iter__(self):
        return iter(self.batches)

    def __len__(self):
        return len(self.batches)


def forever(batches):
    while True:
        yield from batches


@pytest.mark.parametrize("kind", [Indexed, list, Sized, forever])
def test_tokens_and_padding_are_exact_in_each_epoch(kind):
    report = ThroughputReport(print_fn=None)
    steps = len(LENGTHS) if kind is forever else None
    watched = report.watch(kind(made_batches()))
    history = made_model().fit(watched, epochs=2, steps_per_epoch=steps, callbacks=[report], verbose=0, shuffle=False)
    assert [(row.tokens, row.places, row.num_shapes) for row in report.epochs] == [(TOKENS, PLACES, 2)] * 2
    np.testing.assert_allclose(history.history["padding_share"], [1 - TOKENS / PLACES] * 2)
    assert history.history["batch_shapes"] == [2, 2]
    assert min(history.history["tokens_per_second"]) > 0
    assert report.epochs[0].tokens_per_second == TOKENS / report.epochs[0].seconds


def test_epochs_of_some_steps_go_on_where_the_one_before_ended():
    report = ThroughputReport(print_fn=None)
    made_model().fit(report.watch(made_batches()), epochs=3, steps_per_epoch=1, callbacks=[report], verbose=0)
    assert [row.tokens for row in report.epochs] == [8, 13, 12]


def test_several_steps_an_execution_and_validation():
    report = ThroughputReport(print_fn=None)
    model = made_model()
    model.steps_per_execution = 1 if keras.backend.backend() == "torch" else 2  # torch has no other
    validation = Indexed(made_batches()[:1])
    model.fit(report.watch(Indexed(made_batches())), validation_data=validation, callbacks=[report], verbose=0)
    assert (report.epochs[0].tokens, report.epochs[0].places) == (TOKENS, PLACES)


def test_a_second_run_counts_anew():
    report, model = ThroughputReport(print_fn=None), made_model()
    watched = report.watch(Indexed(made_batches()))
    for _ in range(2):
        model.fit(watched, callbacks=[report], verbose=0)
        assert [row.tokens for row in report.epochs] == [TOKENS]


def test_batches_pass_unchanged():
    batches = made_batches()
    for kind in (Indexed, list, Sized, iter):
        watched = ThroughputReport().watch(kind(batches))
        assert all(one is other for one, other in zip(watched, batches, strict=True))


def test_a_dataset_keeps_what_it_has():
    dataset = Indexed(made_batches(), workers=3, max_queue_size=5)
    watched = ThroughputReport().watch(dataset)
    watched.on_epoch_begin()
    assert (watched.begun, watched.workers, watched.max_queue_size, len(watched), watched.num_batches) == (
        1,
        3,
        5,
        3,
        3,
    )


def test_a_line_an_epoch_with_advice(capsys):
    report = ThroughputReport()
    made_model().fit(report.watch(made_batches()), callbacks=[report], verbose=0)
    printed = capsys.readouterr().out
    assert "epoch 1: " in printed
    assert "35 % padding, batches of 2 shapes. Much padding: put sequences" in printed


@pytest.mark.parametrize("jit_compile, is_advised", [(True, True), (False, False)])
def test_many_shapes_are_remarked_on_where_each_is_compiled(jit_compile, is_advised):
    report = ThroughputReport(print_fn=None)
    report.set_model(made_model(jit_compile=False))  # nothing is run here: only what is said is of interest
    report.model.jit_compile = jit_compile
    full = [np.ones((2, width), "int32") for width in range(1, 10)]
    for _ in report.watch(full):
        pass
    report.on_train_begin()
    report._is_first = False  # the batches above were no peeks
    report.on_epoch_begin(0)
    for step in range(9):
        report.on_train_batch_begin(step)
    report.on_epoch_end(0)
    assert report.epochs[0].num_shapes == 9
    assert ("Each shape is compiled" in report.epochs[0].advice) == is_advised


def test_no_advice_without_need():
    assert str(EpochThroughput(600, 800, 0.5, 3, "")) == "1,200 tokens/s, 25 % padding, batches of 3 shapes."


def test_which_inputs_are_tokens():
    ids, mask = np.array([[3, 1, 0]]), np.array([[True, True, False]])
    packed = {"token_ids": ids, "segment_ids": ids, "positions": ids}
    assert count_batch((packed,), 0)[:2] == (2, 3)
    assert count_batch((packed,), 0, ["token_ids", "segment_ids"])[:2] == (4, 6)
    assert count_batch([ids, ids], 1)[:2] == (2, 3)  # inputs and labels
    assert count_batch({"features": np.ones((1, 3, 2), "float32"), "padding_mask": mask}, 0)[:2] == (2, 3)
    assert count_batch(((ids, ids[:, :2]), ids), 0) == (4, 5, ((1, 3), (1, 2), (1, 3)))


def test_errors_are_clear():
    ids = np.ones((2, 3), "int32")
    with pytest.raises(ValueError, match="sees the batches that come through its `watch`"):
        made_model().fit(Indexed(made_batches()), callbacks=[ThroughputReport()], verbose=0)
    for no_batches in (ids, (ids, ids), {"ids": ids}, 3):
        with pytest.raises(ValueError, match="`batches` must be batches one after another"):
            ThroughputReport().watch(no_batches)
    with pytest.raises(ValueError, match="must be read in this process"):
        ThroughputReport().watch(Indexed([], use_multiprocessing=True))
    with pytest.raises(ValueError, match=r"must name inputs of the batches, \['ids'\]"):
        next(ThroughputReport(inputs=["x"]).watch(iter([({"ids": ids},)])))
    with pytest.raises(ValueError, match="must name integer or boolean inputs"):
        count_batch({"x": np.ones((2, 3))}, 0, ["x"])
    with pytest.raises(ValueError, match=r"must have an integer or boolean input \[B, T\]"):
        count_batch(np.ones((2, 3)), 0)
    with pytest.raises(ValueError, match="`pad_id` must be an integer"):
        ThroughputReport(pad_id=0.5)
    with pytest.raises(ValueError, match="`inputs` must be a list of names"):
        ThroughputReport(inputs="token_ids")
