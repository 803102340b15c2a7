"""What the benchmarks share: contestants take turns, and a table of their medians goes to a file of results."""

import datetime
import os
import pathlib
import platform
import re
import resource
import sys
import time

import keras
import numpy as np

UNITS = {"s": 1, "ms": 1e3, "µs": 1e6}


def make_all(makers, *arguments):
    """What each maker gives, by name; says which are left out because their package is not installed."""
    made = {}
    for name, make in makers.items():
        try:
            made[name] = make(*arguments)
        except ModuleNotFoundError as error:
            print(f"{name} is left out: {error}", file=sys.stderr)
    return made


def take_turns(functions, rounds, warm_up=1):
    """Seconds of each round by name; the first calls, which compile, are not counted."""
    for function in functions.values():
        for _ in range(warm_up):
            function()
    seconds = {name: [] for name in functions}
    for _ in range(rounds):
        for name, function in functions.items():
            start = time.perf_counter()
            function()
            seconds[name].append(time.perf_counter() - start)
    return seconds


def table(title, seconds, peers, unit="ms"):
    """A Markdown table of times: median, spread, and the ratio to each of the peers that took part."""
    factor = UNITS[unit]
    peers = [peer for peer in peers if peer in seconds]
    lines = [
        f"## {title}",
        "",
        f"| contestant | median {unit} | min-max {unit} |{''.join(f' × {peer} |' for peer in peers)}",
        f"|---|---:|---:|{'---:|' * len(peers)}",
    ]
    for name, values in seconds.items():
        median = np.median(values)
        ratios = "".join(f" {median / np.median(seconds[peer]):.2f} |" for peer in peers)
        span = f"{factor * min(values):.1f}-{factor * max(values):.1f}"
        lines.append(f"| {name} | {factor * median:.1f} | {span} |{ratios}")
    return "\n".join(lines) + "\n"


def peak_memory(function):
    """Bytes that a process holds at most while it calls a function, beyond what it held before.

    In a process of its own: what was freed before, and is used again, does not count. On Linux; elsewhere the peak of
    the process so far must be below what the function takes.
    """
    before = _resident("VmRSS")
    function()
    return max(0, _resident("VmHWM") - before)


def fresh_memory(function):
    """Bytes of the pages that a call takes from the system anew, each of which costs time; 0 where it takes none."""
    before = resource.getrusage(resource.RUSAGE_SELF).ru_minflt
    function()
    return resource.getpagesize() * (resource.getrusage(resource.RUSAGE_SELF).ru_minflt - before)


def _resident(field):
    status = pathlib.Path("/proc/self/status")
    if not status.exists():
        return 1024 * resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    # Not ru_maxrss: Linux hands that of the parent on.
    return 1024 * int(re.search(rf"{field}:\s+(\d+) kB", status.read_text())[1])


def device():
    """A short name of what Keras computes on, with the number of cores."""
    backend = keras.backend.backend()
    if backend == "torch":
        import torch

        if torch.cuda.is_available():
            return torch.cuda.get_device_name().lower().replace(" ", "-")
    if backend == "jax":
        import jax

        if jax.default_backend() == "gpu":
            return jax.devices()[0].device_kind.lower().replace(" ", "-")
    return f"cpu{len(os.sched_getaffinity(0))}"


def versions():
    """The versions that a table was made with."""
    backend = keras.backend.backend()
    module = __import__(backend)
    tunables = os.environ.get("GLIBC_TUNABLES")
    return (
        f"Keras {keras.__version__}, {backend} {module.__version__}, Python {platform.python_version()}, "
        f"{platform.machine()}, {device()}, {datetime.date.today():%Y-%m}" + (f", {tunables}" if tunables else "")
    )


def write(question, title, tables):
    """Appends tables to the file of this device, month and question in `benchmarks/results`."""
    name = f"{device()}-{datetime.date.today():%Y%m}-{question}.md"
    path = pathlib.Path(__file__).parent / "results" / name
    head = f"# {title}\n\n`python -m benchmarks.{question.replace('-', '_')} --write`; contestants take turns.\n"
    path.write_text(f"{path.read_text() if path.exists() else head}\n{versions()}\n\n{tables}")
