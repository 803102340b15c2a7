"""The benchmark of decoding runs."""

import keras
import pytest

from benchmarks import decoding

TINY = decoding.Setting(31, 1, 16, 16, 2, batch_size=2, prompt_length=3, max_length=4, num_beams=2)


@pytest.mark.parametrize("strategy", ["greedy", "beam"])
def test_a_tiny_run_gives_a_row_for_each_contestant(strategy, monkeypatch):
    keras.utils.set_random_seed(0)
    ours = {name: make for name, make in decoding.CONTESTANTS.items() if name not in ("keras_hub",)}
    monkeypatch.setattr(decoding, "CONTESTANTS", ours)
    pytest.importorskip("transformers", reason="a peer of the benchmark")
    rows = [line for line in decoding.report(TINY, strategy, rounds=1).splitlines() if line.startswith("| ")]
    assert [row.split(" | ")[0].strip("| ") for row in rows[1:]] == list(ours)
