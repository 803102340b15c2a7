"""Every Python block of the documentation runs, a page's blocks in order and in one namespace.

A block that cannot run has a comment before it that says why: `<!-- not run: it needs the data of a user -->`. In
blocks with `>>>` the output is compared too.
"""

import doctest
import pathlib
import re
from typing import NamedTuple

import keras
import pytest

pytest.importorskip("matplotlib")

ROOT = pathlib.Path(__file__).parents[2]
# By `test_generated_pages` and `test_questions`; the README's by `test_readme`.
RUN_ELSEWHERE = {"peers.md", "questions.md", "questions.zh.md"}
# The others run in the process of PyTorch alone, which starts them soonest.
ON_EVERY_BACKEND = {"generation.md", "speed.md"}
PAGES = [*sorted((ROOT / "docs").glob("*.md")), *sorted((ROOT / "docs" / "guide").glob("*.md"))]
BLOCK = re.compile(
    r"(?:<!-- not run: (?P<reason>[^>]*\S) -->\n+)?^```(?:python|pycon|py)\n(?P<code>.*?)^```$", re.M | re.S
)
DOCTEST_OPTIONS = doctest.ELLIPSIS | doctest.NORMALIZE_WHITESPACE


class Block(NamedTuple):
    """Code of a page, the number of the line before it, and why it does not run, if it does not."""

    code: str
    line: int
    reason: str | None


def blocks_of(page):
    text = page.read_text(encoding="utf-8")
    return [Block(m["code"], text.count("\n", 0, m.start("code")), m["reason"]) for m in BLOCK.finditer(text)]


def run(block, name, namespace):
    if block.code.lstrip().startswith(">>>"):
        check_output(block, name, namespace)
        return
    exec(compile("\n" * block.line + block.code, name, "exec"), namespace)


def check_output(block, name, namespace):
    test = doctest.DocTestParser().get_doctest(block.code, namespace, name, name, block.line)
    test.globs = namespace  # not the copy that a test gets: what it defines stays
    report = []
    runner = doctest.DocTestRunner(optionflags=DOCTEST_OPTIONS, verbose=False)
    runner.run(test, out=report.append, clear_globs=False)
    assert runner.failures == 0, "".join(report)


def has_blocks(page):
    is_here = keras.backend.backend() == "torch" or page.name in ON_EVERY_BACKEND
    return is_here and page.name not in RUN_ELSEWHERE and any(block.reason is None for block in blocks_of(page))


@pytest.mark.parametrize("page", [pytest.param(p, id=p.name) for p in PAGES if has_blocks(p)])
def test_blocks_run(page, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    namespace = {"__name__": "__main__"}
    for block in blocks_of(page):
        if block.reason is None:
            run(block, str(page.relative_to(ROOT)), namespace)


def test_most_pages_have_code():
    assert sum(map(has_blocks, PAGES)) >= (12 if keras.backend.backend() == "torch" else len(ON_EVERY_BACKEND))


def test_wrong_code_and_wrong_output_are_found(tmp_path):
    page = tmp_path / "page.md"
    not_run = "<!-- not run: takes a day -->\n```python\n1 / 0\n```\n"
    page.write_text(f"```python\nx = 1\n```\n\n```python\n>>> x + 1\n3\n```\n\n{not_run}")
    first, second, third = blocks_of(page)
    assert (first.line, second.line, third.reason) == (1, 5, "takes a day")
    namespace = {}
    run(first, "page.md", namespace)
    with pytest.raises(AssertionError, match=r"Expected:\n +3\n +Got:\n +2"):
        run(second, "page.md", namespace)
    with pytest.raises(ZeroDivisionError):
        run(third, "page.md", namespace)
