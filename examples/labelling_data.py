"""Where the sentences of the labelling example come from, and how their words, characters and labels become ids."""

from pathlib import Path

import ambiguous_words

from keras_tfm import text

FILES = {
    "ewt": ("en_ewt-ud-train.conllu", "en_ewt-ud-dev.conllu"),
    "wnut17": ("wnut17train.conll", "emerging.dev.conll"),
}


def read_sentences(task, folder, num_sentences, seed):
    """Training and held-out sentences of a task; a folder may hold the files, or a folder named after the task."""
    if task == "ambiguous":
        drawn = ambiguous_words.make_sentences(num_sentences, seed)
        sentences = [text.TaggedSentence(list(words), list(tags)) for words, tags in drawn]
        held_out = min(1000, num_sentences // 10)
        return sentences[held_out:], sentences[:held_out]
    folder = Path(folder, task) if Path(folder, task).is_dir() else Path(folder)
    read = text.read_conllu if task == "ewt" else text.read_columns
    train, held_out = (read(folder / name) for name in FILES[task])
    text.check_labels(train, held_out, name=FILES[task][1])
    return train, held_out


class Vocabularies:
    """Words, characters and labels as ids; words are lower-cased, characters tell what was lost."""

    def __init__(self, words, characters, labels):
        self.words, self.characters, self.labels = words, characters, labels

    @classmethod
    def collect(cls, sentences, min_count):
        """Collects all that occurs in the sentences; rarer words than `min_count` are left to their characters."""
        tokens = [token for sentence in sentences for token in sentence.tokens]
        words = text.Vocabulary.from_counts(map(str.lower, tokens), min_count=min_count)
        characters = text.Vocabulary.from_counts(char for token in tokens for char in token)
        return cls(words, characters, text.Vocabulary(text.check_labels(sentences, []), specials=("<pad>",)))

    def save(self, folder):
        """Writes three JSON files."""
        for name, vocabulary in vars(self).items():
            vocabulary.save(Path(folder, f"{name}.json"))

    @classmethod
    def load(cls, folder):
        """Reads what `save` wrote."""
        return cls(*(text.Vocabulary.load(Path(folder, f"{name}.json")) for name in ("words", "characters", "labels")))

    def batches(self, token_rows, tag_rows=None, **options):
        """Batches of sentences, with their labels where there are any."""
        return text.TaggingBatches(
            [self.words.encode(map(str.lower, tokens)) for tokens in token_rows],
            None if tag_rows is None else [self.labels.encode(tags) for tags in tag_rows],
            character_ids=[[self.characters.encode(token) for token in tokens] for tokens in token_rows],
            **options,
        )
