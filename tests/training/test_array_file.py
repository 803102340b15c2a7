"""A file of arrays is whole or absent, and damage is told."""

import os
import signal
import subprocess
import sys
import time

import ml_dtypes
import numpy as np
import pytest

from keras_tfm.training import array_file
from keras_tfm.training.array_file import read_array, read_arrays, read_description, write_arrays

ARRAYS = {
    "weights/0": np.arange(15, dtype="float32").reshape(3, 5),
    "weights/1": np.array(7, "int64"),
    "mask": np.array([True, False]),
    "empty": np.zeros((0, 4), "float16"),
}


def test_arrays_and_description_come_back(tmp_path):
    path = str(tmp_path / "new" / "file.npz")
    write_arrays(path, ARRAYS, {"epoch": 3, "loss": [0.1, float("inf")]})
    arrays, description = read_arrays(path)
    assert description == {"epoch": 3, "loss": [0.1, float("inf")]} == read_description(path)
    assert list(arrays) == list(ARRAYS)
    for name, array in ARRAYS.items():
        assert arrays[name].dtype == array.dtype
        np.testing.assert_array_equal(arrays[name], array)
    np.testing.assert_array_equal(read_array(path, "weights/0"), ARRAYS["weights/0"])


@pytest.mark.parametrize("dtype", ["bfloat16", "float8_e4m3fn", "int4"])
def test_types_unknown_to_numpy_keep_their_values(tmp_path, dtype):
    values = np.array([0, 1.5, -3, 7]).astype(getattr(ml_dtypes, dtype))
    write_arrays(tmp_path / "file.npz", {"values": values}, {})
    np.testing.assert_array_equal(read_array(tmp_path / "file.npz", "values"), values.astype("float32"))


@pytest.mark.parametrize("step", ["savez", "fsync", "replace"])
@pytest.mark.parametrize("error", [OSError("disk full"), KeyboardInterrupt()])
def test_an_interrupted_write_leaves_the_old_file(tmp_path, monkeypatch, step, error):
    path = tmp_path / "file.npz"
    write_arrays(path, ARRAYS, {"epoch": 1})
    before = path.read_bytes()

    def fail(file, *_, **__):
        if step == "savez":
            file.write(before[:100])
        raise error

    with monkeypatch.context() as patch:
        patch.setattr(np if step == "savez" else os, step, fail)
        with pytest.raises(type(error)):
            write_arrays(path, {"weights/0": np.zeros(9)}, {"epoch": 2})
    assert path.read_bytes() == before
    assert [file.name for file in tmp_path.iterdir()] == ["file.npz"]


WRITER = """
import importlib.util, sys
import numpy as np
spec = importlib.util.spec_from_file_location("array_file", sys.argv[1])
array_file = importlib.util.module_from_spec(spec)
spec.loader.exec_module(array_file)
epoch = 0
while True:
    epoch += 1
    array_file.write_arrays(sys.argv[2], {"values": np.full(1_000_000, epoch)}, {"epoch": epoch})
    print(epoch, flush=True)
"""


@pytest.mark.skipif(not hasattr(signal, "SIGKILL"), reason="no SIGKILL on this system")
def test_a_killed_process_leaves_a_whole_file(tmp_path):
    path = tmp_path / "file.npz"
    for attempt in range(5):
        command = [sys.executable, "-c", WRITER, array_file.__file__, str(path)]
        with subprocess.Popen(command, stdout=subprocess.PIPE) as writer:
            writer.stdout.readline()
            time.sleep(0.003 * attempt)
            writer.kill()
        arrays, description = read_arrays(path)
        assert description["epoch"] >= 1
        assert np.all(arrays["values"] == description["epoch"])


def test_every_damaged_byte_is_told_or_harmless(tmp_path):
    path = tmp_path / "file.npz"
    write_arrays(path, ARRAYS, {"epoch": 3})
    whole = path.read_bytes()
    told = 0
    for position in range(0, len(whole), 3):
        path.write_bytes(whole[:position] + bytes([whole[position] ^ 0x41]) + whole[position + 1 :])
        try:
            arrays, description = read_arrays(path)
        except ValueError as error:
            assert "The file is damaged" in str(error) and str(path) in str(error)
            told += 1
            continue
        assert description == {"epoch": 3}
        for name, array in arrays.items():  # a lost name is found by whoever asks for it
            if name in ARRAYS:
                np.testing.assert_array_equal(array, ARRAYS[name])
    assert told > len(whole) / 6


def test_truncated_and_foreign_files_are_told(tmp_path):
    path = tmp_path / "file.npz"
    write_arrays(path, ARRAYS, {"epoch": 3})
    whole = path.read_bytes()
    foreign = [b"", b"\x80\x04N.", b"epoch: 3\n"]
    for content in [whole[:length] for length in range(0, len(whole), 37)] + foreign:
        path.write_bytes(content)
        with pytest.raises(ValueError, match="The file is damaged, or is no checkpoint"):
            read_arrays(path)
    np.save(path.with_suffix(".npy"), np.arange(3))
    with pytest.raises(ValueError, match="The file is damaged, or is no checkpoint"):
        read_arrays(path.with_suffix(".npy"))
    np.savez(path, values=np.arange(3))
    with pytest.raises(ValueError, match="The file is damaged, or is no checkpoint"):
        read_description(path)
    with pytest.raises(FileNotFoundError):
        read_arrays(tmp_path / "absent.npz")


def test_pickled_objects_are_refused(tmp_path):
    np.savez(tmp_path / "file.npz", description=np.array([{"epoch": 3}], dtype=object))
    with pytest.raises(ValueError, match="The file is damaged, or is no checkpoint"):
        read_description(tmp_path / "file.npz")
