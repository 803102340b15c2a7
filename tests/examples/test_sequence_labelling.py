import gzip

import pytest
import sequence_labelling
from sequence_labelling import main

from keras_tfm import text

pytest.importorskip("matplotlib")

TINY = ["--num-layers", "1", "--hidden-dim", "16", "--intermediate-dim", "16", "--num-heads", "2", "--epochs", "1"]


def test_default_run_trains_both_networks_and_the_model_labels_text(tmp_path, capsys):
    main([*TINY, "--num-sentences", "300", "--output", str(tmp_path)])
    printed = capsys.readouterr().out
    for part in ("ceiling of every function of one word", "one word at a time: accuracy", "self-attention: accuracy"):
        assert part in printed
    assert (tmp_path / "attention.png").read_bytes().startswith(b"\x89PNG")
    main(["--label", "we can can the fish .", "--output", str(tmp_path)])
    labelled = capsys.readouterr().out.split()
    assert [pair.split("/")[0] for pair in labelled] == "we can can the fish .".split()


def test_parts_of_speech_and_entities_are_read_from_the_folder_of_the_task(tmp_path, capsys):
    rows = "\n".join(f"{i}\t{w}\t_\t{t}" + "\t_" * 6 for i, (w, t) in enumerate([("I", "PRON"), ("saw", "VERB")], 1))
    (tmp_path / "ewt").mkdir()
    for part in ("train", "dev"):
        with gzip.open(tmp_path / "ewt" / f"en_ewt-ud-{part}.conllu.gz", "wt", encoding="utf-8") as file:
            file.write(f"# text = I saw\n{rows}\n\n" * 8)
    main([*TINY, "--data", str(tmp_path), "--task", "ewt", "--output", str(tmp_path / "ewt")])
    assert "self-attention: accuracy" in capsys.readouterr().out
    for name in ("wnut17train.conll", "emerging.dev.conll"):
        (tmp_path / name).write_text("Ada\tB-person\nLovelace\tI-person\nsmiles\tO\n\n" * 8, encoding="utf-8")
    main([*TINY, "--encoder", "conv", "--data", str(tmp_path), "--task", "wnut17", "--output", str(tmp_path / "wnut")])
    assert "conv: entity F1" in capsys.readouterr().out
    assert not (tmp_path / "wnut" / "attention.png").exists()


def test_a_score_counts_words_and_whole_entities():
    sentence = text.TaggedSentence(["Ada", "Lovelace", "smiles"], ["B-person", "I-person", "O"])
    scores = sequence_labelling.score([sentence], [["B-person", "O", "O"]])
    assert scores == {"accuracy": pytest.approx(100 * 2 / 3), "entity F1": 0.0}
    # Two entities of the truth, three predicted, of which one is right, and of a kind that the truth has not: 2 / 5.
    sentence = text.TaggedSentence(["Ada", "and", "Charles", "smile"], ["B-person", "O", "B-person", "O"])
    scores = sequence_labelling.score([sentence], [["B-person", "O", "B-place", "B-place"]])
    assert scores["entity F1"] == pytest.approx(40)


def test_a_label_that_training_has_not_is_refused_before_training(tmp_path):
    (tmp_path / "wnut17train.conll").write_text("Ada\tO\n\n", encoding="utf-8")
    (tmp_path / "emerging.dev.conll").write_text("Ada\tB-person\n\n", encoding="utf-8")
    with pytest.raises(ValueError, match="'B-person' does not occur in training"):
        main(["--data", str(tmp_path), "--task", "wnut17", "--output", str(tmp_path)])
