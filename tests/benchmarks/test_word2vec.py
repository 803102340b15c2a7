"""The benchmark of Word2Vec runs, and its measures measure what they say."""

import gzip

import numpy as np
import pytest

from benchmarks import word2vec

SETTING = word2vec.Setting(embedding_dim=7, window=2, epochs=1, min_count=1, tokens_per_batch=512, probed=11)


def test_a_tiny_run_gives_a_row_for_each_contestant():
    pytest.importorskip("gensim")
    corpus = word2vec.number(word2vec.generate(60), SETTING.min_count)
    table = word2vec.contest_of(corpus, "skip_gram", SETTING, rounds=1)
    rows = [line.split(" | ")[0].strip("| ") for line in table.splitlines() if line.startswith("| ")]
    assert rows == ["contestant", "keras_tfm", "gensim", "gensim, other seed"]
    assert "nan" not in table


def test_corpora_have_ids_by_frequency_and_a_part_held_out(tmp_path):
    (tmp_path / "tinyshakespeare").mkdir()
    with gzip.open(tmp_path / "tinyshakespeare" / "input.txt.gz", "wt", encoding="utf-8") as file:
        file.write("To be, or not to be:\n\n" * 9 + "that is to be")
    corpus = word2vec.read_corpus(tmp_path, min_count=9)
    assert (len(corpus.train), len(corpus.held_out), corpus.vocabulary_size) == (9, 1, 5)
    assert corpus.train[0] == [1, 2, 3, 4, 1, 2] and corpus.held_out == [[1, 2]]


@pytest.mark.parametrize("architecture", ["skip_gram", "cbow"])
def test_the_loss_of_vectors_that_know_nothing_is_that_of_coins(architecture):
    corpus = word2vec.Corpus([[1, 2, 3, 4] * 9], [[1, 2, 3, 2]], 5)
    windows = word2vec.held_out_windows(corpus, SETTING)
    assert windows[1].tolist() == [[0, 0, 2, 3], [0, 1, 3, 2], [1, 2, 2, 0], [2, 3, 0, 0]]
    centers, contexts, negatives = windows
    skip_targets = [(row, target) for row in range(4) for target in contexts[row] if target]
    targets = skip_targets if architecture == "skip_gram" else list(enumerate(centers))
    coins = np.mean([1 + sum(word != target for word in negatives[row]) for row, target in targets])
    tables = np.zeros((5, 3)), np.ones((5, 3))
    assert word2vec.held_out_loss(tables, windows, architecture) == pytest.approx(coins * np.log(2))


def test_vectors_agree_with_themselves_turned_around():
    rng = np.random.default_rng(0)
    vectors, turn = rng.normal(size=(29, 5)), np.linalg.qr(rng.normal(size=(5, 5)))[0]
    assert word2vec.agreement((vectors,), (3 * vectors @ turn,), probed=13) == pytest.approx((1, 1))
    assert word2vec.agreement((vectors,), (rng.normal(size=(29, 5)),), probed=13)[0] < 0.7
