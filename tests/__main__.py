"""Runs ruff, then the tests on each backend in a process of its own: `python -m tests [jax] [tensorflow] [torch]`.

What follows `--` is handed to pytest: `python -m tests jax -- tests/layers -x`. Processes run two at a time where there
are two cores; what they print then comes when they end. JAX and TensorFlow have five processes: each compiled program
takes some of the 65,530 memory maps that Linux gives a process, and memory; TensorFlow never gives them back.
"""

import concurrent.futures
import os
import pathlib
import subprocess
import sys
import time

ROOT = pathlib.Path(__file__).parents[1]
BACKENDS = ("jax", "tensorflow", "torch")
_COMPILING = ("jax", "tensorflow")
_PARTS = {
    "layers": ("tests/layers",),
    "models": ("tests/models",),
    "docs, examples": ("tests/docs", "tests/examples"),
    "decoding, peers": ("tests/backend", "tests/benchmarks", "tests/compat", "tests/generation", "tests/interop"),
}
# Most of XLA's programs run once here: code that is quickly made saves more than code that is quickly run. On JAX
# tests/conftest.py adds what TensorFlow is told for a whole process.
_QUICK_CODE = "--xla_cpu_use_fusion_emitters=false --xla_cpu_parallel_codegen_split_count=1"
_NO_OPTIMIZATIONS = "--xla_backend_optimization_level=0 --xla_llvm_disable_expensive_passes=true"
_XLA_FLAGS = {"jax": _QUICK_CODE, "tensorflow": f"{_QUICK_CODE} {_NO_OPTIMIZATIONS}"}


def main(arguments):
    chosen, pytest_arguments = _split(arguments)
    unknown = sorted(set(chosen) - set(BACKENDS))
    if unknown:
        sys.exit(f"Unknown backend: {', '.join(unknown)}. Choose from: {', '.join(BACKENDS)}.")
    rows = [
        _run("ruff check", ["-m", "ruff", "check", "."]),
        _run("ruff format", ["-m", "ruff", "format", "--check", "."]),
    ]
    backends = chosen or BACKENDS
    parts = [part for backend in backends for part in _parts(backend, pytest_arguments)]
    workers = min(2, len(parts), os.cpu_count() or 1)
    with concurrent.futures.ThreadPoolExecutor(workers) as pool:
        rows += pool.map(lambda part: _run_backend(*part, workers > 1), parts)
    print(f"\n{'':<30}{'seconds':>8}  result")
    for name, seconds, status in rows:
        print(f"{name:<30}{seconds:>8.1f}  {'passed' if status == 0 else f'failed (exit status {status})'}")
    return int(any(status for _, _, status in rows))


def _split(arguments):
    if "--" not in arguments:
        return arguments, []
    end = arguments.index("--")
    return arguments[:end], arguments[end + 1 :]


def _parts(backend, pytest_arguments):
    """The processes of a backend: its name, what they are called, what pytest is given."""
    if backend not in _COMPILING or pytest_arguments:
        return [(backend, backend, pytest_arguments)]
    parts = [(backend, f"{backend}, {name}", list(folders)) for name, folders in _PARTS.items()]
    rest = [f"--ignore={folder}" for folders in _PARTS.values() for folder in folders]
    return [*parts, (backend, f"{backend}, the rest", rest)]


def _run_backend(backend, name, pytest_arguments, is_shared):
    settings = {"KERAS_BACKEND": backend, "TF_CPP_MIN_LOG_LEVEL": "3"}
    # TensorFlow compiles the examples as users do.
    if backend in _XLA_FLAGS and not (backend == "tensorflow" and "tests/examples" in pytest_arguments):
        settings["XLA_FLAGS"] = f"{os.environ.get('XLA_FLAGS', '')} {_XLA_FLAGS[backend]}".strip()
    if is_shared:
        settings["OMP_NUM_THREADS"] = "1"  # threads that wait for each other across processes would only spin
    return _run(name, ["-m", "pytest", *pytest_arguments], settings, is_shared)


def _run(name, command, settings=None, is_shared=False):
    print(f"\n=== {name}{' starts' if is_shared else ''}", flush=True)
    start = time.monotonic()
    captured = {"stdout": subprocess.PIPE, "stderr": subprocess.STDOUT, "text": True} if is_shared else {}
    environment = {**os.environ, **(settings or {})}
    result = subprocess.run([sys.executable, *command], cwd=ROOT, env=environment, **captured)
    if is_shared:
        print(f"\n=== {name}\n{result.stdout}", flush=True)
    return name, time.monotonic() - start, result.returncode


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
