"""The benchmark of predictions runs."""

from benchmarks import inference, steps

TINY = steps.Setting(1, 8, 12, 2, batch_size=2, length=5)


def test_a_tiny_run_gives_a_row_for_each_contestant(few_peers):
    tables = inference.report(TINY, [5], num_tokens=11, rounds=1)
    assert "prediction of 2 × 5 tokens" in tables
    assert "| keras_tfm |" in tables
