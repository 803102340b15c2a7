"""Writes `docs/features.md`: which feature runs on which backend, and by which kernel.

Run from the checkout, with the three backends installed:

    python -m docs.generate.features [folder]

Each backend runs in a process of its own. With a folder their results are kept there, and a backend that has results
there is not run again.
"""

import datetime
import json
import os
import pathlib
import subprocess
import sys
import tempfile

from docs.generate.feature_list import features

BACKENDS = ["jax", "tensorflow", "torch"]
PAGE = pathlib.Path(__file__).parents[1] / "features.md"
INTRODUCTION = """# What runs where

Written by `python -m docs.generate.features`, which runs every row on every backend; nothing is typed by hand.
{date}, {versions}; on a CPU, where a fused kernel may serve less than on an accelerator.

For a tick a feature has been built and called, saved to a `.keras` file and loaded with the same numbers, trained for
one batch by `model.fit` (compiled by XLA on JAX and TensorFlow; PyTorch runs eagerly), and held to what its row names:

- *oracle*: output and scores equal plain numpy in float64;
- *future*: another last token changes no earlier output;
- *scores*: asking for the scores changes no output;
- *cache*: decoding token by token equals the full pass;
- *padding*: NaN in padded places reaches no real token.

Beside the tick stands the kernel of `keras_tfm.ops.attention` that served a plain call in inference, if one did. These
are small examples; the laws are tried on random configurations in `tests/properties`.
"""


def run_backends(folder):
    """`{backend: results}`, each from a process of its own; results that lie in the folder are taken as they are."""
    found = {}
    for backend in BACKENDS:
        path = pathlib.Path(folder) / f"{backend}.json"
        if not path.exists():
            command = [sys.executable, "-m", "docs.generate.feature_checks", str(path)]
            subprocess.run(command, env={**os.environ, "KERAS_BACKEND": backend}, check=True)
        found[backend] = json.loads(path.read_text(encoding="utf-8"))
    return found


def render(found, date):
    """The page as text."""
    versions = {name: version for results in found.values() for name, version in results["versions"].items()}
    named = ", ".join(f"{name} {version}" for name, version in versions.items())
    rows, failures = [INTRODUCTION.format(date=date, versions=named)], []
    group = None
    for feature in features():
        if feature.group != group:
            group = feature.group
            rows += [f"\n## {group}\n", f"| feature | held to | {' | '.join(found)} |", "|---" * (2 + len(found)) + "|"]
        cells = [
            _cell(feature, backend, results["results"].get(feature.name), failures)
            for backend, results in found.items()
        ]
        rows.append(f"| `{_escape(feature.name)}` | {', '.join(feature.laws)} | {' | '.join(cells)} |")
    rows += ["\n## Failures\n", *(failures or ["None."])]
    passed = sum(result["error"] is None for results in found.values() for result in results["results"].values())
    rows.append(f"\n{passed} of {passed + len(failures)} passed.")
    return "\n".join(rows) + "\n"


def _cell(feature, backend, result, failures):
    result = result or {"error": "not run", "kernels": []}
    if result["error"] is None:
        return " ".join(["✓", *result["kernels"]])
    failures.append(f"{len(failures) + 1}. `{_escape(feature.name)}` on {backend}: {result['error']}")
    return f"**✗** ({len(failures)})"


def _escape(text):
    return text.replace("|", "\\|")


def main(folder=None):
    """Runs what has no results yet and writes the page."""
    with tempfile.TemporaryDirectory() as temporary:
        PAGE.write_text(render(run_backends(folder or temporary), datetime.date.today()), encoding="utf-8")


if __name__ == "__main__":
    main(*sys.argv[1:])
