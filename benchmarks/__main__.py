"""Runs the benchmarks on each backend that is installed, one after another, each in a process of its own.

    python -m benchmarks [--only dropout layer_call] [--backends jax torch] [--data DIR] [--write]

A benchmark is a file of this folder with a function `main`. One that needs a folder, of data or of a trained model, is
skipped unless the folder is there; `--data` defaults to `KERAS_TFM_DATA`.
"""

import argparse
import ast
import importlib.util
import os
import pathlib
import subprocess
import sys
import time

FOLDER = pathlib.Path(__file__).parent
BACKENDS = ("jax", "tensorflow", "torch")


def benchmarks(folder=FOLDER):
    """name: the syntax tree of each file that has a `main`."""
    trees = {path.stem: ast.parse(path.read_text()) for path in sorted(folder.glob("*.py")) if path.stem != "__main__"}
    return {name: tree for name, tree in trees.items() if any(_is_main(statement) for statement in tree.body)}


def _is_main(statement):
    return isinstance(statement, ast.FunctionDef) and statement.name == "main"


def folders(tree):
    """option: its default, or `None`, of each option that names a folder: `--data`, and what has the metavar DIR."""
    found = {}
    for call in ast.walk(tree):
        if not isinstance(call, ast.Call) or getattr(call.func, "attr", "") != "add_argument":
            continue
        values = {keyword.arg: getattr(keyword.value, "value", None) for keyword in call.keywords}
        option = getattr(call.args[0], "value", None)
        if option == "--data" or values.get("metavar") == "DIR":
            default = values.get("default")
            found[option] = default if isinstance(default, str) else None
    return found


def missing_folder(tree, data):
    """Why a benchmark cannot run, or `None`."""
    for option, default in folders(tree).items():
        folder = data if option == "--data" else default
        if folder is None or not pathlib.Path(folder).is_dir():
            return f"needs a folder, {option} DIR" + (f": there is no {folder}" if folder else "")
    return None


def command(name, tree, data, write):
    """What runs a benchmark."""
    options = ["--data", str(data)] if "--data" in folders(tree) else []
    return [sys.executable, "-m", f"benchmarks.{name}", *options, *["--write"] * write]


def run(name, tree, backend, data, write, call=subprocess.call):
    """Runs one benchmark on a backend, and says how it ended."""
    reason = missing_folder(tree, data)
    if reason:
        return f"skipped: {reason}"
    start = time.perf_counter()
    status = call(command(name, tree, data, write), env={**os.environ, "KERAS_BACKEND": backend}, cwd=FOLDER.parent)
    seconds = f"{time.perf_counter() - start:.0f} s"
    return f"ended, {seconds}" if status == 0 else f"failed with status {status}, {seconds}"


def run_all(chosen, backends, data, write, call=subprocess.call):
    """Runs all, with progress, and returns how each ended: `{(name, backend): words}`."""
    ends, total = {}, len(chosen) * len(backends)
    for backend in backends:
        for name, tree in chosen.items():
            print(f"[{len(ends) + 1}/{total}] {name} on {backend}", flush=True)
            ends[name, backend] = run(name, tree, backend, data, write, call)
            print(f"    {ends[name, backend]}", flush=True)
    return ends


def summary(ends):
    """A Markdown table of how each ended."""
    names, backends = (list(dict.fromkeys(key[place] for key in ends)) for place in (0, 1))
    lines = [f"| benchmark | {' | '.join(backends)} |", f"|---|{'---|' * len(backends)}"]
    lines += [f"| {name} | {' | '.join(ends[name, backend] for backend in backends)} |" for name in names]
    return "\n".join(lines)


def main(arguments=None, call=subprocess.call):
    """Runs what the command line asks for; the status is 1 if any failed."""
    known = benchmarks()
    installed = [backend for backend in BACKENDS if importlib.util.find_spec(backend)]
    parser = argparse.ArgumentParser(prog="python -m benchmarks", description=__doc__.splitlines()[0])
    parser.add_argument("--only", nargs="+", metavar="NAME", choices=list(known), default=list(known))
    parser.add_argument("--backends", nargs="+", choices=installed, default=installed)
    parser.add_argument("--data", default=os.environ.get("KERAS_TFM_DATA"), help="folder of the data sets")
    parser.add_argument("--write", action="store_true", help="append to benchmarks/results")
    arguments = parser.parse_args(arguments)
    chosen = {name: known[name] for name in arguments.only}
    data = arguments.data and pathlib.Path(arguments.data).resolve()
    ends = run_all(chosen, arguments.backends, data, arguments.write, call)
    print(f"\n{summary(ends)}")
    return int(any(end.startswith("failed") for end in ends.values()))


if __name__ == "__main__":
    sys.exit(main())
