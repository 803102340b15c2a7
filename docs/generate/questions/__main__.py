"""Runs the experiments and writes `docs/questions.md`, `docs/questions.zh.md` and their pictures.

Run from the checkout, a few minutes on one core:

    python -m docs.generate.questions [name ...]

With names only those experiments run again; the figures of the others are read from `figures.json`. With `--pages`
none runs: pictures and pages are made from the figures that are there.
"""

import argparse
import importlib
import time

import keras

from docs.generate.questions import QUESTIONS
from docs.generate.questions.pages import PAGES, PICTURES, read_figures, render, write_figures


def main(argv=None):
    """Measures, draws and writes."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("names", nargs="*", help="experiments to run; all of them by default")
    parser.add_argument("--pages", action="store_true", help="run nothing, only draw and fill the pages")
    arguments = parser.parse_args(argv)
    unknown = sorted(set(arguments.names) - set(QUESTIONS))
    if unknown:
        parser.error(f"no such experiment: {', '.join(unknown)}; there are: {', '.join(QUESTIONS)}")
    figures = read_figures()
    for name in () if arguments.pages else arguments.names or QUESTIONS:
        figures[name] = run(name)
        figures["setting"] = {"backend": keras.backend.backend(), "keras": keras.__version__}
        write_figures({each: figures[each] for each in ("setting", *QUESTIONS) if each in figures})
    PICTURES.mkdir(parents=True, exist_ok=True)
    for name in arguments.names or QUESTIONS:
        _experiment(name).draw(figures[name], PICTURES / f"{name}.png")
    for template, page in PAGES.items():
        page.write_text(render(template.read_text(encoding="utf-8"), figures), encoding="utf-8")


def run(name):
    """Measures one and prints what it found."""
    start = time.perf_counter()
    figures = _experiment(name).measure()
    shown = {key: value for key, value in figures.items() if not isinstance(value, list)}
    print(f"{name}, {time.perf_counter() - start:.1f} s: {shown}", flush=True)
    return figures


def _experiment(name):
    return importlib.import_module(f"docs.generate.questions.{name}")


if __name__ == "__main__":
    main()
