"""What the masked language model reads: sentences, with labels where there are any, as words or as pieces of words."""

from pathlib import Path

import ambiguous_words

from keras_tfm import text

KINDS = ("statement", "question", "command")


def read_sentences(path, num_sentences, seed):
    """Tagged sentences, drawn or of a CoNLL-U file; those of other text files have no tags."""
    if path is None:
        drawn = ambiguous_words.make_sentences(num_sentences, seed)
        return [text.TaggedSentence(list(words), list(tags)) for words, tags in drawn]
    if ".conllu" in Path(path).name:
        return text.read_conllu(path)
    rows = [line.split() for line in text.read_lines(path)]
    return [text.TaggedSentence(words, []) for words in rows if words]


def kind_of(sentence):
    """Whether a sentence states, asks or commands: by its last sign, and by a verb at its head."""
    if sentence.tokens[-1] == "?":
        return "question"
    return "command" if sentence.tags[0] == "VERB" else "statement"


class Pieces:
    """Words, or pieces of words, as ids; the id after the last hides a token.

    Args:
        tokenizer: a `Vocabulary` of words, or a `SubwordTokenizer`.
    """

    def __init__(self, tokenizer):
        self._tokenizer = tokenizer
        self._is_subword = isinstance(tokenizer, text.SubwordTokenizer)
        self.mask_id = tokenizer.vocabulary_size if self._is_subword else len(tokenizer)
        self.vocabulary_size = self.mask_id + 1

    @classmethod
    def learn(cls, token_rows, size):
        """All words, or as many pieces as `size` allows where it is not 0."""
        if size:
            return cls(text.SubwordTokenizer.train([" ".join(row) for row in token_rows], size))
        return cls(text.Vocabulary.from_counts(token for row in token_rows for token in row))

    def encode(self, tokens):
        """Ids of the words `tokens`, and for each the number of its word; "[MASK]" hides a word."""
        rows = (
            self._tokenizer.encode_batch(tokens) if self._is_subword else [[i] for i in self._tokenizer.encode(tokens)]
        )
        rows = [[self.mask_id] if token == "[MASK]" else row for token, row in zip(tokens, rows, strict=True)]
        return [i for row in rows for i in row], [number for number, row in enumerate(rows) for _ in row]

    def name(self, index):
        """What an id stands for."""
        if index == self.mask_id:
            return "[MASK]"
        return self._tokenizer.pieces([index])[0] if self._is_subword else self._tokenizer.tokens[index]

    def save(self, path):
        """Writes a JSON file."""
        self._tokenizer.save(path)

    @classmethod
    def load(cls, path, size):
        """Reads what `save` wrote; `size` as in `learn`."""
        return cls((text.SubwordTokenizer if size else text.Vocabulary).load(path))


def tagging_batches(sentences, pieces, labels, **options):
    """Each piece with the part of speech of its word."""
    encoded = [pieces.encode(sentence.tokens) for sentence in sentences]
    tags = [labels.encode(sentence.tags) for sentence in sentences]
    rows = [[row[word] for word in words] for row, (_, words) in zip(tags, encoded, strict=True)]
    return text.TaggingBatches([ids for ids, _ in encoded], rows, **options)


def kind_batches(sentences, pieces, labels, **options):
    """Sentences without their last sign, which would tell too much, and what kind they are."""
    del labels
    long = [sentence for sentence in sentences if len(sentence.tokens) > 1]
    ids = [pieces.encode(sentence.tokens[:-1])[0] for sentence in long]
    return text.ClassificationBatches(ids, [KINDS.index(kind_of(sentence)) for sentence in long], **options)
