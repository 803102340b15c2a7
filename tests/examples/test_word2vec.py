import pytest
import word2vec
from word2vec import CLASSES, main, make_sentences

pytest.importorskip("matplotlib")
pytest.importorskip("tokenizers")

TINY = ["--embedding-dim", "8", "--epochs", "1", "--num-sentences", "150", "--tagger-epochs", "1"]


def test_default_run_prints_the_forms_of_a_word_and_starts_a_tagger(tmp_path, capsys):
    main([*TINY, "--output", str(tmp_path)])
    printed = capsys.readouterr().out
    for part in ("is id", "one-hot times the table minus row", "  dog: ", "of its class", "a tagger that starts with"):
        assert part in printed
    difference = next(line for line in printed.splitlines() if line.startswith("one-hot times the table"))
    assert float(difference.split(": ")[1]) == 0
    assert (tmp_path / "words.png").read_bytes().startswith(b"\x89PNG")
    assert (tmp_path / "model.keras").is_file() and (tmp_path / "vocabulary.json").is_file()


def test_any_text_is_read_in_small_letters_without_punctuation(tmp_path, capsys):
    path = tmp_path / "text.txt"
    path.write_text("The dog sees a cat.\n\nA cat, the dog!\nDON'T see\n", encoding="utf-8")
    assert word2vec.read_words(path) == [
        ["the", "dog", "sees", "a", "cat"],
        [],
        ["a", "cat", "the", "dog"],
        ["don't", "see"],
    ]


def test_a_text_without_repeated_words_is_refused_before_training(tmp_path):
    path = tmp_path / "text.txt"
    path.write_text("no word comes twice\n", encoding="utf-8")
    with pytest.raises(SystemExit, match="no word occurs 3 times"):
        main(["--data", str(path), "--output", str(tmp_path)])


def test_sentences_are_decided_by_the_seed_and_have_the_class_of_each_word():
    sentences = make_sentences(50, seed=1)
    assert sentences == make_sentences(50, seed=1) != make_sentences(50, seed=2)
    for words, classes in sentences:
        assert all(word in CLASSES[name].split() for word, name in zip(words, classes, strict=True))
