"""JSON files that are whole or absent, whatever interrupts the writing."""

import json
import os
from pathlib import Path


def write_json(path, content):
    """Writes a JSON file by way of a temporary file, so that an interruption leaves the old one intact.

    Args:
        path: file to write; its folder must exist.
        content: what `json.dumps` takes.

    Example:

    >>> import pathlib, tempfile
    >>> from keras_tfm.text.json_file import read_json, write_json
    >>> with tempfile.TemporaryDirectory() as folder:
    ...     write_json(pathlib.Path(folder, "x.json"), {"kind": "toy", "size": 3})
    ...     read_json(pathlib.Path(folder, "x.json"), "toy")["size"]
    3
    """
    path = Path(path)
    text = json.dumps(content, ensure_ascii=False, indent=None)
    temporary = path.with_name(f"{path.name}.{os.getpid()}.tmp")
    try:
        with open(temporary, "w", encoding="utf-8") as file:
            file.write(text)
            file.flush()
            os.fsync(file.fileno())
        os.replace(temporary, path)
    except BaseException:
        temporary.unlink(missing_ok=True)
        raise


def read_json(path, kind):
    """Reads a JSON object that `write_json` wrote.

    Args:
        path: file to read.
        kind: string, the value that the object must have at `"kind"`.

    Returns:
        The dict.

    Raises:
        ValueError: the file is missing, damaged or of another kind.
    """
    path = Path(path)
    try:
        return parse_json(path.read_text(encoding="utf-8"), kind)
    except OSError as error:
        raise ValueError(f"{path}: cannot be read: {error.strerror}") from error
    except ValueError as error:
        raise ValueError(f"{path}: {error}") from error


def parse_json(text, kind):
    """Reads a JSON object of one kind from a string.

    Args:
        text: string.
        kind: string, the value that the object must have at `"kind"`.

    Returns:
        The dict.

    Raises:
        ValueError: the text is not JSON, or of another kind.
    """
    try:
        content = json.loads(text)
    except ValueError as error:
        raise ValueError(f"damaged or truncated JSON: {error}") from error
    found = content.get("kind") if isinstance(content, dict) else None
    if found != kind:
        raise ValueError(f"must be a file of kind {kind!r}. Received: kind={found!r}")
    return content
