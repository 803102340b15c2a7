"""The profiles of Hypothesis and the data sets."""

import gc
import os
import pathlib

import hypothesis
import keras
import pytest

_ROOT = pathlib.Path(__file__).parents[1]
_SLOW = [hypothesis.HealthCheck.too_slow]  # the first example compiles

hypothesis.settings.register_profile("ci", deadline=None, max_examples=8, derandomize=True, suppress_health_check=_SLOW)
hypothesis.settings.register_profile("thorough", deadline=None, max_examples=200, suppress_health_check=_SLOW)
# Already here, for what is imported by the conftest files of folders that are named on the command line.
hypothesis.settings.load_profile(os.environ.get("HYPOTHESIS_PROFILE", "ci"))


def pytest_configure(config):
    """Loads the profile of `--hypothesis-profile`, or of `HYPOTHESIS_PROFILE`, or `ci`."""
    profile = config.getoption("--hypothesis-profile", None) or os.environ.get("HYPOTHESIS_PROFILE", "ci")
    hypothesis.settings.load_profile(profile)


@pytest.fixture(scope="session")
def data_dir():
    """The folder of the data sets: `KERAS_TFM_DATA`, or `shared/data` beside the checkout."""
    path = pathlib.Path(os.environ.get("KERAS_TFM_DATA") or _ROOT.parent / "shared" / "data")
    if not path.is_dir():
        pytest.skip(f"no data sets at {path}: set KERAS_TFM_DATA to their folder")
    return path


# Where tests run programs for long; elsewhere most time goes to compiling.
_LONG = {"training", "test_phrases.py", "test_sequence_labelling.py", "test_translation.py"}


@pytest.fixture(autouse=True, scope="module")
def _quick_compilation(request):
    """On JAX, compiles without optimizations where each of many small programs runs once."""
    if keras.backend.backend() != "jax" or {request.path.parent.name, request.path.name} & _LONG:
        yield
        return
    import jax

    jax.config.update("jax_disable_most_optimizations", True)
    yield
    jax.config.update("jax_disable_most_optimizations", False)


_MAPS = pathlib.Path("/proc/self/maps")  # on Linux: a line for each memory map of the process


@pytest.fixture(autouse=True, scope="module")
def _light_process(request):
    """Forgets what a module kept, so that the process stays small and the garbage collector, which Keras calls, quick.

    On JAX also the compiled programs, where there are many: Linux gives a process 65,530 memory maps, a program takes
    a few, and one too many ends the process.
    """
    yield
    for value in list(vars(request.module).values()):
        if hasattr(value, "cache_clear") and value.__module__ == request.module.__name__:
            value.cache_clear()
    gc.collect()
    gc.freeze()
    if keras.backend.backend() == "jax" and _MAPS.exists() and _MAPS.read_text().count("\n") > 30_000:
        import jax

        jax.clear_caches()
