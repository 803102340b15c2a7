"""The benchmark of calls and imports runs."""

import keras
import pytest

from benchmarks import layer_call


def test_a_tiny_run_gives_a_row_for_each_contestant(few_peers):
    modes = (False, True) if keras.backend.backend() == "torch" else (False,)
    tables = layer_call.call_tables(rounds=1, count=2, modes=modes)
    rows = [line.split(" | ")[0] for line in tables.splitlines()]
    assert rows.count("| keras_tfm") == rows.count("| keras.layers.Dense") == len(modes)
    assert "median µs" in tables


def test_imports_are_measured_in_processes():
    table = layer_call.import_table({"keras": ("sys", "json"), "after it": ("json", "this")}, rounds=1)
    assert [line.split(" | ")[0] for line in table.splitlines()[4:]] == ["| keras", "| after it"]


def test_a_package_that_cannot_be_imported_is_an_error():
    with pytest.raises(layer_call.subprocess.CalledProcessError):
        layer_call.import_seconds("sys", "no_such_package", None)
