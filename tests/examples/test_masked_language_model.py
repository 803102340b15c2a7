import gzip

import masked_language_data as data
import masked_language_model
import numpy as np
import pytest
from masked_language_model import main

from keras_tfm import text

TINY = (
    "--num-layers 1 --hidden-dim 16 --intermediate-dim 16 --num-heads 2 --epochs 1 --task-epochs 1 "
    "--num-sentences 200 --num-labelled 20 --num-widths 1"
).split()


def test_the_default_run_pretrains_compares_and_fills_in(tmp_path, capsys, monkeypatch):
    learn = masked_language_model.learn_task
    with monkeypatch.context() as patched:  # each training compiles for seconds
        patched.setattr(masked_language_model, "learn_task", lambda *args: learn(*args) if args[-2] else 50.0)
        patched.delitem(masked_language_model.TASKS, "parts of speech")
        patched.setattr(masked_language_model, "fill", lambda *args: None)
        main([*TINY, "--masking", "span", "--output", str(tmp_path)])
    printed = capsys.readouterr().out
    for part in ("% right, span masking", "from scratch  pre-trained", "kind of sentence  "):
        assert part in printed
    main(["--fill", "we [MASK] the [MASK] .", "--output", str(tmp_path)])
    lines = capsys.readouterr().out.splitlines()
    assert lines[0] == "we [MASK] the [MASK] ." and len(lines) == 3
    shares = [float(pair.split()[1]) for pair in lines[1].strip().split("  ")]
    assert shares == sorted(shares, reverse=True) and 0 < sum(shares) < 1.03


class Untrained:
    """In place of a model, where a test is about something else."""

    def save(self, path):
        """Writes nothing."""

    def evaluate(self, batches, **options):
        inputs, targets = batches[0]
        assert inputs["mask_positions"].shape == targets.shape
        return {"token_accuracy": 0.5}


def test_any_text_is_cut_into_pieces_and_only_pretrained(tmp_path, capsys, monkeypatch):
    pytest.importorskip("tokenizers")
    monkeypatch.setattr(masked_language_model, "pretrain", lambda *args: Untrained())
    monkeypatch.setattr(masked_language_model, "fill", lambda model, pieces, lines: print(len(lines)))
    (tmp_path / "lines.txt").write_text("lower goes the newest lamp\n\nnewer and newer\n" * 30, encoding="utf-8")
    flags = ["--data", str(tmp_path / "lines.txt"), "--vocabulary", "40", "--masking", "whole-word"]
    main([*TINY, *flags, "--output", str(tmp_path / "run")])
    printed = capsys.readouterr().out
    assert "54 sentences to train on, 6 held out, 41 ids" in printed
    assert "50.00 % right, whole-word masking" in printed and "labelled" not in printed


def test_a_treebank_has_labels(tmp_path):
    rows = "1\tSee\t_\tVERB" + "\t_" * 6 + "\n2\tit\t_\tPRON" + "\t_" * 6 + "\n"
    with gzip.open(tmp_path / "a.conllu.gz", "wt", encoding="utf-8") as file:
        file.write(f"# text = See it\n{rows}\n" * 2)
    sentences = data.read_sentences(tmp_path / "a.conllu.gz", 0, 0)
    assert [sentence.tags for sentence in sentences] == [["VERB", "PRON"]] * 2
    assert data.kind_of(sentences[0]) == "command"


def test_pieces_know_their_words_and_carry_their_labels(tmp_path):
    pytest.importorskip("tokenizers")
    sentences = [text.TaggedSentence(["lower", "newest", "?"], ["ADJ", "ADJ", "PUNCT"])] * 9
    pieces = data.Pieces.learn([sentence.tokens for sentence in sentences], 22)
    pieces.save(tmp_path / "pieces.json")
    ids, words = data.Pieces.load(tmp_path / "pieces.json", 22).encode(["lower", "[MASK]", "?"])
    assert ids.count(pieces.mask_id) == 1 and words[ids.index(pieces.mask_id)] == 1 and pieces.name(ids[-1]) == "▁?"
    labels = text.Vocabulary(["ADJ", "PUNCT"], specials=("<pad>",))
    (inputs, tags) = data.tagging_batches(sentences, pieces, labels, shuffle=False)[0]
    np.testing.assert_array_equal(tags > 0, inputs["token_ids"] > 0)
    inputs, kinds, _ = data.kind_batches(sentences, pieces, labels, shuffle=False)[0]
    assert kinds[0] == data.KINDS.index("question") and pieces.encode(["?"])[0][0] not in inputs["token_ids"]


def test_too_few_sentences_are_refused(tmp_path):
    (tmp_path / "a.txt").write_text("one line\n", encoding="utf-8")
    with pytest.raises(SystemExit, match="there must be ten sentences at least; there are 1"):
        main(["--data", str(tmp_path / "a.txt"), "--output", str(tmp_path / "run")])
