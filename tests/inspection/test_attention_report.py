"""The report names every attention of a model, the kernel it ran on, and why no faster one did."""

import keras
import numpy as np

from keras_tfm import inspection, layers


def made():
    inputs, memory = keras.Input((None, 8), name="x"), keras.Input((None, 8), name="memory")
    decoder = layers.TransformerDecoderStack(2, 16, 4, num_key_value_heads=2, dropout=0.1, name="decoder")
    return keras.Model([inputs, memory], decoder(inputs, memory))


def test_every_attention_has_a_row():
    x, memory = np.zeros((1, 5, 8), "float32"), np.zeros((1, 7, 8), "float32")
    report = inspection.attention_report(made(), [x, memory], print_fn=None)
    assert [(row.query_length, row.key_length) for row in report.rows] == [(5, 5), (5, 7)] * 2
    assert {(row.num_heads, row.num_key_value_heads) for row in report.rows} == {(4, 2), (4, 4)} or {
        (row.num_heads, row.num_key_value_heads) for row in report.rows
    } == {(4, 2)}
    assert all(row.layer.startswith("decoder") for row in report.rows)


def test_it_says_why_not(capsys):
    x, memory = np.zeros((1, 5, 8), "float32"), np.zeros((1, 7, 8), "float32")
    report = inspection.attention_report(made(), [x, memory], training=True)
    printed = capsys.readouterr().out
    assert str(report).strip() == printed.strip()
    assert "sliding_window: there is no sliding window" in printed
    expected = "torch_dropout" if keras.backend.backend() == "torch" else "dense"
    assert {row.kernel for row in report.rows} == {expected}
    for row in report.rows:
        assert row.layer in printed
