import warnings

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


def test_tf_keras_vis_says_the_same(tmp_path, capsys):
    pytest.importorskip("tf_keras_vis")
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # of what tf-keras-vis imports
        main([*TINY, "--tf-keras-vis", "--output", str(tmp_path)])
    (line,) = [line for line in capsys.readouterr().out.splitlines() if "tf-keras-vis is ours" in line]
    assert float(line.split()[-1]) < 1e-4


def test_a_word_that_training_has_not_or_a_place_outside_is_refused(tmp_path, capsys):
    with pytest.raises(SystemExit, match="do not occur in training: zebra"):
        main([*TINY, "--sentence", "the zebra .", "--output", str(tmp_path)])
    with pytest.raises(SystemExit):
        main(["--word", "6"])
    assert "--word must be in [0, 6)" in capsys.readouterr().err
