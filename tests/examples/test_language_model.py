import csv
import doctest
import math
from collections import Counter

import language_data
import language_model
import numpy as np
import pytest
from language_model import main

TINY = (
    "--num-layers 1 --hidden-dim 16 --intermediate-dim 16 --num-heads 2 --window 16 --batch-size 16 "
    "--num-sentences 60 --generate 12"
).split()


def test_a_run_is_measured_and_its_model_goes_on_with_a_text(tmp_path, capsys):
    with pytest.MonkeyPatch.context() as patched:
        patched.setattr(language_model, "write", lambda model, tokens, prompt, args: None)
        main([*TINY, "--epochs", "2", "--output", str(tmp_path)])
    printed = capsys.readouterr().out
    for part in ("perplexity", "bits per character", "by the grammar that drew the text"):
        assert part in printed
    with open(tmp_path / "curve.csv", newline="", encoding="utf-8") as file:
        assert [row["epoch"] for row in csv.DictReader(file)] == ["1", "2"]
    main(["--generate", "12", "--output", str(tmp_path), "--prompt", "they can", "--top-k", "5"])
    written = capsys.readouterr().out
    assert written.startswith("they can") and "<" not in written and len(written) == len("they can") + 12 + 1


def test_a_folder_of_files_is_one_text(tmp_path):
    for name in ("b.txt", "a.txt"):
        (tmp_path / name).write_text(f"größer als {name}\n", encoding="utf-8")
    assert language_data.read_text(tmp_path) == "größer als a.txt\ngrößer als b.txt\n"
    (tmp_path / "none").mkdir()
    with pytest.raises(SystemExit, match="the folder has no .txt or .txt.gz file"):
        language_data.read_text(tmp_path / "none")


@pytest.mark.parametrize("kind", ["char", "byte", "subword"])
def test_tokens_become_ids_and_back(kind, tmp_path):
    if kind == "subword":
        pytest.importorskip("tokenizers")
    text = language_data.draw_text(30)
    tokens = language_data.TOKENS[kind].learn(text, 60)
    tokens.save(tmp_path / "tokens.json")
    again = language_data.TOKENS[kind].load(tmp_path / "tokens.json")
    ids = tokens.encode(text)
    assert again.decode(ids) == text and max(ids) < again.vocabulary_size and not {*ids} & {*again.special_ids}


def test_windows_hold_every_token_once_and_the_targets_follow():
    windows = language_data.TextWindows(range(100), 8, 5, shuffle=False)
    batches = list(windows)
    targets = np.concatenate([targets for _, targets in batches])
    assert targets[targets >= 0].tolist() == list(range(1, 1 + windows.num_tokens))
    for ids, follows in batches:
        np.testing.assert_array_equal(np.where(follows >= 0, ids + 1, -1), follows)
    shuffled = language_data.TextWindows(range(100), 8, 5)
    first = [ids.tolist() for ids, _ in shuffled]
    shuffled.on_epoch_end()
    assert first != [ids.tolist() for ids, _ in shuffled]


def test_the_bits_of_the_grammar_are_those_of_its_sentences():
    """Against the frequencies of many drawn sentences: of the short ones, which come often."""
    drawn = Counter(language_data.draw_text(40_000, seed=5).splitlines())
    assert sum(p for _, p in language_data.rows_of_grammar()) == pytest.approx(1.0)
    for sentence, count in drawn.most_common(5):
        probability = 2 ** -(language_data.bits_of_grammar(sentence + "\n") * (len(sentence) + 1))
        assert count / 40_000 == pytest.approx(probability, abs=5 * math.sqrt(probability / 40_000))


def test_a_text_that_is_too_short_is_refused_before_training(tmp_path):
    (tmp_path / "short.txt").write_text("a b c\n" * 9, encoding="utf-8")
    with pytest.raises(SystemExit, match="the text must have two windows of 16 tokens at least; it has 6 tokens"):
        main([*TINY, "--data", str(tmp_path / "short.txt"), "--output", str(tmp_path / "run")])
    assert not (tmp_path / "run").exists()


def test_other_tokens_are_refused(capsys):
    with pytest.raises(SystemExit):
        main(["--tokens", "word"])
    assert "--tokens must be one of char, byte, subword" in capsys.readouterr().err


def test_the_example_of_the_data_is_right():
    assert doctest.testmod(language_data).failed == 0
