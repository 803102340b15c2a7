"""The profile counts operations, parameters and bytes exactly, names every kernel, and leaves the model as it was."""

import keras
import numpy as np
import pytest

from keras_tfm import layers, models
from keras_tfm.inspection.layer_flops import layer_flops
from keras_tfm.inspection.profile import matmul_peak, profile
from keras_tfm.ops.attention import use_kernel

B, T, N, H, F, BLOCKS = 2, 5, 2, 3, 11, 2
D = N * H


def made_encoder(**arguments):
    inputs = keras.Input((None, D))
    x = inputs
    for i in range(BLOCKS):
        x = layers.TransformerEncoder(F, N, name=f"block_{i}", **arguments)(x)
    return keras.Model(inputs, x)


def features(length=T):
    return np.random.default_rng(0).normal(size=(B, length, D)).astype("float32")


def wrapped(model):
    return [layer.name for layer in [model, *model._flatten_layers()] if {"call", "quantized_call"} & set(vars(layer))]


@pytest.fixture(scope="module")
def encoder():
    model = made_encoder()
    return model, profile(model, features(), repetitions=2, print_fn=None)


def test_operations_are_those_counted_by_hand(encoder):
    projections, core, dense, norms = (
        4 * 2 * B * T * D * D,
        4 * B * N * T * T * H,
        2 * 2 * B * T * D * F,
        2 * 7 * B * T * D,
    )
    _, report = encoder
    by_kind = {}
    for row in report.rows:
        by_kind.setdefault(row.kind, []).append(row.flops)
    assert by_kind["TokenEinsumDense"] == [projections // 4] * 4 * BLOCKS
    assert by_kind["attention"] == [core] * BLOCKS
    assert by_kind["TokenDense"] == [dense // 2] * 2 * BLOCKS
    assert by_kind["LayerNormalization"] == [norms // 2] * 2 * BLOCKS
    assert by_kind["TransformerEncoder"] == [None] * BLOCKS
    assert report.eager.flops == report.compiled.flops == BLOCKS * (projections + core + dense + norms)


def test_parameters_and_bytes_are_those_of_the_model(encoder):
    model, report = encoder
    assert sum(row.parameters for row in report.rows) == report.compiled.parameters == model.count_params()
    query = next(row for row in report.rows if row.layer.endswith("self_attention_layer/query"))
    assert (query.parameters, query.bytes) == (D * D + D, 4 * (D * D + D + B * T * D))
    assert report.rows[0].bytes == 0  # the model's outputs are those of its last layer


def test_the_times_add_up(encoder):
    _, report = encoder
    assert all(row.seconds >= 0 for row in report.rows)
    np.testing.assert_allclose(report.eager.seconds, sum(row.seconds for row in report.rows))
    assert report.compiled.seconds > 0
    for row in report.rows:
        if row.flops:
            np.testing.assert_allclose(row.roofline_share, row.flops / row.seconds / report.peak)
    assert report.peak == matmul_peak("float32") > 0


def test_every_attention_names_its_kernel(encoder):
    _, report = encoder
    cores = [row for row in report.rows if row.kind == "attention"]
    assert [row.layer for row in cores] == [f"block_{i}/self_attention_layer" for i in range(BLOCKS)]
    assert all(row.kernel for row in cores)
    assert all(row.kernel is None for row in report.rows if row.kind != "attention")
    printed = str(report)
    assert printed.count(cores[0].kernel) >= BLOCKS
    assert "not sliding_window: there is no sliding window" in printed
    assert "predict_on_batch" in printed


def test_a_model_of_tokens_and_padding(capsys):
    model = models.SequenceTagger(5, 1, D, F, N, vocabulary_size=30, name="tagger")
    report = profile(model, np.array([[4, 5, 6, 0], [7, 0, 0, 0]]), repetitions=1)
    assert capsys.readouterr().out.strip() == str(report).strip()
    assert sum(row.parameters for row in report.rows) == model.count_params()
    rows = {row.layer: row for row in report.rows}
    assert rows["token_embedding/token_embedding"].flops == 0
    assert rows["classes"].flops == 2 * 2 * 4 * D * 5
    assert "encoder/block_0/feedforward_layer_norm" in rows
    assert not any("dropout" in name for name in rows if name.startswith("encoder"))  # blocks predict without


def test_shared_blocks_count_their_parameters_once_and_their_operations_each_time():
    inputs = keras.Input((None, D))
    model = keras.Model(inputs, layers.TransformerEncoderStack(3, F, N, num_distinct_layers=1)(inputs))
    report = profile(model, features(), repetitions=1, print_fn=None)
    assert report.compiled.parameters == model.count_params()
    (core,) = [row for row in report.rows if row.kind == "attention"]
    assert (core.num_calls, core.flops) == (3, 3 * 4 * B * N * T * T * H)


def test_layers_that_are_not_called_keep_their_parameters():
    class Model(keras.Model):
        def __init__(self):
            super().__init__()
            self.used, self.idle = keras.layers.Dense(3), keras.layers.Dense(7, name="idle")
            self.idle.build((None, D))

        def call(self, x):
            return self.used(x)

    model = Model()
    report = profile(model, features(), repetitions=1, print_fn=None)
    assert sum(row.parameters for row in report.rows) == model.count_params()
    assert (report.rows[-1].kind, report.rows[-1].num_calls, report.rows[-1].seconds) == ("Dense", 0, None)


def test_calls_are_restored(encoder):
    model, _ = encoder
    assert wrapped(model) == []


def test_calls_are_restored_after_an_error():
    class Failing(keras.layers.Layer):
        calls_left = None

        def call(self, x):
            if self.calls_left == 0:
                raise RuntimeError("it fails")
            self.calls_left = None if self.calls_left is None else self.calls_left - 1
            return x

    inputs = keras.Input((None, D))
    failing = Failing()
    model = keras.Model(inputs, failing(layers.TransformerEncoder(F, N)(inputs)))
    failing.calls_left = 1  # the first call warms up, the next is timed
    with pytest.raises(RuntimeError, match="it fails"):
        profile(model, features(), print_fn=None)
    assert failing.calls_left == 0
    assert wrapped(model) == []
    failing.calls_left = None
    assert tuple(model(features()).shape) == (B, T, D)


def test_a_forced_kernel_is_named():
    with use_kernel("reference"):
        report = profile(made_encoder(), features(), repetitions=1, print_fn=None)
    assert {row.kernel for row in report.rows if row.kind == "attention"} == {"reference"}


def test_rules_of_single_layers():
    x = keras.ops.ones((2, 5, 6))
    for layer, per_output in [
        (keras.layers.EinsumDense("...x,xyz->...yz", output_shape=(4, 3)), 2 * 6),
        (keras.layers.EinsumDense("abc,bcd->ad", output_shape=7), 2 * 30),
        (keras.layers.Conv1D(4, 3), 2 * 3 * 6),
        (keras.layers.RMSNormalization(), 4),
    ]:
        outputs = layer(x)
        assert layer_flops(layer, [x], [outputs]) == per_output * np.prod(outputs.shape)
    assert layer_flops(keras.layers.Add(), [x, x, x], [x]) == 2 * 60
    assert layer_flops(keras.layers.Permute((2, 1)), [x], [x]) is None


def test_errors_are_clear(encoder):
    with pytest.raises(ValueError, match="`model` must be a `keras.Model`. Received: model="):
        profile(layers.FeedForward(F), features())
    with pytest.raises(ValueError, match="`repetitions` must be a positive integer. Received: repetitions=0"):
        profile(encoder[0], features(), repetitions=0)
