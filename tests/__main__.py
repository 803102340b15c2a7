"""Runs ruff, then the tests on each backend in a process of its own: `python -m tests [jax] [tensorflow] [torch]`.

What follows `--` is handed to pytest: `python -m tests jax -- tests/layers -x`.
"""

import os
import pathlib
import subprocess
import sys
import time

ROOT = pathlib.Path(__file__).parents[1]
BACKENDS = ("jax", "tensorflow", "torch")


def main(arguments):
    chosen, pytest_arguments = _split(arguments)
    unknown = sorted(set(chosen) - set(BACKENDS))
    if unknown:
        sys.exit(f"Unknown backend: {', '.join(unknown)}. Choose from: {', '.join(BACKENDS)}.")
    rows = [
        _run("ruff check", ["-m", "ruff", "check", "."]),
        _run("ruff format", ["-m", "ruff", "format", "--check", "."]),
    ]
    for backend in chosen or BACKENDS:
        settings = {"KERAS_BACKEND": backend, "TF_CPP_MIN_LOG_LEVEL": "3"}
        rows.append(_run(backend, ["-m", "pytest", *pytest_arguments], settings))
    print(f"\n{'':<14}{'seconds':>8}  result")
    for name, seconds, status in rows:
        print(f"{name:<14}{seconds:>8.1f}  {'passed' if status == 0 else f'failed (exit status {status})'}")
    return int(any(status for _, _, status in rows))


def _split(arguments):
    if "--" not in arguments:
        return arguments, []
    end = arguments.index("--")
    return arguments[:end], arguments[end + 1 :]


def _run(name, command, settings=None):
    print(f"\n=== {name}", flush=True)
    start = time.monotonic()
    status = subprocess.run([sys.executable, *command], cwd=ROOT, env={**os.environ, **(settings or {})}).returncode
    return name, time.monotonic() - start, status


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
