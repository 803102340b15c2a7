"""Readers for labelled sentences in columns: CoNLL-U and the CoNLL shared-task files."""

import re
from typing import NamedTuple

from keras_tfm.text.corpora import CorpusError, find_file, read_lines

_WORD_ID = re.compile(r"\d+")
_SKIPPED_ID = re.compile(r"\d+-\d+|\d+\.\d+")
_CONLLU_TAGS = {"lemma": 2, "upos": 3, "xpos": 4, "deprel": 7}


class TaggedSentence(NamedTuple):
    """One sentence and the tag of each of its tokens.

    Args:
        tokens: list of strings.
        tags: list of strings, one a token.
        line: int, line of the file where the sentence's first token stands; 0 if it is from no file.
    """

    tokens: list
    tags: list
    line: int = 0


def read_columns(path, token_column=0, tag_column=1, *, separator=None, comment_prefix=None, id_column=None):
    """Reads sentences from a file with one token a line and an empty line after each sentence.

    Args:
        path: file to read, plain or gzip, UTF-8.
        token_column: int, column of the token, counted from 0. Defaults to `0`.
        tag_column: int, column of the tag, counted from 0; negative counts from the end. Defaults to `1`.
        separator: `"\\t"`, `" "`, or `None`: at tabs in lines that have one, at runs of spaces elsewhere.
        comment_prefix: string; lines that begin with it are skipped. `None` (default) skips none: in files without
            comments `#` may begin a token.
        id_column: int or `None`; column of CoNLL-U word numbers. Ranges (`3-4`, a contraction whose parts follow) and
            empty nodes (`5.1`) are skipped.

    Returns:
        A list of `TaggedSentence`.

    Raises:
        CorpusError: as `read_lines`, and if a line has too few columns, an empty token or tag, or no word number
            where one is due.

    Example:

    >>> import pathlib, tempfile
    >>> from keras_tfm.text import read_columns
    >>> with tempfile.TemporaryDirectory() as folder:
    ...     path = pathlib.Path(folder, "train.conll")
    ...     _ = path.write_text("Ada\\tB-PER\\nsmiles\\tO\\n\\n", encoding="utf-8")
    ...     read_columns(path)
    [TaggedSentence(tokens=['Ada', 'smiles'], tags=['B-PER', 'O'], line=1)]
    """
    file = find_file(path)
    columns = (token_column, tag_column) if id_column is None else (token_column, tag_column, id_column)
    sentences, current = [], TaggedSentence([], [])
    for number, line in enumerate(read_lines(path), start=1):
        if not line.strip():
            _close(sentences, current)
            current = TaggedSentence([], [])
            continue
        if comment_prefix and line.startswith(comment_prefix):
            continue
        token, tag, *word_id = _cells(file, number, line, separator, columns)
        if word_id and not _is_word(file, number, word_id[0]):
            continue
        if not current.tokens:
            current = current._replace(line=number)
        current.tokens.append(token)
        current.tags.append(tag)
    _close(sentences, current)
    if not sentences:
        raise CorpusError(f"{file}: holds no sentence")
    return sentences


def read_conllu(path, tag="upos"):
    """Reads words and one kind of tag from a CoNLL-U file (Universal Dependencies).

    Args:
        path: file to read, plain or gzip.
        tag: `"upos"` (default), `"xpos"`, `"lemma"` or `"deprel"`.

    Returns:
        A list of `TaggedSentence` with the syntactic words: contractions by their parts, no empty nodes.

    Raises:
        CorpusError: as `read_columns`.

    Example:

    >>> import pathlib, tempfile
    >>> from keras_tfm.text import read_conllu
    >>> rows = ["# text = I saw", "1\\tI\\tI\\tPRON\\tPRP" + "\\t_" * 5, "2\\tsaw\\tsee\\tVERB\\tVBD" + "\\t_" * 5]
    >>> with tempfile.TemporaryDirectory() as folder:
    ...     path = pathlib.Path(folder, "dev.conllu")
    ...     _ = path.write_text("\\n".join(rows) + "\\n\\n", encoding="utf-8")
    ...     read_conllu(path)
    [TaggedSentence(tokens=['I', 'saw'], tags=['PRON', 'VERB'], line=2)]
    """
    if tag not in _CONLLU_TAGS:
        raise ValueError(f"`tag` must be one of {sorted(_CONLLU_TAGS)}. Received: tag={tag!r}")
    return read_columns(path, 1, _CONLLU_TAGS[tag], separator="\t", comment_prefix="#", id_column=0)


def _close(sentences, sentence):
    if sentence.tokens:
        sentences.append(sentence)


def _cells(file, number, line, separator, columns):
    if separator is None:
        separator = "\t" if "\t" in line else " "
    cells = line.split() if separator == " " else line.split(separator)
    # Columns from the left and from the right must not meet: a line that lost its tag has no tag.
    needed = max((column + 1 for column in columns if column >= 0), default=0)
    needed += max((-column for column in columns if column < 0), default=0)
    if len(cells) < needed:
        raise CorpusError(
            f"{file}:{number}: a line must have at least {needed} columns. "
            f"Received: {len(cells)} columns in {line[:60]!r}"
        )
    picked = [cells[column] for column in columns]
    if not all(picked):
        raise CorpusError(f"{file}:{number}: a token and its tag must not be empty. Received: {line[:60]!r}")
    return picked


def _is_word(file, number, word_id):
    if _WORD_ID.fullmatch(word_id):
        return True
    if _SKIPPED_ID.fullmatch(word_id):
        return False
    raise CorpusError(f"{file}:{number}: a word number must be like 3, 3-4 or 3.1. Received: {word_id!r}")
