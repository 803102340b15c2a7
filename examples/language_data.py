"""What a language model reads: text of files or of a small grammar, tokens of three kinds, and windows of them.

>>> text = draw_text(2, seed=0)
>>> text.count("\\n"), len(ByteTokens().encode(text)) == len(text)
(2, True)
"""

import random
from pathlib import Path

import numpy as np
from ambiguous_words import CLASSES, RULES, draw_shape

from keras_tfm import text as corpus


def draw_text(num_sentences, seed=0):
    """Draws sentences of the grammar of `ambiguous_words`, one a line."""
    draw = random.Random(seed)
    rows = (draw_shape(draw) for _ in range(num_sentences))
    return "".join(" ".join(draw.choice(CLASSES[name][1].split()) for name in row) + "\n" for row in rows)


def rows_of_grammar(names="sentence"):
    """Yields every row of word classes that a row of names can become, with its probability; a row may come twice."""
    head, _, rest = names.partition(" ")
    ways = RULES[head].split("|") if head in RULES else None
    heads = [((head,) * (head != "_"), 1.0)]
    if ways:
        heads = [(row, p / len(ways)) for way in ways for row, p in rows_of_grammar(" ".join(way.split()))]
    tails = list(rows_of_grammar(rest)) if rest else [((), 1.0)]
    yield from ((row + tail, p * q) for row, p in heads for tail, q in tails)


def bits_of_grammar(text):
    """The bits per character that the grammar itself needs for whole sentences it drew: no model can do better."""
    chances = {name: {word: 1 / len(words.split()) for word in words.split()} for name, (_, words) in CLASSES.items()}
    rows = {}
    for row, p in rows_of_grammar():
        rows.setdefault(len(row), []).append((row, p))
    bits = 0.0
    for sentence in text.splitlines():
        words = sentence.split()
        total = 0.0
        for row, p in rows[len(words)]:
            for name, word in zip(row, words, strict=True):
                p *= chances[name].get(word, 0.0)
                if not p:
                    break
            total += p
        bits -= np.log2(total)
    return float(bits / len(text))


def read_text(path):
    """The text of a file, or of all `.txt` and `.txt.gz` files in a folder."""
    path = Path(path)
    files = (
        sorted(file for file in path.iterdir() if file.name.endswith((".txt", ".txt.gz"))) if path.is_dir() else [path]
    )
    if not files:
        raise SystemExit(f"{path}: the folder has no .txt or .txt.gz file")
    return "".join(line + "\n" for file in files for line in corpus.read_lines(file))


class CharacterTokens:
    """A character a token; those that training has not seen are unknown."""

    special_ids = range(4)

    def __init__(self, vocabulary):
        self.vocabulary, self.vocabulary_size = vocabulary, len(vocabulary)

    @classmethod
    def learn(cls, text, size):
        return cls(corpus.Vocabulary.from_counts(text))

    def encode(self, text):
        return self.vocabulary.encode(text)

    def decode(self, ids):
        return "".join(self.vocabulary.decode(ids))

    def save(self, path):
        self.vocabulary.save(path)

    @classmethod
    def load(cls, path):
        return cls(corpus.Vocabulary.load(path))


class ByteTokens:
    """A byte of UTF-8 a token: nothing to learn, nothing unknown."""

    vocabulary_size, special_ids = 256, ()

    @classmethod
    def learn(cls, text, size):
        return cls()

    def encode(self, text):
        return list(text.encode())

    def decode(self, ids):
        return bytes(ids).decode(errors="replace")

    def save(self, path):
        """Nothing to write."""

    @classmethod
    def load(cls, path):
        return cls()


class SubwordTokens(corpus.SubwordTokenizer):
    """Pieces of words; line ends are characters like others."""

    special_ids = range(4)

    @classmethod
    def learn(cls, text, size):
        return cls.train(text.splitlines(keepends=True), size)


TOKENS = {"char": CharacterTokens, "byte": ByteTokens, "subword": SubwordTokens}


class TextWindows(corpus.ResumableDataset):
    """Cuts a long text into windows; the targets are the tokens that follow, and -1 in rows that fill up a batch.

    Args:
        ids: list of ints, the tokens of the text.
        length: int, T; each epoch begins at another token, so that windows end elsewhere.
        batch_size: int, B.
        shuffle, seed: as `ResumableDataset` has them.
    """

    def __init__(self, ids, length, batch_size, *, shuffle=True, seed=0):
        self._ids, self._length, self._batch_size = np.asarray(ids, "int32"), length, batch_size
        if len(self._ids) < 2 * length:
            raise SystemExit(f"the text must have two windows of {length} tokens at least; it has {len(ids)} tokens")
        super().__init__(shuffle=shuffle, seed=seed)

    @property
    def num_tokens(self):
        """How many tokens of an epoch are targets."""
        return (len(self._ids) - self._length) // self._length * self._length

    def plan(self, rng):
        offset = 0 if rng is None else rng.integers(self._length)
        starts = offset + self._length * np.arange(self.num_tokens // self._length)
        starts = starts if rng is None else rng.permutation(starts)
        starts = np.append(starts, np.full(-len(starts) % self._batch_size, -1))
        return list(starts.reshape(-1, self._batch_size))

    def make_batch(self, item):
        windows = self._ids[np.maximum(item, 0)[:, None] + np.arange(self._length + 1)]
        return windows[:, :-1], np.where(item[:, None] < 0, np.int32(-1), windows[:, 1:])
