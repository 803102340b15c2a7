import csv
import gzip

import numpy as np
import pytest
import translation
import translation_data
from translation import main

pytest.importorskip("matplotlib")
pytest.importorskip("sacrebleu")

TINY = (
    "--num-layers 1 --hidden-dim 16 --intermediate-dim 16 --num-heads 2 --num-widths 1 --max-length 8 "
    "--tokens-per-batch 1024 --save-every 2"
).split()
PHRASES = [*TINY, "--num-phrases", "200"]


@pytest.fixture
def no_decoding(monkeypatch):
    """Leaves out what costs most, where a test is about something else."""
    monkeypatch.setattr(translation, "translate", lambda model, tokenizers, lines, args: list(lines))
    monkeypatch.setattr(translation, "draw_attention", lambda *args: None)


def write_multi30k(folder, infix=""):
    folder.mkdir(parents=True, exist_ok=True)
    for part, count in (("train", 40), ("val", 6)):
        for language, words in (("en", "a dog runs"), ("de", "ein hund rennt")):
            with gzip.open(folder / f"{part}{infix}.{language}.gz", "wt", encoding="utf-8") as file:
                file.writelines(f"{words} {number} .\n" for number in range(count))


RUN = [*PHRASES, "--epochs", "2", "--dropout", "0.1"]


@pytest.fixture(scope="module")
def finished(tmp_path_factory):
    """The folder of a whole run."""
    folder = tmp_path_factory.mktemp("whole")
    main([*RUN, "--evaluate-every", "1", "--draw", "", "--output", str(folder)])
    return folder


def test_default_run_trains_scores_and_draws(finished):
    assert (finished / "attention.png").read_bytes().startswith(b"\x89PNG")
    with open(finished / "curve.csv", newline="", encoding="utf-8") as file:
        rows = list(csv.DictReader(file))
    assert set(rows[0]) == {"epoch", "updates", "minutes", "loss", "bleu", "exact"}
    assert [row["epoch"] for row in rows] == ["1", "2"]


def test_the_saved_model_translates_a_file_line_by_line(finished, tmp_path, capsys):
    (tmp_path / "lines.txt").write_text("half past two\n\nunheard words\n", encoding="utf-8")
    flags = ["--num-widths", "1", "--max-length", "8", "--model", str(finished)]
    main([*flags, "--translate", str(tmp_path / "lines.txt")])
    lines = capsys.readouterr().out.split("\n")
    assert len(lines) == 4 and lines[1] == ""


def test_an_interrupted_run_resumes_to_the_same_weights(finished, tmp_path, monkeypatch, no_decoding):
    class Stop(Exception):
        pass

    def stop(self, batch, logs=None):
        if batch == 3:
            raise Stop

    with monkeypatch.context() as patched:
        patched.setattr(translation.LearningCurve, "on_train_batch_end", stop)
        with pytest.raises(Stop):
            main([*RUN, "--output", str(tmp_path)])
    main(["--resume", "--output", str(tmp_path)])
    models = [translation.keras.saving.load_model(folder / "model.keras") for folder in (finished, tmp_path)]
    for one, other in zip(*(model.get_weights() for model in models), strict=True):
        np.testing.assert_array_equal(one, other)


def test_multi30k_is_read_from_the_folder_or_the_one_inside_it(tmp_path):
    write_multi30k(tmp_path)
    raw = translation_data.read_corpus(tmp_path, source="en", target="de")
    assert raw.train[3] == ("a dog runs 3 .", "ein hund rennt 3 .") and len(raw.held_out) == 6
    assert raw.bleu_tokenizer == "13a"
    write_multi30k(tmp_path / "multi30k", infix=".lc.norm.tok")
    assert translation_data.read_corpus(tmp_path, source="en", target="de").bleu_tokenizer == "none"


