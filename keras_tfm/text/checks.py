"""Checks of the data before training starts."""

import warnings
from typing import NamedTuple

import numpy as np

from keras_tfm.text.corpora import CorpusError

_ACTIONS = ("keep", "drop", "error")
_SHOWN = 5


class Finding(NamedTuple):
    """One kind of oddity in a corpus.

    Args:
        kind: string, `"empty"`, `"too long"`, `"identical"` or `"duplicate"`.
        action: string, what was done with such lines: `"keep"` or `"drop"`.
        count: int, number of such lines.
        lines: tuple of ints, the first of them, counted from 1.
    """

    kind: str
    action: str
    count: int
    lines: tuple


class DataReport(NamedTuple):
    """What `check_parallel` found; `print` it.

    Args:
        pairs: list of the `(source, target)` strings that are kept.
        num_pairs: int, number of pairs before anything was dropped.
        findings: tuple of `Finding`, one for each kind that occurs.
    """

    pairs: list
    num_pairs: int
    findings: tuple

    def count(self, kind):
        """The number of lines of one kind.

        Args:
            kind: string, as in `Finding`.

        Returns:
            An int, 0 where the kind did not occur.
        """
        return sum(finding.count for finding in self.findings if finding.kind == kind)

    def __str__(self):
        rows = [f"{self.num_pairs} pairs, {len(self.pairs)} kept"]
        for finding in self.findings:
            verb = "dropped" if finding.action == "drop" else "kept"
            rows.append(f"  {finding.kind}: {finding.count} {verb} ({_describe_lines(finding.lines, finding.count)})")
        return "\n".join(rows)


def check_parallel(
    pairs,
    *,
    max_length=None,
    length=None,
    empty="error",
    too_long="drop",
    identical="keep",
    duplicate="keep",
    names=("source", "target"),
):
    """Looks for lines that spoil the training of a translator, before training starts.

    Each kind of line has an action: `"error"` raises at the first one, `"drop"` leaves it out and says so in a
    `UserWarning`, `"keep"` only counts it.

    Args:
        pairs: sequence of `(source, target)` strings.
        max_length: int or `None`, the longest sentence allowed on either side.
        length: function from a string to its length. Defaults to the number of words between spaces; pass the length
            of a tokenizer's `encode` to count what the model reads.
        empty: action for pairs with an empty or blank side. Defaults to `"error"`.
        too_long: action for pairs with a side longer than `max_length`. Defaults to `"drop"`.
        identical: action for pairs whose sides are the same. Defaults to `"keep"`.
        duplicate: action for pairs that occurred before. Defaults to `"keep"`.
        names: pair of strings that name the sides in messages; pass the two paths.

    Returns:
        A `DataReport` with the pairs that are kept.

    Raises:
        CorpusError: a line of a kind whose action is `"error"`, or no pair is left.

    Example:

    >>> from keras_tfm.text import check_parallel
    >>> print(check_parallel([("a dog", "ein hund"), ("ok", "ok")]))
    2 pairs, 2 kept
      identical: 1 kept (line 2)
    """
    actions = {"empty": empty, "too long": too_long, "identical": identical, "duplicate": duplicate}
    for kind, action in actions.items():
        if action not in _ACTIONS:
            name = kind.replace(" ", "_")
            raise ValueError(f"`{name}` must be one of {_ACTIONS}. Received: {name}={action!r}")
    length = length or _count_words
    kept, seen, lines = [], set(), {kind: [] for kind in actions}
    for number, pair in enumerate(pairs, start=1):
        kinds = list(_kinds(pair, seen, max_length, length))
        for kind, message in kinds:
            if actions[kind] == "error":
                raise CorpusError(message.format(*(f"{name}:{number}" for name in names)))
            lines[kind].append(number)
        if not any(actions[kind] == "drop" for kind, _ in kinds):
            kept.append(tuple(pair))
        seen.add(tuple(pair))
    return _report(kept, len(pairs), lines, actions, names)


def _kinds(pair, seen, max_length, length):
    for side, text in enumerate(pair):
        if not text.strip():
            yield "empty", f"{{{side}}}: the line is empty"
            return
    if max_length is not None:
        longest = max((length(text), -side) for side, text in enumerate(pair))
        if longest[0] > max_length:
            yield "too long", f"{{{-longest[1]}}}: the sentence is longer than max_length={max_length}: {longest[0]}"
    if pair[0] == pair[1]:
        yield "identical", "{0}: the line is the same in {1}"
    if tuple(pair) in seen:
        yield "duplicate", "{0}: the pair occurred before (also {1})"


