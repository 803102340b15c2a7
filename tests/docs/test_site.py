"""The site: it builds without a warning, every public name is on it, and it needs nothing from elsewhere."""

import importlib
import os
import pathlib
import re
import subprocess
import sys

import keras
import pytest

if keras.backend.backend() != "torch":
    pytest.skip("the site is the same on every backend: it is built in the process of PyTorch", allow_module_level=True)
pytest.importorskip("mkdocs")
pytest.importorskip("mkdocstrings")

ROOT = pathlib.Path(__file__).parents[2]
ROOMS = [path.stem for path in sorted((ROOT / "docs" / "api").glob("*.md"))]


@pytest.fixture(scope="module")
def site(tmp_path_factory):
    folder = tmp_path_factory.mktemp("site")
    command = [sys.executable, "-m", "mkdocs", "build", "--strict", "--quiet", "--site-dir", str(folder)]
    environment = {**os.environ, "NO_MKDOCS_2_WARNING": "1"}
    result = subprocess.run(command, cwd=ROOT, env=environment, capture_output=True, text=True)
    assert result.returncode == 0, result.stdout + result.stderr
    return folder


def test_every_room_has_a_page():
    rooms = {path.stem for path in (ROOT / "keras_tfm").iterdir() if path.is_dir() or path.stem == "testing"}
    assert set(ROOMS) == rooms - {"backend", "__pycache__"}


@pytest.mark.parametrize("room", ROOMS)
def test_every_public_name_is_on_its_page(site, room):
    module = importlib.import_module(f"keras_tfm.{room}")
    names = getattr(module, "__all__", [name for name in vars(module) if name.startswith("assert_")])
    page = (site / "api" / f"{room}.html").read_text(encoding="utf-8")
    assert [name for name in names if f'id="keras_tfm.{room}.{name}"' not in page] == []
    assert "doc-module" not in page, "a file of the same name took the place of a name"
    assert "&gt;&gt;&gt;" in page or '<span class="gp">' in page, "examples are shown"


def test_pages_load_nothing_from_elsewhere(site):
    loads = re.compile(
        r"<(?:script|img|iframe)[^>]+src=[\"']?(?:https?:)?//|<link[^>]+(?:stylesheet|icon|preconnect)[^>]+//"
    )
    pages = list(site.rglob("*.html"))
    assert len(pages) > 20
    assert [page.name for page in pages if loads.search(page.read_text(encoding="utf-8"))] == []


def test_the_search_works_from_a_folder(site):
    index = (site / "search" / "search_index.js").read_text(encoding="utf-8")
    assert index.startswith("var __index = {")
    assert "MultiHeadAttention" in index


def test_pictures_of_the_tutorial_are_small_and_shown():
    text = "".join(path.read_text(encoding="utf-8") for path in (ROOT / "docs").rglob("*.md"))
    pictures = list((ROOT / "docs" / "images" / "tutorial").iterdir())
    assert len(pictures) > 10
    assert [path.name for path in pictures if path.stat().st_size > 60 * 1024] == []
    assert [path.name for path in pictures if f"tutorial/{path.name})" not in text] == []
