import os
import subprocess
import sys

import pytest

from keras_tfm.backend import selection


@pytest.fixture
def machine(monkeypatch, tmp_path):
    """A machine before Keras is imported: `machine(installed, configuration)` says what is on it."""
    monkeypatch.delitem(sys.modules, "keras")
    monkeypatch.setenv("KERAS_BACKEND", "")  # so that it is put back even if it was not set before
    monkeypatch.delenv("KERAS_BACKEND")
    monkeypatch.setenv("KERAS_HOME", str(tmp_path))

    def describe(*installed, configuration=None):
        monkeypatch.setattr(selection, "_is_installed", lambda name: name in installed)
        if configuration is not None:
            (tmp_path / "keras.json").write_text(configuration)

    return describe


@pytest.mark.parametrize("installed", [("jax",), ("torch",), ("jax", "torch")])
def test_the_first_installed_backend_is_set_and_said_once(machine, capsys, installed):
    machine(*installed)
    assert selection.choose_backend() == installed[0]
    assert os.environ["KERAS_BACKEND"] == installed[0]
    assert selection.choose_backend() is None
    output = capsys.readouterr()
    assert output.out == ""
    assert output.err == f"keras_tfm: no backend was chosen, using {installed[0]} (set KERAS_BACKEND to choose)\n"


def test_the_default_of_keras_is_left_alone_where_it_is_installed(machine, capsys):
    machine("jax", "tensorflow", "torch")
    assert selection.choose_backend() is None
    assert "KERAS_BACKEND" not in os.environ
    assert capsys.readouterr().err == ""


def test_a_chosen_backend_is_left_alone(machine, monkeypatch, capsys):
    machine("jax", "torch")
    monkeypatch.setenv("KERAS_BACKEND", "torch")
    assert selection.choose_backend() is None
    assert os.environ["KERAS_BACKEND"] == "torch"
    assert capsys.readouterr().err == ""


def test_a_backend_that_only_keras_knows_is_left_to_keras(machine, monkeypatch):
    machine("jax")
    monkeypatch.setenv("KERAS_BACKEND", "openvino")
    assert selection.choose_backend() is None


def test_the_configuration_file_chooses(machine, capsys):
    machine("jax", "torch", configuration='{"backend": "torch"}')
    assert selection.choose_backend() is None
    assert "KERAS_BACKEND" not in os.environ
    assert capsys.readouterr().err == ""


@pytest.mark.parametrize("configuration", ['{"backend": "tensorflow"}', '{"floatx": "float32"}', "{", "[]", ""])
def test_a_configuration_file_that_chooses_nothing_usable_is_passed_over(machine, configuration):
    machine("jax", configuration=configuration)
    assert selection.choose_backend() == "jax"


def test_a_missing_backend_is_named_with_its_extra(machine, monkeypatch):
    machine("jax")
    monkeypatch.setenv("KERAS_BACKEND", "torch")
    with pytest.raises(ImportError, match=r'"keras_tfm\[torch\]".*Received: KERAS_BACKEND=\'torch\', installed: jax'):
        selection.choose_backend()


def test_a_missing_backend_of_the_configuration_file_is_named_with_the_file(machine):
    machine("tensorflow", configuration='{"backend": "jax"}')
    with pytest.raises(ImportError, match=r'"keras_tfm\[jax\]".*keras\.json=\'jax\', installed: tensorflow'):
        selection.choose_backend()


def test_no_backend_at_all_names_the_three_extras(machine):
    machine()
    with pytest.raises(ImportError, match=r'"keras_tfm\[tensorflow\]" or .*\[jax\]" or .*\[torch\]"'):
        selection.choose_backend()


def test_nothing_is_chosen_once_keras_is_imported(monkeypatch):
    monkeypatch.delenv("KERAS_BACKEND", raising=False)
    monkeypatch.setattr(selection, "_is_installed", lambda name: name == "jax")
    assert selection.choose_backend() is None
    assert "KERAS_BACKEND" not in os.environ


def test_a_folder_left_by_an_uninstalled_package_is_not_a_backend(monkeypatch, tmp_path):
    (tmp_path / "left_behind").mkdir()
    monkeypatch.syspath_prepend(tmp_path)
    assert not selection._is_installed("left_behind")
    assert selection._is_installed("json")


@pytest.mark.parametrize("missing, status", [(("tensorflow",), 0), (("tensorflow", "jax", "torch"), 1)])
def test_importing_the_package_chooses_before_keras_can_fail(missing, status, tmp_path):
    installed = [name for name in selection.BACKENDS if selection._is_installed(name) and name not in missing]
    if status == 0 and not installed:
        pytest.skip("only TensorFlow is installed")
    hide = f"import sys; sys.modules.update(dict.fromkeys({missing!r})); "
    environment = {name: value for name, value in os.environ.items() if name != "KERAS_BACKEND"}
    result = subprocess.run(
        [sys.executable, "-c", hide + "import keras_tfm, keras; print(keras.backend.backend())"],
        env={**environment, "KERAS_HOME": str(tmp_path)},
        capture_output=True,
        text=True,
    )
    assert result.returncode == status, result.stderr
    if status == 0:
        assert result.stdout == f"{installed[0]}\n"
        assert result.stderr.count("keras_tfm: no backend was chosen, using") == 1
    else:
        assert 'pip install "keras_tfm[jax]"' in result.stderr