def _report(kept, num_pairs, lines, actions, names):
    findings = tuple(
        Finding(kind, actions[kind], len(numbers), tuple(numbers[:_SHOWN]))
        for kind, numbers in lines.items()
        if numbers
    )
    if num_pairs > len(kept):
        dropped = [finding for finding in findings if finding.action == "drop"]
        told = "; ".join(f"{f.count} {f.kind} ({_describe_lines(f.lines, f.count)})" for f in dropped)
        said = f"{' and '.join(map(str, names))}: dropped {num_pairs - len(kept)} of {num_pairs} pairs: {told}"
        if not kept:
            raise CorpusError(f"{said}; no pair is left")
        warnings.warn(said, stacklevel=3)
    if not kept:
        raise CorpusError(f"{' and '.join(map(str, names))}: there are no pairs")
    return DataReport(kept, num_pairs, findings)


def _describe_lines(lines, count):
    more = ", ..." if count > len(lines) else ""
    return f"line{'s' if count > 1 else ''} {', '.join(map(str, lines))}{more}"


def _count_words(text):
    return len(text.split())


def check_labels(train, other, *, name="the other data"):
    """Checks that every label of `other` occurs in the training data.

    Args:
        train: sequence of `TaggedSentence`, or of lists of labels.
        other: sequence of the same kind, for example the validation data.
        name: string that names `other` in the message; pass its path.

    Returns:
        A sorted list of the labels of `train`.

    Raises:
        CorpusError: a label was never seen in training; the message has sentence, token and label.

    Example:

    >>> from keras_tfm.text import TaggedSentence, check_labels
    >>> check_labels([TaggedSentence(["I", "saw"], ["PRON", "VERB"])], [TaggedSentence(["I"], ["PRON"])])
    ['PRON', 'VERB']
    """
    known = {label for sentence in train for label in _labels(sentence)}
    for number, sentence in enumerate(other, start=1):
        for position, label in enumerate(_labels(sentence), start=1):
            if label not in known:
                line = f" (it begins at line {sentence.line})" if getattr(sentence, "line", 0) else ""
                raise CorpusError(
                    f"{name}: sentence {number}{line}, token {position}: label {label!r} does not occur in training. "
                    f"Labels in training: {', '.join(sorted(map(str, known)))}"
                )
    return sorted(known)


def _labels(sentence):
    return getattr(sentence, "tags", sentence)


def check_token_ids(ids, vocabulary_size, *, name="ids"):
    """Checks that ids lie in the vocabulary. JAX answers others with NaN, silently.

    Args:
        ids: int array of any shape, or a list of lists of ints.
        vocabulary_size: int, ids must be in `[0, vocabulary_size)`.
        name: string that names `ids` in the message.

    Raises:
        ValueError: an id is negative or too large, or `ids` are not whole numbers.

    Example:

    >>> from keras_tfm.text import check_token_ids
    >>> check_token_ids([[4, 7], [5]], vocabulary_size=8)
    >>> check_token_ids([[4, 8], [5]], vocabulary_size=8)
    Traceback (most recent call last):
    ...
    ValueError: `ids` must be in [0, vocabulary_size). Received: ids from 4 to 8, vocabulary_size=8
    """
    ids = ids if isinstance(ids, np.ndarray) else _flatten(ids)
    if ids.size == 0:
        return
    if not np.issubdtype(ids.dtype, np.integer):
        raise ValueError(f"`{name}` must be whole numbers. Received: {name} of dtype {ids.dtype}")
    low, high = int(ids.min()), int(ids.max())
    if low < 0 or high >= vocabulary_size:
        raise ValueError(
            f"`{name}` must be in [0, vocabulary_size). Received: {name} from {low} to {high}, "
            f"vocabulary_size={vocabulary_size}"
        )


def _flatten(ids):
    arrays = [np.asarray(row) for row in ids]
    arrays = [row.ravel() for row in arrays if row.size]
    return np.concatenate(arrays) if arrays else np.zeros(0, np.int32)
