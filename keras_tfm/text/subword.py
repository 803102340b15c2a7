"""Subword tokenizers: words cut into frequent pieces, so that no word is unknown."""

import json

from keras_tfm.text.json_file import parse_json, read_json, write_json
from keras_tfm.text.subword_model import ALGORITHMS, CONTINUED, SPACE, restore_tokenizer, train_tokenizer
from keras_tfm.text.vocabulary import SPECIALS

_KIND = "keras_tfm.subword_tokenizer"


class SubwordTokenizer:
    """Turns text into ids of subword pieces and back, with every space where it was.

    A space becomes the mark `▁` at the head of the piece that follows it; nothing else of the text is changed or
    stripped. Text that spells a special token (`<pad>`) never encodes to its id. The work is done by the Hugging Face
    `tokenizers` library. Make one with `train`, `load` or `from_json`.

    Args:
        tokenizer: a `tokenizers.Tokenizer` whose first four ids are pad, start, end and unknown.

    Reference:
        Sennrich et al. 2016 (BPE); Kudo 2018 (unigram); Wu et al. 2016 (word pieces).

    Example:

    >>> from keras_tfm.text import SubwordTokenizer
    >>> tokenizer = SubwordTokenizer.train(["low lower lowest", "new newer newest"] * 9, vocabulary_size=24)
    >>> ids = tokenizer.encode("lower  newest")
    >>> tokenizer.decode(ids)
    'lower  newest'
    >>> tokenizer.pad_id, tokenizer.start_id, tokenizer.end_id, tokenizer.unknown_id
    (0, 1, 2, 3)
    """

    def __init__(self, tokenizer):
        self._tokenizer = tokenizer
        self._is_wordpiece = type(tokenizer.model).__name__ == "WordPiece"

    @classmethod
    def train(
        cls,
        texts,
        vocabulary_size,
        algorithm="bpe",
        *,
        lowercase=False,
        unicode_form=None,
        max_alphabet=None,
        specials=SPECIALS,
    ):
        """Learns pieces from text.

        The same text gives the same tokenizer with `"bpe"` and `"wordpiece"`. With `"unigram"` the library breaks ties
        between equally likely pieces at random, and it needs a fifth more pieces than BPE for the same sentences.

        Args:
            texts: iterable of strings; for a vocabulary shared by two languages, those of both.
            vocabulary_size: int, the most ids to use, the special ones included.
            algorithm: `"bpe"` (default; merges of frequent pairs), `"unigram"` (most likely segmentation) or
                `"wordpiece"` (longest match with pieces found as for `"bpe"`).
            lowercase: bool, whether to lower-case all text. Defaults to `False`.
            unicode_form: `"NFC"`, `"NFD"`, `"NFKC"`, `"NFKD"` or `None` (default): leave the text as it is.
            max_alphabet: int or `None`, the most characters to know; the rarest become unknown. `None` knows all.
            specials: four strings that name pad, start, end and unknown, whose ids are 0 to 3.

        Returns:
            A `SubwordTokenizer`.

        Raises:
            ImportError: `tokenizers` is not installed.
            ValueError: unknown algorithm, no text, or a vocabulary too small for the alphabet.
        """
        if algorithm not in ALGORITHMS:
            raise ValueError(f"`algorithm` must be one of {ALGORITHMS}. Received: algorithm={algorithm!r}")
        if len(specials) != len(SPECIALS):
            raise ValueError(f"`specials` must name pad, start, end and unknown. Received: specials={specials}")
        texts = list(texts)
        if not any(texts):
            raise ValueError(f"`texts` must hold text to learn from. Received: {len(texts)} texts without a character")
        return cls(train_tokenizer(texts, vocabulary_size, algorithm, lowercase, unicode_form, max_alphabet, specials))

    pad_id, start_id, end_id, unknown_id = 0, 1, 2, 3

    @property
    def vocabulary_size(self):
        """Number of ids, the special ones included."""
        return self._tokenizer.get_vocab_size()

    def encode(self, text, *, dropout=None):
        """Turns text into ids, without start and end.

        Args:
            text: string.
            dropout: float in [0, 1] or `None`; with BPE, the probability of skipping each merge, which segments the
                same text differently every time (Provilkov et al. 2020). Its randomness cannot be seeded.

        Returns:
            A list of ints.
        """
        return self.encode_batch([text], dropout=dropout)[0]

    def encode_batch(self, texts, *, dropout=None):
        """Turns many texts into ids, on all processor cores.

        Args:
            texts: sequence of strings.
            dropout: as in `encode`.

        Returns:
            A list of lists of ints.
        """
        tokenizer = self._dropping_tokenizer(dropout) if dropout else self._tokenizer
        return [self._guard(encoding.ids) for encoding in tokenizer.encode_batch(list(texts))]

    def decode(self, ids):
        """Turns ids into text; special ids, unknown included, are left out.

        Args:
            ids: iterable of ints, for example one row that beam search returned.

        Returns:
            A string.

        Raises:
            ValueError: an id is not in the vocabulary.
        """
        pieces = self.pieces(index for index in ids if not 0 <= index <= self.unknown_id)
        if self._is_wordpiece:
            pieces = [piece.removeprefix(CONTINUED) for piece in pieces]
        return "".join(pieces).replace(SPACE, " ").removeprefix(" ")

    def pieces(self, ids):
        """The pieces as strings, with the mark `▁` where a space was: labels for a picture.

        Args:
            ids: iterable of ints.

        Returns:
            A list of strings.

        Raises:
            ValueError: an id is not in the vocabulary.
        """
        size = self.vocabulary_size
        pieces = []
        for index in ids:
            if not 0 <= index < size:
                raise ValueError(f"`ids` must be in [0, vocabulary_size={size}). Received: {index}")
            pieces.append(self._tokenizer.id_to_token(int(index)))
        return pieces

    def save(self, path):
        """Writes the tokenizer as JSON; an interruption leaves an older file intact.

        Args:
            path: file to write.
        """
        write_json(path, self._content())

    @classmethod
    def load(cls, path):
        """Reads a tokenizer that `save` wrote.

        Args:
            path: file to read.

        Returns:
            A `SubwordTokenizer`.

        Raises:
            ValueError: the file is missing, damaged or of another kind.
        """
        try:
            return cls(restore_tokenizer(read_json(path, _KIND).get("tokenizer")))
        except ValueError as error:
            raise ValueError(str(error) if str(path) in str(error) else f"{path}: {error}") from error

    def to_json(self):
        """The tokenizer as a string, to store inside another file."""
        return json.dumps(self._content(), ensure_ascii=False)

    @classmethod
    def from_json(cls, text):
        """Makes the tokenizer that `to_json` described.

        Args:
            text: string.

        Returns:
            A `SubwordTokenizer`.

        Raises:
            ValueError: the text is damaged or of another kind.
        """
        return cls(restore_tokenizer(parse_json(text, _KIND).get("tokenizer")))

    def _content(self):
        return {"kind": _KIND, "tokenizer": json.loads(self._tokenizer.to_str())}

    def _guard(self, ids):
        """Unknown instead of pad, start and end: a text that spells "<pad>" must not act as padding."""
        if min(ids, default=self.unknown_id) >= self.unknown_id:
            return ids
        return [max(index, self.unknown_id) for index in ids]

    def _dropping_tokenizer(self, dropout):
        """A copy, since the rate is a property of the model that other threads may be using."""
        if type(self._tokenizer.model).__name__ != "BPE":
            raise ValueError(f"`dropout` skips merges, which only BPE has. Received: dropout={dropout}")
        if not 0 <= dropout <= 1:
            raise ValueError(f"`dropout` must be in [0, 1]. Received: dropout={dropout}")
        tokenizer = type(self._tokenizer).from_str(self._tokenizer.to_str())
        tokenizer.model.dropout = dropout
        return tokenizer
