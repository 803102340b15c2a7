import pytest
from seeing import main

pytest.importorskip("matplotlib")

TINY = ["--num-layers", "1", "--hidden-dim", "16", "--num-heads", "2", "--epochs", "1", "--num-sentences", "300"]
TINY += ["--num-widths", "1"]


def test_the_default_sentence_is_looked_into(tmp_path, capsys):
    main([*TINY, "--output", str(tmp_path)])
    printed = capsys.readouterr().out
    assert "integrated gradients sum to" in printed
    assert [line.split()[0] for line in printed.splitlines()[-7:-1]] == "we can can the fish .".split()
    for name in ("heads", "rollout", "saliency", "words"):
        assert (tmp_path / f"{name}.png").read_bytes().startswith(b"\x89PNG")


def test_a_word_that_training_has_not_or_a_place_outside_is_refused(tmp_path, capsys):
    with pytest.raises(SystemExit, match="do not occur in training: zebra"):
        main([*TINY, "--sentence", "the zebra .", "--output", str(tmp_path)])
    with pytest.raises(SystemExit):
        main(["--word", "6"])
    assert "--word must be in [0, 6)" in capsys.readouterr().err
