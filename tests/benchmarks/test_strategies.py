"""The benchmark of strategies runs, on a text of a few words."""

import gzip

import numpy as np

from benchmarks import strategies


def test_a_tiny_run_gives_a_row_for_each_strategy(tmp_path, monkeypatch):
    folder = tmp_path / "tinyshakespeare"
    folder.mkdir()
    with gzip.open(folder / "input.txt.gz", "wt", encoding="utf-8") as file:
        file.write("to be or not to be, that is the question. " * 40)
    chosen = {name: strategies.CHARACTERS[name] for name in ("greedy", "sampling, top-p 0.9")}
    monkeypatch.setattr(strategies, "CHARACTERS", chosen)
    table = strategies.character_table(tmp_path, minutes=1e-6, num_texts=2, length=9)
    rows = [line.split("|")[1:] for line in table.splitlines()[2:]]
    assert [row[0].strip() for row in rows] == list(chosen)
    assert all(0 < float(row[1]) < np.inf for row in rows)


def test_what_occurred_before_is_counted():
    assert strategies.repeated_share("abcabc", order=2) == 1 - 3 / 5
    assert strategies.repeated_share("abcdef", order=2) == 0
