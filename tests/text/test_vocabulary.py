"""Vocabularies keep their promises: stable ids, unchangeable, whole on disk."""

import os
import string

import pytest
from hypothesis import given
from hypothesis import strategies as st

from keras_tfm.text import Vocabulary

WORDS = st.lists(st.text(string.ascii_letters + "äß語", min_size=1, max_size=5), unique=True, max_size=17)


def test_special_tokens_stand_at_the_ids_used_everywhere():
    words = Vocabulary(["dog"])
    assert (words.pad_id, words.start_id, words.end_id, words.unknown_id) == (0, 1, 2, 3)
    assert words.tokens == ("<pad>", "<start>", "<end>", "<unknown>", "dog")


@given(WORDS)
def test_known_tokens_survive_the_round_trip(tokens):
    words = Vocabulary(tokens)
    assert words.decode(words.encode(tokens)) == tokens
    assert len(words) == len(tokens) + 4


def test_unknown_tokens_become_unknown_or_an_error():
    assert Vocabulary("ab").encode("abc") == [4, 5, 3]
    labels = Vocabulary(["O", "B-PER"], specials=("<pad>",))
    assert labels.encode(["B-PER", "O"]) == [2, 1]
    with pytest.raises(ValueError, match="must be in the vocabulary, which has no unknown token. Received: 'B-LOC'"):
        labels.encode(["O", "B-LOC"])


def test_labels_can_do_without_special_tokens():
    labels = Vocabulary(["O", "B"], specials=())
    assert labels.decode([0, 1]) == ["O", "B"]
    assert (labels.pad_id, labels.start_id, labels.end_id, labels.unknown_id) == (None,) * 4


def test_the_most_frequent_tokens_are_kept_and_ties_go_by_alphabet():
    words = Vocabulary.from_counts({"b": 2, "a": 2, "c": 3, "rare": 1, "<pad>": 9}, min_count=2)
    assert words.tokens[4:] == ("c", "a", "b")
    assert Vocabulary.from_counts("ccabab", max_size=6).tokens[4:] == ("a", "b")
    with pytest.raises(ValueError, match="`max_size` must hold the 4 specials. Received: max_size=3"):
        Vocabulary.from_counts("abc", max_size=3)


def test_decoding_leaves_out_pad_start_and_end_but_shows_the_unknown():
    assert Vocabulary("ab").decode([1, 4, 3, 5, 2, 0, 0]) == ["a", "<unknown>", "b"]


@pytest.mark.parametrize("index", [-1, 6])
def test_ids_outside_cannot_be_decoded(index):
    with pytest.raises(ValueError, match=rf"`ids` must be in \[0, 6\). Received: {index}"):
        Vocabulary("ab").decode([4, index])


def test_a_vocabulary_cannot_be_changed():
    words = Vocabulary("ab")
    with pytest.raises(AttributeError, match="cannot be changed"):
        words.extra = 1
    assert "a" in words and "z" not in words
    assert words == Vocabulary("ab") and hash(words) == hash(Vocabulary("ab"))
    assert words != Vocabulary("ba") and words != "ab"


@pytest.mark.parametrize("tokens", [["a", "a"], ["<pad>"]])
def test_no_token_stands_twice(tokens):
    with pytest.raises(ValueError, match="must not hold a token twice"):
        Vocabulary(tokens)


def test_tokens_must_be_strings():
    with pytest.raises(ValueError, match="`tokens` must be strings. Received: 5 of type int"):
        Vocabulary([5])
    with pytest.raises(ValueError, match="`specials` are at most pad, start, end and unknown"):
        Vocabulary([], specials="abcde")


def test_saved_and_loaded_it_is_the_same(tmp_path):
    for words in (Vocabulary(["ü", "語", '"', "\n"]), Vocabulary(["O"], specials=("<pad>",))):
        words.save(tmp_path / "words.json")
        assert Vocabulary.load(tmp_path / "words.json") == words


def test_an_interrupted_save_leaves_the_old_file(tmp_path, monkeypatch):
    path = tmp_path / "words.json"
    Vocabulary("ab").save(path)

    def interrupt(*_):
        raise KeyboardInterrupt

    for call in ("fsync", "replace"):
        monkeypatch.setattr(os, call, interrupt)
        with pytest.raises(KeyboardInterrupt):
            Vocabulary("xyz").save(path)
        monkeypatch.undo()
    assert Vocabulary.load(path) == Vocabulary("ab")
    assert [entry.name for entry in tmp_path.iterdir()] == ["words.json"]


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ('{"kind": "keras_tfm.vocab', "words.json: damaged or truncated JSON"),
        ("[]", "must be a file of kind 'keras_tfm.vocabulary'. Received: kind=None"),
        ('{"kind": "other"}', "Received: kind='other'"),
        ('{"kind": "keras_tfm.vocabulary"}', "lacks its tokens or specials"),
    ],
)
def test_a_damaged_file_is_refused(tmp_path, text, message):
    path = tmp_path / "words.json"
    path.write_text(text)
    with pytest.raises(ValueError, match=message):
        Vocabulary.load(path)


def test_a_missing_or_binary_file_is_refused(tmp_path):
    with pytest.raises(ValueError, match=r"none.json: cannot be read: No such file"):
        Vocabulary.load(tmp_path / "none.json")
    (tmp_path / "binary.json").write_bytes(b"\xff\xfe\x00")
    with pytest.raises(ValueError, match=r"binary.json: "):
        Vocabulary.load(tmp_path / "binary.json")
