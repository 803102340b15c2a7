"""One file of named arrays and a JSON description, written whole or not at all."""

import contextlib
import json
import os

import numpy as np

_DESCRIPTION = "description"


def write_arrays(path, arrays, description):
    """Writes named NumPy arrays and a description that JSON can hold, in the place of what `path` held before.

    Everything goes to `<path>.partial` in the same folder first and reaches the disk before it takes the name `path`,
    so that an interruption at any moment leaves the old file or the new one.

    Raises:
        OSError: the file cannot be written; the old one is untouched.

    Example:

    >>> import os, tempfile, numpy as np
    >>> path = os.path.join(tempfile.mkdtemp(), "numbers.npz")
    >>> write_arrays(path, {"a": np.arange(3)}, {"epoch": 7})
    >>> read_arrays(path)
    ({'a': array([0, 1, 2])}, {'epoch': 7})
    """
    folder = os.path.dirname(os.path.abspath(path))
    os.makedirs(folder, exist_ok=True)
    partial = f"{path}.partial"
    text = np.frombuffer(json.dumps(description).encode(), "uint8")
    try:
        with open(partial, "wb") as file:
            np.savez(file, **{_DESCRIPTION: text}, **{name: _portable(array) for name, array in arrays.items()})
            file.flush()
            os.fsync(file.fileno())
        os.replace(partial, path)
    except BaseException:
        with contextlib.suppress(OSError):
            os.remove(partial)
        raise
    _sync_folder(folder)


def read_arrays(path):
    """Returns the arrays and the description of a file, every byte of the arrays checked against its checksum.

    Raises:
        ValueError: the file is damaged or is none of `write_arrays`.
    """
    with _open(path) as archive:
        arrays = {name: archive[name] for name in archive.files if name != _DESCRIPTION}
        return arrays, _description(archive)


def read_array(path, name):
    """Returns one array of a file.

    Raises:
        ValueError: the file is damaged or has no such array.
    """
    with _open(path) as archive:
        return archive[name]


def read_description(path):
    """Returns the description of a file without reading its arrays.

    Raises:
        ValueError: the file is damaged or is none of `write_arrays`.
    """
    with _open(path) as archive:
        return _description(archive)


def _description(archive):
    return json.loads(archive[_DESCRIPTION].tobytes())


@contextlib.contextmanager
def _open(path):
    with open(path, "rb") as file:
        try:
            with np.load(file, allow_pickle=False) as archive:
                yield archive
        except Exception as error:  # zipfile, zlib, NumPy's header parser and json have a dozen kinds for damage.
            raise ValueError(f"The file is damaged, or is no checkpoint: {error}. Received: path={path!r}") from error


def _portable(array):
    # NumPy stores bfloat16, float8 and int4 as raw bytes without a type; float32 holds all their values.
    return array if array.dtype.kind in "biuf" else array.astype("float32")


def _sync_folder(folder):
    # The new name is on the disk once its folder is; Windows opens no folders and needs no such call.
    if hasattr(os, "O_DIRECTORY"):
        descriptor = os.open(folder, os.O_DIRECTORY)
        try:
            os.fsync(descriptor)
        finally:
            os.close(descriptor)
