"""What the README says is run: its Python block, and the names of its tables."""

import pathlib
import re

import keras_tfm

README = (pathlib.Path(__file__).parents[1] / "README.md").read_text(encoding="utf-8")


def test_python_blocks_run(tmp_path, monkeypatch, capsys):
    monkeypatch.chdir(tmp_path)
    names = {}
    for block in re.findall(r"```python\n(.*?)```", README, flags=re.DOTALL):
        exec(compile(block, "README.md", "exec"), names)
    assert "mask of positional_embedding" in capsys.readouterr().out
    assert (tmp_path / "attention.html").read_text(encoding="utf-8").startswith("<!doctype html>")


def test_every_layer_is_in_the_table_and_nothing_else():
    table = README.split("| layer | is a superset of")[1].split("\n\n")[0]
    first_column = " ".join(row.split("|")[1] for row in table.splitlines()[2:])
    named = set(re.findall(r"`(\w+)`", first_column))
    assert named <= set(keras_tfm.layers.__all__)
    assert set(keras_tfm.layers.__all__) - named <= {"AttentionPosition", "DecoderCache", "Residual", "get"}


def test_pages_and_pictures_it_links_to_are_there():
    root = pathlib.Path(__file__).parents[1]
    links = re.findall(r"\]\(((?!https?:)[^)#]+)\)", README)
    assert links and all((root / link).exists() for link in links), links
