"""Readers for lines, sentence pairs and parallel files."""

import gzip
import zlib
from pathlib import Path

_GZIP_MAGIC = b"\x1f\x8b"
_BYTE_ORDER_MARK = b"\xef\xbb\xbf"


class CorpusError(ValueError):
    """A data file that cannot be used; the message says which file and which line."""


def read_lines(path):
    """Reads a UTF-8 text file, plain or gzip, as a list of lines.

    Lines end at `\\n` or `\\r\\n` and nowhere else: the exotic separators at which `str.splitlines` also cuts
    (U+2028, U+0085, form feed) occur inside sentences of real corpora and would shift one side of a parallel text.

    Args:
        path: file to read. Where it does not exist and `path + ".gz"` does, that one is read.

    Returns:
        A list of strings without their line ends.

    Raises:
        CorpusError: the file is missing, empty, not UTF-8 (with line and byte), or damaged gzip data.

    Example:

    >>> import pathlib, tempfile
    >>> from keras_tfm.text import read_lines
    >>> with tempfile.TemporaryDirectory() as folder:
    ...     path = pathlib.Path(folder, "train.en")
    ...     _ = path.write_text("a dog runs\\na cat sleeps\\n", encoding="utf-8")
    ...     read_lines(path)
    ['a dog runs', 'a cat sleeps']
    """
    path = find_file(path)
    lines = _decode(path, _read_bytes(path)).split("\n")
    if lines[-1] == "":
        lines.pop()
    return [line[:-1] if line.endswith("\r") else line for line in lines]


def read_parallel(source_path, target_path):
    """Reads two files whose lines are translations of each other.

    Args:
        source_path: file of source sentences, one a line; plain or gzip.
        target_path: file of target sentences, one a line; plain or gzip.

    Returns:
        A list of `(source, target)` strings.

    Raises:
        CorpusError: as `read_lines`, and if the files differ in their number of lines.

    Example:

    >>> import pathlib, tempfile
    >>> from keras_tfm.text import read_parallel
    >>> with tempfile.TemporaryDirectory() as folder:
    ...     source, target = pathlib.Path(folder, "train.en"), pathlib.Path(folder, "train.de")
    ...     _ = source.write_text("a dog\\na cat\\n", encoding="utf-8")
    ...     _ = target.write_text("ein hund\\neine katze\\n", encoding="utf-8")
    ...     read_parallel(source, target)
    [('a dog', 'ein hund'), ('a cat', 'eine katze')]
    """
    sources, targets = read_lines(source_path), read_lines(target_path)
    if len(sources) != len(targets):
        shorter = find_file(source_path if len(sources) < len(targets) else target_path)
        raise CorpusError(
            f"{shorter}:{min(len(sources), len(targets)) + 1}: this line is missing. Parallel files must have the same "
            f"number of lines. Received: {find_file(source_path)} with {len(sources)} lines, "
            f"{find_file(target_path)} with {len(targets)} lines"
        )
    return list(zip(sources, targets, strict=True))


def read_pairs(path, *, columns=(0, 1)):
    """Reads sentence pairs from a tab-separated file.

    Args:
        path: file with one pair a line, plain or gzip.
        columns: pair of ints, which columns hold source and target, counted from 0; other columns are ignored.
            Defaults to `(0, 1)`; `(1, 0)` turns the direction of translation around.

    Returns:
        A list of `(source, target)` strings.

    Raises:
        CorpusError: as `read_lines`, and if a line has too few columns.

    Example:

    >>> import pathlib, tempfile
    >>> from keras_tfm.text import read_pairs
    >>> with tempfile.TemporaryDirectory() as folder:
    ...     path = pathlib.Path(folder, "pairs.tsv")
    ...     _ = path.write_text("Turn left.\\tGire a la izquierda.\\tCC-BY\\n", encoding="utf-8")
    ...     read_pairs(path)
    [('Turn left.', 'Gire a la izquierda.')]
    """
    source_column, target_column = _check_columns(columns)
    needed = max(source_column, target_column) + 1
    pairs = []
    for number, line in enumerate(read_lines(path), start=1):
        cells = line.split("\t")
        if len(cells) < needed:
            raise CorpusError(
                f"{find_file(path)}:{number}: a line must have at least {needed} tab-separated columns. "
                f"Received: {len(cells)} columns in {line[:60]!r}"
            )
        pairs.append((cells[source_column], cells[target_column]))
    return pairs


def _check_columns(columns):
    columns = tuple(columns)
    if len(columns) != 2 or any(not isinstance(column, int) or column < 0 for column in columns):
        raise ValueError(f"`columns` must be two column numbers counted from 0. Received: columns={columns}")
    return columns


def find_file(path):
    """The file to read for `path`: itself, or its `.gz`; a `CorpusError` that lists the folder if neither exists."""
    path = Path(path)
    if path.is_file():
        return path
    if path.is_dir():
        raise CorpusError(f"{path}: is a folder, a file is needed. {_describe_folder(path)}")
    zipped = path.with_name(path.name + ".gz")
    if zipped.is_file():
        return zipped
    raise CorpusError(f"{path}: no such file. {_describe_folder(path.parent)}")


def _describe_folder(folder, limit=20):
    if not folder.is_dir():
        return f"The folder {folder} does not exist"
    names = sorted(entry.name for entry in folder.iterdir())
    if not names:
        return f"The folder {folder} is empty"
    more = f" and {len(names) - limit} more" if len(names) > limit else ""
    return f"The folder {folder} has: {', '.join(names[:limit])}{more}"


def _read_bytes(path):
    try:
        data = path.read_bytes()
    except OSError as error:
        raise CorpusError(f"{path}: cannot be read: {error.strerror}") from error
    if data.startswith(_GZIP_MAGIC):
        data = _decompress(path, data)
    elif path.suffix == ".gz" and data:
        raise CorpusError(f"{path}: is not gzip data. Received: a file that begins with {data[:8]!r}")
    if not data:
        raise CorpusError(f"{path}: the file is empty")
    return data


def _decompress(path, data):
    try:
        return gzip.decompress(data)
    except (OSError, EOFError, zlib.error) as error:
        lines = _count_readable_lines(path)
        raise CorpusError(f"{path}: damaged or truncated gzip data after line {lines}: {error}") from error


def _count_readable_lines(path):
    count = 0
    try:
        with gzip.open(path) as file:
            for _ in file:
                count += 1
    except (OSError, EOFError, zlib.error):
        return count
    return count


def _decode(path, data):
    start = len(_BYTE_ORDER_MARK) if data.startswith(_BYTE_ORDER_MARK) else 0
    try:
        return data[start:].decode("utf-8")
    except UnicodeDecodeError as error:
        offset = start + error.start
        line = data.count(b"\n", 0, offset) + 1
        column = offset - (data.rfind(b"\n", 0, offset) + 1)
        raise CorpusError(
            f"{path}:{line}: not UTF-8 at byte {column} of the line (byte {offset} of the text). "
            f"Received: {data[offset : offset + 4]!r}"
        ) from error