def test_a_corpus_is_cut_into_joint_pieces_and_trained_until_the_time_is_up(tmp_path, no_decoding):
    pytest.importorskip("tokenizers")
    write_multi30k(tmp_path)
    flags = ["--data", str(tmp_path), "--target", "de", "--vocabulary", "60", "--epochs", "50", "--max-minutes", "0"]
    main([*TINY, *flags, "--evaluate-every", "9", "--output", str(tmp_path / "run")])
    with open(tmp_path / "run" / "curve.csv", newline="", encoding="utf-8") as file:
        (row,) = csv.DictReader(file)
    assert row["updates"] == "1" and float(row["bleu"]) >= 0
    for tokenizer in translation_data.load_tokenizers(tmp_path / "run", pieces=60):
        assert tokenizer.decode(tokenizer.encode_batch(["ein hund"])[0]) == "ein hund"


def test_tab_separated_pairs_come_with_their_dev_file_or_are_split(tmp_path):
    rows = "".join(f"go {number}\t走{number}\tCC-BY\n" for number in range(30))
    (tmp_path / "cmn-eng.train.tsv").write_text(rows, encoding="utf-8")
    alone = translation_data.read_corpus(pairs=tmp_path / "cmn-eng.train.tsv")
    assert (len(alone.train), len(alone.held_out), alone.bleu_tokenizer) == (27, 3, "zh")
    (tmp_path / "cmn-eng.dev.tsv").write_text("Hi\t嗨\n", encoding="utf-8")
    assert translation_data.read_corpus(folder=tmp_path).held_out == [("Hi", "嗨")]


def test_download_fetches_what_is_missing_and_leaves_no_broken_file(tmp_path):
    server, folder = tmp_path / "server", tmp_path / "data"
    write_multi30k(server / "raw")
    (server / "tok").mkdir()
    for part in ("train", "val", "test_2016_flickr"):
        for language in ("en", "de"):
            (server / "tok" / f"{part}.lc.norm.tok.{language}").write_text("a\n", encoding="utf-8")
            if part == "test_2016_flickr":
                (server / "raw" / f"{part}.{language}.gz").write_bytes(gzip.compress(b"a\n"))
    translation_data.download_multi30k(folder, ("en", "de"), server.as_uri())
    assert len(list((folder / "multi30k").iterdir())) == 12
    assert len(translation_data.read_corpus(folder, source="en", target="de").train) == 1
    (folder / "multi30k" / "train.en.gz").unlink()
    (server / "raw" / "train.en.gz").write_bytes((server / "raw" / "train.en.gz").read_bytes()[:-9])
    with pytest.raises(SystemExit, match=r"train.en.gz could not be fetched: .*truncated"):
        translation_data.download_multi30k(folder, ("en", "de"), server.as_uri())
    assert len(list((folder / "multi30k").iterdir())) == 11
    with pytest.raises(SystemExit, match="could not be fetched"):
        translation_data.download_multi30k(tmp_path / "other", ("fr",), server.as_uri())


def test_score_counts_exact_translations():
    pairs = [("a", "三点二十分"), ("b", "两只猫")]
    scores = translation.score(["三点二十分", "两条猫"], pairs, "zh")
    assert scores["exact"] == 50 and 0 < scores["bleu"] < 100


def test_flags_that_do_not_fit_are_refused(tmp_path, capsys):
    with pytest.raises(SystemExit):
        main(["--download"])
    assert "--download needs --data" in capsys.readouterr().err
    with pytest.raises(ValueError, match="`position` must be"):
        main([*PHRASES, "--position", "here", "--output", str(tmp_path)])


def test_a_folder_without_a_model_is_named(tmp_path):
    with pytest.raises(SystemExit, match=r"settings.json does not exist: train a model first"):
        main(["--translate", "two", "--model", str(tmp_path)])


def test_words_and_characters_become_ids_and_back(tmp_path):
    tokenizer = translation_data.TokenList.train(["ninety-eight books, two cats"], "word")
    (ids,) = tokenizer.encode_batch(["two books"])
    assert tokenizer.decode(ids) == "two books" and tokenizer.pieces(ids) == ["two", "books"]
