"""The benchmark of packing runs, and its contestants train on the same tokens."""

import numpy as np

from benchmarks import packing

TINY = packing.Setting(31, 1, 8, 8, 2, row_length=24, tokens_per_update=160)


def pairs(count=13):
    rng = np.random.default_rng(0)
    return [[rng.integers(3, 31, rng.integers(5, 8)).tolist() for _ in range(count)] for _ in range(2)]


def test_a_tiny_run_gives_a_row_for_each_contestant():
    table = packing.report(*pairs(), TINY, rounds=1)
    rows = [line.split(" | ")[0].strip("| ") for line in table.splitlines() if line.startswith("| ")]
    assert rows[1:] == ["random batches", "buckets", "packed rows"]
    assert "nan" not in table


def test_the_contestants_have_the_same_tokens():
    sources, targets = pairs()
    counts = {packing.count_tokens(batches)[0] for batches in packing.epochs(sources, targets, TINY).values()}
    assert counts == {sum(map(len, sources)) + sum(map(len, targets)) + len(targets)}


def test_frequent_words_have_ids_of_their_own():
    assert packing.word_ids(["a b a", "a b c"], vocabulary_size=6) == [[4, 5, 4], [4, 5, 3]]
