"""Where the sentence pairs of the translation example come from, and how their text becomes ids."""

import os
import re
import tempfile
import urllib.request
from pathlib import Path
from typing import NamedTuple

import phrases

from keras_tfm import text

MULTI30K = "https://raw.githubusercontent.com/multi30k/dataset/master/data/task1"
TOKENIZED = "lc.norm.tok"


class Corpus(NamedTuple):
    """Sentence pairs to train on and held-out ones to translate.

    Args:
        train: list of `(source, target)` strings.
        held_out: list of `(source, target)` strings.
        bleu_tokenizer: how sacrebleu is to cut the target: "none" where words are cut already, "zh", or "13a".
    """

    train: list
    held_out: list
    bleu_tokenizer: str


def read_corpus(folder=None, pairs=None, source="en", target="zh", num_phrases=31_000, seed=0):
    """Reads a corpus: the file `pairs`, what the folder has for the two languages, or drawn phrases without either."""
    if pairs is not None:
        return _read_pairs_file(Path(pairs), target, seed)
    if folder is None:
        train, held_out = phrases.split(phrases.make_pairs(num_phrases, seed), held_out=min(1000, num_phrases // 10))
        return Corpus(train, held_out, "zh")
    found = sorted(Path(folder).glob("*.train.tsv*"))
    if found:
        return _read_pairs_file(found[0], target, seed)
    return _read_multi30k(Path(folder), source, target)


def _read_pairs_file(path, target, seed):
    pairs = text.read_pairs(path)
    other = path.with_name(path.name.replace("train", "dev"))
    cut = "zh" if target in ("zh", "cmn") else "13a"
    if other != path and other.exists():
        return Corpus(pairs, text.read_pairs(other), cut)
    return Corpus(*phrases.split(pairs, held_out=min(1000, len(pairs) // 10), seed=seed), cut)


def _read_multi30k(folder, source, target):
    folder = folder / "multi30k" if (folder / "multi30k").is_dir() else folder
    is_tokenized = any(folder.glob(f"train.{TOKENIZED}.{source}*"))
    infix = f".{TOKENIZED}" if is_tokenized else ""
    names = [(f"{part}{infix}.{source}", f"{part}{infix}.{target}") for part in ("train", "val")]
    train, held_out = (text.read_parallel(folder / one, folder / other) for one, other in names)
    return Corpus(train, held_out, "none" if is_tokenized else "13a")


def download_multi30k(folder, languages, address=MULTI30K):
    """Fetches the files of Multi30k that are not in `folder/multi30k` yet; a file is whole and checked, or absent."""
    folder = Path(folder) / "multi30k"
    folder.mkdir(parents=True, exist_ok=True)
    for part in ("train", "val", "test_2016_flickr"):
        for language in languages:
            for name in (f"tok/{part}.{TOKENIZED}.{language}", f"raw/{part}.{language}.gz"):
                path = folder / Path(name).name
                if not path.exists():
                    print(f"fetching {address}/{name}")
                    _download(f"{address}/{name}", path)


def _download(address, path):
    handle, temporary = tempfile.mkstemp(dir=path.parent, suffix=path.suffix)
    try:
        with os.fdopen(handle, "wb") as file, urllib.request.urlopen(address, timeout=60) as response:
            while block := response.read(1 << 20):
                file.write(block)
        text.read_lines(temporary)  # refuses what is empty, truncated, or no text
        os.replace(temporary, path)
    except Exception as error:
        raise SystemExit(f"{address} could not be fetched: {error}") from error
    finally:
        Path(temporary).unlink(missing_ok=True)


class TokenList:
    """Words or characters as ids, each one a token; the same methods as `keras_tfm.text.SubwordTokenizer`."""

    def __init__(self, vocabulary, unit):
        self.vocabulary, self.unit = vocabulary, unit

    @classmethod
    def train(cls, texts, unit):
        """Collects the tokens of the texts; `unit` is "word" or "character"."""
        return cls(text.Vocabulary.from_counts(token for line in texts for token in cut(line, unit)), unit)

    @property
    def vocabulary_size(self):
        """Number of ids."""
        return len(self.vocabulary)

    def encode_batch(self, texts):
        """Turns texts into lists of ids."""
        return [self.vocabulary.encode(cut(line, self.unit)) for line in texts]

    def pieces(self, ids):
        """The tokens as strings."""
        return [self.vocabulary.tokens[index] for index in ids]

    def decode(self, ids):
        """Turns ids into text."""
        return (" " if self.unit == "word" else "").join(self.vocabulary.decode(ids))

    def save(self, path):
        """Writes the vocabulary as JSON."""
        self.vocabulary.save(path)


def cut(line, unit):
    """Cuts a line into words and signs, or into characters."""
    return re.findall(r"\w+|[^\w\s]", line) if unit == "word" else list(line)


def train_tokenizers(corpus, pieces):
    """The tokenizers of source and target: one of `pieces` subwords for both, or words and characters for 0."""
    sources, targets = zip(*corpus.train, strict=True)
    if pieces:
        joint = text.SubwordTokenizer.train([*sources, *targets], pieces)
        return joint, joint
    return TokenList.train(sources, "word"), TokenList.train(targets, "character")


def save_tokenizers(tokenizers, folder):
    """Writes the tokenizers next to the model."""
    for tokenizer, name in zip(tokenizers, ("source.json", "target.json"), strict=True):
        tokenizer.save(Path(folder, name))


def load_tokenizers(folder, pieces):
    """Reads what `save_tokenizers` wrote."""
    source, target = Path(folder, "source.json"), Path(folder, "target.json")
    if pieces:
        joint = text.SubwordTokenizer.load(source)
        return joint, joint
    return TokenList(text.Vocabulary.load(source), "word"), TokenList(text.Vocabulary.load(target), "character")
