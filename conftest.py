"""What the tests and the doctests of the package share."""

import os

import pytest

import keras_tfm  # noqa: F401

# isort: split
import keras  # after keras_tfm, which may have to choose the backend


def pytest_report_header():
    profile = os.environ.get("HYPOTHESIS_PROFILE", "ci")
    return f"keras {keras.__version__} on {keras.backend.backend()}, hypothesis profile {profile}"


def pytest_ignore_collect(collection_path):
    """Leaves out the files of the other backends, whose doctests would import them."""
    others = {"jax", "tensorflow", "torch"} - {keras.backend.backend()}
    if collection_path.parts[-3:-1] == ("keras_tfm", "backend") and collection_path.stem in others:
        return True
    return None


@pytest.fixture(autouse=True)
def _fixed_seed():
    keras.utils.set_random_seed(0)
