"""Words, characters or labels as ids."""

from collections import Counter

from keras_tfm.text.json_file import read_json, write_json

SPECIALS = ("<pad>", "<start>", "<end>", "<unknown>")
_KIND = "keras_tfm.vocabulary"


class Vocabulary:
    """An unchangeable list of tokens and the ids at which they stand.

    It serves words, characters and labels alike. The special tokens come first, so that with the default ones
    `pad_id=0, start_id=1, end_id=2, unknown_id=3`. Labels need no unknown: give them `specials=("<pad>",)`, and id 0
    stays free for the padding that losses and metrics ignore.

    Args:
        tokens: iterable of strings, without the special ones; none twice.
        specials: tuple of strings: pad, start, end and unknown in this order; later ones may be left out. Defaults to
            `("<pad>", "<start>", "<end>", "<unknown>")`.

    Raises:
        ValueError: a token occurs twice or is not a string, or there are more than four specials.

    Example:

    >>> from keras_tfm.text import Vocabulary
    >>> words = Vocabulary.from_counts("the dog sees the cat".split(), min_count=1)
    >>> words.encode(["the", "cat", "flies"])
    [4, 5, 3]
    >>> words.decode([4, 6, 0, 0])
    ['the', 'dog']
    >>> labels = Vocabulary(["NOUN", "VERB"], specials=("<pad>",))
    >>> "VERB" in labels, len(labels), labels.pad_id, labels.unknown_id
    (True, 3, 0, None)
    """

    __slots__ = ("_ids", "_num_specials", "_tokens")

    def __init__(self, tokens, specials=SPECIALS):
        specials = tuple(specials)
        if len(specials) > len(SPECIALS):
            raise ValueError(f"`specials` are at most pad, start, end and unknown. Received: specials={specials}")
        all_tokens = specials + tuple(tokens)
        for token in all_tokens:
            if not isinstance(token, str):
                raise ValueError(f"`tokens` must be strings. Received: {token!r} of type {type(token).__name__}")
        ids = {token: index for index, token in enumerate(all_tokens)}
        if len(ids) < len(all_tokens):
            twice = next(token for token, count in Counter(all_tokens).items() if count > 1)
            raise ValueError(f"`tokens` must not hold a token twice, specials included. Received: {twice!r} twice")
        object.__setattr__(self, "_tokens", all_tokens)
        object.__setattr__(self, "_ids", ids)
        object.__setattr__(self, "_num_specials", len(specials))

    @classmethod
    def from_counts(cls, counts, *, min_count=1, max_size=None, specials=SPECIALS):
        """Makes a vocabulary of the most frequent tokens; equally frequent ones stand in the order of the alphabet.

        Args:
            counts: dict from token to count, or an iterable of tokens to count.
            min_count: int, rarer tokens are left out. Defaults to `1`.
            max_size: int or `None`, the most tokens to hold, specials included.
            specials: as in the constructor.

        Returns:
            A `Vocabulary`.
        """
        if max_size is not None and max_size < len(specials):
            raise ValueError(f"`max_size` must hold the {len(specials)} specials. Received: max_size={max_size}")
        counts = Counter(counts)
        ranked = sorted((token for token in counts if counts[token] >= min_count), key=lambda t: (-counts[t], t))
        ranked = [token for token in ranked if token not in specials]
        return cls(ranked if max_size is None else ranked[: max_size - len(specials)], specials)

    @property
    def tokens(self):
        """All tokens as a tuple; a token stands at its id."""
        return self._tokens

    @property
    def pad_id(self):
        """Id of the padding token, `None` without one."""
        return self._special_id(0)

    @property
    def start_id(self):
        """Id of the token before the first, `None` without one."""
        return self._special_id(1)

    @property
    def end_id(self):
        """Id of the token after the last, `None` without one."""
        return self._special_id(2)

    @property
    def unknown_id(self):
        """Id that stands for every token that is not in the vocabulary, `None` without one."""
        return self._special_id(3)

    def encode(self, tokens):
        """Turns tokens into ids.

        Args:
            tokens: iterable of strings; a string is taken character by character.

        Returns:
            A list of ints.

        Raises:
            ValueError: a token is not in the vocabulary, and it has no unknown token.
        """
        unknown = self.unknown_id
        if unknown is not None:
            return [self._ids.get(token, unknown) for token in tokens]
        try:
            return [self._ids[token] for token in tokens]
        except KeyError as error:
            raise ValueError(
                f"`tokens` must be in the vocabulary, which has no unknown token. Received: {error.args[0]!r}"
            ) from error

    def decode(self, ids):
        """Turns ids into tokens; pad, start and end are left out.

        Args:
            ids: iterable of ints.

        Returns:
            A list of strings.

        Raises:
            ValueError: an id is not in the vocabulary.
        """
        silent = range(min(self._num_specials, 3))
        return [self._token(int(index)) for index in ids if index not in silent]

    def save(self, path):
        """Writes the vocabulary as JSON; an interruption leaves an older file intact.

        Args:
            path: file to write.
        """
        count = self._num_specials
        write_json(path, {"kind": _KIND, "specials": self._tokens[:count], "tokens": self._tokens[count:]})

    @classmethod
    def load(cls, path):
        """Reads a vocabulary that `save` wrote.

        Args:
            path: file to read.

        Returns:
            A `Vocabulary`.

        Raises:
            ValueError: the file is missing, damaged or of another kind.
        """
        content = read_json(path, _KIND)
        if not isinstance(content.get("tokens"), list) or not isinstance(content.get("specials"), list):
            raise ValueError(f"{path}: the vocabulary lacks its tokens or specials")
        return cls(content["tokens"], tuple(content["specials"]))

    def _special_id(self, index):
        return index if index < self._num_specials else None

    def _token(self, index):
        if not 0 <= index < len(self._tokens):
            raise ValueError(f"`ids` must be in [0, {len(self._tokens)}). Received: {index}")
        return self._tokens[index]

    def __setattr__(self, name, value):
        raise AttributeError(f"a Vocabulary cannot be changed. Received: {name}={value!r}")

    def __contains__(self, token):
        return token in self._ids

    def __len__(self):
        return len(self._tokens)

    def __eq__(self, other):
        if not isinstance(other, Vocabulary):
            return NotImplemented
        return self._tokens == other._tokens and self._num_specials == other._num_specials

    def __hash__(self):
        return hash(self._tokens)

    def __repr__(self):
        return f"Vocabulary({len(self)} tokens, specials={self._tokens[: self._num_specials]})"
