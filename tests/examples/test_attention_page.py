import keras
import pytest
from attention_page import main

from keras_tfm import models

TINY = "--num-phrases 40 --epochs 1 --hidden-dim 8 --num-layers 1 --num-heads 2".split()


def test_default_run_trains_and_writes_a_page_with_the_sentence(tmp_path, capsys, monkeypatch):
    monkeypatch.setattr(
        models.Seq2SeqTransformer, "translate", lambda self, lines, *args, **options: ["三点"] * len(lines)
    )
    main([*TINY, "--sentence", "at ten past two on Monday", "--output", str(tmp_path)])
    page = (tmp_path / "attention.html").read_text(encoding="utf-8")
    assert '"source":["at","ten","past","two","on","Monday"]' in page
    assert (tmp_path / "lines.svg").read_text(encoding="utf-8").startswith("<svg")
    assert (tmp_path / "heat_map.svg").read_text(encoding="utf-8").startswith("<svg")
    assert "open it in a browser" in capsys.readouterr().out


def test_a_folder_without_a_translator_is_named(tmp_path):
    keras.utils.clear_session()
    with pytest.raises(SystemExit, match="settings.json does not exist"):
        main(["--model", str(tmp_path)])
