"""What is wrong with the data is said before training, with its line."""

import warnings

import numpy as np
import pytest

from keras_tfm.text import CorpusError, TaggedSentence, check_labels, check_parallel, check_token_ids

PAIRS = [("a b", "c d"), ("same", "same"), ("a b c", "d"), ("a", "b c d e"), ("a b", "c d"), ("same", "same")]


def test_clean_pairs_pass_untouched_and_in_silence():
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        report = check_parallel(PAIRS, max_length=4)
    assert report.pairs == PAIRS
    assert (report.count("empty"), report.count("too long")) == (0, 0)


def test_oddities_are_counted_with_their_first_lines():
    report = check_parallel(PAIRS)
    assert (report.count("identical"), report.count("duplicate")) == (2, 2)
    assert str(report) == "6 pairs, 6 kept\n  identical: 2 kept (lines 2, 6)\n  duplicate: 2 kept (lines 5, 6)"


def test_what_is_dropped_is_said_aloud():
    with pytest.warns(UserWarning, match=r"source and target: dropped 2 of 6 pairs: 2 too long \(lines 3, 4\)"):
        report = check_parallel(PAIRS, max_length=2)
    assert report.pairs == [PAIRS[0], PAIRS[1], PAIRS[4], PAIRS[5]]
    with pytest.warns(UserWarning, match=r"dropped 3 of 6 pairs: 2 identical \(lines 2, 6\); 2 duplicate \(lines 5, 6"):
        assert len(check_parallel(PAIRS, identical="drop", duplicate="drop").pairs) == 3


def test_more_than_five_lines_are_cut_short():
    report = check_parallel([("x", "x")] * 7)
    assert "identical: 7 kept (lines 1, 2, 3, 4, 5, ...)" in str(report)


@pytest.mark.parametrize(("pair", "place"), [(("", "b"), r"x\.en:2"), (("a", " \t"), r"x\.de:2")])
def test_an_empty_line_is_an_error_with_file_and_line(pair, place):
    with pytest.raises(CorpusError, match=f"^{place}: the line is empty$"):
        check_parallel([("a", "b"), pair], names=("x.en", "x.de"))


def test_an_empty_line_can_be_dropped():
    with pytest.warns(UserWarning, match=r"dropped 1 of 2 pairs: 1 empty \(line 2\)"):
        assert check_parallel([("a", "b"), ("", "b")], empty="drop").pairs == [("a", "b")]


def test_length_is_counted_as_asked():
    with pytest.raises(CorpusError, match="target:1: the sentence is longer than max_length=3: 4$"):
        check_parallel([("abc", "abcd")], max_length=3, length=len, too_long="error")


def test_nothing_left_is_an_error():
    with pytest.raises(CorpusError, match="dropped 1 of 1 pairs: .*; no pair is left"):
        check_parallel([("a b c", "d")], max_length=2)
    with pytest.raises(CorpusError, match="there are no pairs"):
        check_parallel([])


def test_an_unknown_action_is_refused():
    with pytest.raises(ValueError, match=r"`too_long` must be one of .* Received: too_long='cut'"):
        check_parallel(PAIRS, too_long="cut")


def test_a_label_unseen_in_training_is_named_with_its_sentence():
    train = [TaggedSentence(["a", "b"], ["O", "B-PER"])]
    other = [TaggedSentence(["a"], ["O"]), TaggedSentence(["c", "d"], ["O", "B-LOC"], line=7)]
    message = r"dev: sentence 2 \(it begins at line 7\), token 2: label 'B-LOC' does not occur in training.*B-PER, O"
    with pytest.raises(CorpusError, match=message):
        check_labels(train, other, name="dev")
    assert check_labels(train, other[:1]) == ["B-PER", "O"]
    assert check_labels([["x", "y"]], [["y"]]) == ["x", "y"]


@pytest.mark.parametrize("ids", [np.array([[4, 11], [0, 2]]), [[4, 11], [0, 2, 3]], [[-1, 4], []]])
def test_ids_outside_the_vocabulary_are_refused(ids):
    with pytest.raises(ValueError, match=r"`words` must be in \[0, vocabulary_size\). Received: words from .* to "):
        check_token_ids(ids, 11, name="words")


def test_ids_of_the_vocabulary_pass():
    check_token_ids(np.array([0, 10]), 11)
    check_token_ids([], 11)


def test_ids_must_be_whole():
    with pytest.raises(ValueError, match="`ids` must be whole numbers. Received: ids of dtype float64"):
        check_token_ids(np.array([0.5]), 11)
