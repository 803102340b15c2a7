"""What `import keras_tfm` costs and loads."""

import os
import subprocess
import sys

import keras
import pytest

LIMIT = 0.1  # seconds that the package may add to `import keras`
ROUNDS = 5
NEVER_ADDED = {
    *("jax", "tensorflow", "torch"),
    *("keras_hub", "keras_nlp", "matplotlib", "sacrebleu", "nervaluate", "tf_keras_vis", "tokenizers"),
}


def run(code):
    environment = {**os.environ, "KERAS_BACKEND": keras.backend.backend()}
    environment.pop("PYTHONDONTWRITEBYTECODE", None)  # with it every import would compile every file anew
    result = subprocess.run([sys.executable, "-c", code], env=environment, capture_output=True, text=True)
    assert result.returncode == 0, result.stderr
    return result.stdout.strip()


def test_the_package_adds_less_than_a_tenth_of_a_second_to_keras():
    # A collection goes over all that the backend has made, 0.2 s, wherever it falls: it is no part of the package.
    setup = "import gc, keras, time; gc.disable(); start = time.process_time()"
    code = f"{setup}; import keras_tfm; print(time.process_time() - start)"
    run(code)  # the first import writes the bytecode
    seconds = [float(run(code)) for _ in range(ROUNDS)]
    # Of the processor, and the least: what other processes do beside it makes a core slower, never faster.
    assert min(seconds) < LIMIT, seconds


@pytest.mark.parametrize("names", ["", "from keras_tfm import *"], ids=["the package", "all its rooms"])
def test_the_package_imports_no_other_backend_and_no_optional_package(names):
    # Keras 3.15 imports jax whatever its backend: what counts is what the package adds.
    code = "import keras, sys\nbefore = set(sys.modules)\nimport keras_tfm\n" + names
    added = {name.split(".")[0] for name in run(code + "\nprint(*set(sys.modules) - before)").split()}
    assert "keras_tfm" in added
    assert added & (NEVER_ADDED - {keras.backend.backend()}) == set()
