"""Fills the figures into the templates of the pages."""

import json
import pathlib
import re

_HERE = pathlib.Path(__file__).parent
_DOCS = _HERE.parents[1]
FIGURES = _HERE / "figures.json"
PICTURES = _DOCS / "images" / "questions"
PAGES = {
    _HERE / "page.en.md": _DOCS / "questions.md",
    _HERE / "page.zh.md": _DOCS / "questions.zh.md",
}
_PLACE = re.compile(r"\{\{([\w.]+)(?::([^}]*))?\}\}")  # {{experiment.figure:format}}, {{experiment.list.0:format}}


def read_figures():
    """What was measured last: `{experiment: {figure: number or list}}`."""
    return json.loads(FIGURES.read_text(encoding="utf-8")) if FIGURES.exists() else {}


def write_figures(figures):
    """Keeps them, one experiment a line."""
    rows = [f"{json.dumps(name)}: {json.dumps(values)}" for name, values in figures.items()]
    FIGURES.write_text("{\n" + ",\n".join(rows) + "\n}\n", encoding="utf-8")


def render(template, figures):
    """The page: the template with every place filled; a KeyError where a figure is missing."""
    return _PLACE.sub(lambda place: format(_look_up(figures, place[1]), place[2] or ""), template)


def _look_up(figures, path):
    value = figures
    for part in path.split("."):
        value = value[int(part)] if isinstance(value, list) else value[part]
    return value
