"""How fast is Word2Vec, and are its vectors as good? Ours against gensim: same corpus, same settings, in one run.

    KERAS_BACKEND=jax python -m benchmarks.word2vec [--data DIR] [--epochs 5] [--rounds 3] [--write]

Tiny Shakespeare of the folder of data sets, words in small letters; without the folder, sentences of a generated
corpus. Skip-gram and CBOW with negative sampling: 100 columns, window 5, 5 negatives, subsampling 1e-3. gensim runs as
it comes (rate 0.025, falling, one update a pair), in as many threads as there are cores; ours takes `pairwise_sgd`, the
same rate for each pair, in batches of 2,048 words. A round is all epochs, from new vectors; counted are words of the
corpus that are read in a second, whether subsampling keeps them or not. Counting the vocabulary is left out;
compilation is in `with compilation`, and not in the rounds.

Quality: the loss of held-out pairs, by one numpy function for both pairs of tables with the same negatives; how many of
the 10 nearest words the two have in common, for the 300 most frequent words; the correlation of their cosines. Two runs
of gensim with different seeds say how much agreement there can be.
"""

import argparse
import gzip
import os
import pathlib
import re
import time
from collections import Counter
from typing import NamedTuple

import keras
import numpy as np

from benchmarks import contest
from keras_tfm import models, text


class Setting(NamedTuple):
    """What all contestants have in common, and the sizes of ours."""

    embedding_dim: int = 100
    window: int = 5
    num_negatives: int = 5
    epochs: int = 5
    min_count: int = 3
    tokens_per_batch: int = 2048
    probed: int = 300


class Corpus(NamedTuple):
    """Sentences as rows of ids from 1, ids ranked by frequency."""

    train: list
    held_out: list
    vocabulary_size: int


def read_corpus(data, min_count):
    """Tiny Shakespeare if the folder has it, else a generated text; the last tenth is held out."""
    path = pathlib.Path(data or "", "tinyshakespeare", "input.txt.gz")
    if data and path.is_file():
        lines = gzip.open(path, "rt", encoding="utf-8").read().lower().splitlines()
        return number([words for words in (re.findall(r"[a-z']+", line) for line in lines) if words], min_count)
    return number(generate(4000), min_count)


def generate(num, seed=0):
    """Sentences in which words of one of 40 topics stand together."""
    rng = np.random.default_rng(seed)
    weights = 1 / np.arange(1, 31)
    topics = rng.integers(40, size=num)
    drawn = rng.choice(30, (num, 12), p=weights / weights.sum())
    return [[f"{topic}.{word}" for word in row] for topic, row in zip(topics, drawn, strict=True)]


def number(sentences, min_count):
    """Words become ids; those that are rare in training are left out."""
    split = len(sentences) - len(sentences) // 10
    counts = Counter(word for words in sentences[:split] for word in words)
    frequent = [word for word, count in counts.most_common() if count >= min_count]
    id_of = {word: index for index, word in enumerate(frequent, 1)}
    rows = [[id_of[word] for word in words if word in id_of] for words in sentences]
    train, held_out = ([row for row in part if row] for part in (rows[:split], rows[split:]))
    return Corpus(train, held_out, len(id_of) + 1)


def batches_of(rows, corpus, setting, **options):
    return text.Word2VecBatches(
        rows,
        vocabulary_size=corpus.vocabulary_size,
        window=setting.window,
        tokens_per_batch=setting.tokens_per_batch,
        **options,
    )


class Ours:
    """Word2Vec of this package; the model is compiled once and starts anew each round."""

    def __init__(self, corpus, architecture, setting):
        self.batches = batches_of(corpus.train, corpus, setting)
        self.epochs = setting.epochs
        self.model = models.Word2Vec(
            corpus.vocabulary_size,
            setting.embedding_dim,
            architecture=architecture,
            num_negatives=setting.num_negatives,
        )
        self.model.compile(self.model.pairwise_sgd(self.batches, setting.epochs))
        self.model.optimizer.build(self.model.trainable_variables)
        self.start = [variable.numpy() for variable in self.state]

    @property
    def state(self):
        return [*self.model.variables, *self.model.optimizer.variables]

    def train(self):
        for variable, value in zip(self.state, self.start, strict=True):
            variable.assign(value)
        self.batches.seek(0)
        self.model.fit(self.batches, epochs=self.epochs, verbose=0, shuffle=False)

    def tables(self):
        return self.model.vectors, self.model.output_vectors


class Gensim:
    """gensim's Word2Vec; the vocabulary is counted beforehand."""

    def __init__(self, corpus, architecture, setting, seed=1):
        from gensim.models import Word2Vec

        self.sentences = [[str(index) for index in row] for row in corpus.train]
        self.options = dict(
            vector_size=setting.embedding_dim,
            window=setting.window,
            negative=setting.num_negatives,
            sg=int(architecture == "skip_gram"),
            epochs=setting.epochs,
            min_count=1,
            sample=1e-3,
            seed=seed,
            workers=len(os.sched_getaffinity(0)),
        )
        self.make, self.size = Word2Vec, corpus.vocabulary_size
        self.prepare()

    def prepare(self):
        self.model = self.make(**self.options)
        self.model.build_vocab(self.sentences)

    def train(self):
        self.model.train(self.sentences, total_examples=len(self.sentences), epochs=self.model.epochs)

    def tables(self):
        ids = [int(word) for word in self.model.wv.index_to_key]
        tables = []
        for vectors in (self.model.wv.vectors, self.model.syn1neg):
            tables.append(np.zeros((self.size, vectors.shape[1]), "float32"))
            tables[-1][ids] = vectors
        return tuple(tables)


def timed(contestants, rounds):
    """Seconds of each round by name, in turns; new vectors each time, made off the clock."""
    seconds = {name: [] for name in contestants}
    for _ in range(rounds):
        for name, contestant in contestants.items():
            if isinstance(contestant, Gensim):
                contestant.prepare()
            start = time.perf_counter()
            contestant.train()
            seconds[name].append(time.perf_counter() - start)
    return seconds


def held_out_windows(corpus, setting):
    """Words of held-out text: `(centers [P], contexts [P, 2 W], 0 where there is none, negatives [P, 5])`."""
    width = 2 * setting.window
    centers, contexts = [], []
    for row in corpus.held_out:
        padded = np.pad(row, setting.window)
        for place, word in enumerate(row):
            centers.append(word)
            contexts.append(np.delete(padded[place : place + width + 1], setting.window))
    probabilities = batches_of(corpus.train, corpus, setting).negative_probabilities
    shape = (len(centers), setting.num_negatives)
    negatives = np.random.default_rng(1).choice(corpus.vocabulary_size, shape, p=probabilities)
    return np.array(centers), np.array(contexts), negatives


def held_out_loss(tables, windows, architecture):
    """The mean negative-sampling loss of a pair, equation 4 of Mikolov et al. 2013b, in float64."""
    inner, outer = (table.astype(np.float64) for table in tables)
    centers, contexts, negatives = windows
    if architecture == "cbow":
        is_word = (contexts > 0)[:, :, None]
        hidden = (inner[contexts] * is_word).sum(1) / np.maximum(is_word.sum(1), 1)
        hidden, targets, negatives = (array[is_word.any(axis=(1, 2))] for array in (hidden, centers, negatives))
    else:
        rows, places = np.nonzero(contexts)
        hidden, targets, negatives = inner[centers[rows]], contexts[rows, places], negatives[rows]
    positive = np.einsum("pd,pd->p", hidden, outer[targets])
    noise = np.einsum("pd,pkd->pk", hidden, outer[negatives])
    noise = np.logaddexp(0, noise) * (negatives != targets[:, None])
    return float(np.mean(np.logaddexp(0, -positive) + noise.sum(axis=1)))


def cosines(tables):
    vectors = tables[0][1:] - 0.0
    vectors /= np.maximum(np.linalg.norm(vectors, axis=1, keepdims=True), 1e-12)
    return vectors @ vectors.T


def agreement(first, second, probed):
    """(share of the 10 nearest words in common, correlation of the cosines) of the most frequent words."""
    near = []
    for tables in (first, second):
        values = cosines(tables)
        np.fill_diagonal(values, -np.inf)
        near.append(np.argsort(-values[:probed], axis=1)[:, :10])
    shared = np.mean([len(set(one) & set(other)) / len(one) for one, other in zip(*near, strict=True)])
    upper = np.triu_indices(min(probed, len(first[0]) - 1), 1)
    return float(shared), float(np.corrcoef(cosines(first)[upper], cosines(second)[upper])[0, 1])


def contest_of(corpus, architecture, setting, rounds):
    """A Markdown table of one architecture."""
    contestants = {"keras_tfm": Ours(corpus, architecture, setting)}
    start = time.perf_counter()
    contestants["keras_tfm"].train()
    first = time.perf_counter() - start
    contestants |= contest.make_all({"gensim": Gensim}, corpus, architecture, setting)
    seconds = timed(contestants, rounds)
    tables = {name: contestant.tables() for name, contestant in contestants.items()}
    if "gensim" in tables:
        again = Gensim(corpus, architecture, setting, seed=2)
        again.train()
        tables["gensim, other seed"] = again.tables()
    windows = held_out_windows(corpus, setting)
    words = setting.epochs * contestants["keras_tfm"].batches.num_words
    lines = [
        f"## {keras.backend.backend()}, {architecture}, {setting.epochs} epochs",
        "",
        "| contestant | words/s, median | min-max | with compilation | held-out loss | neighbours as gensim | "
        "cosines as gensim |",
        "|---|---:|---:|---:|---:|---:|---:|",
    ]
    for name, own in tables.items():
        speeds = words / np.array(seconds.get(name, [np.inf]))
        speed = f"{np.median(speeds):,.0f} | {speeds.min():,.0f}-{speeds.max():,.0f}" if name in seconds else "- | -"
        compiled = f"{words / first:,.0f}" if name == "keras_tfm" else "-"
        alike = agreement(own, tables["gensim"], setting.probed) if name != "gensim" and "gensim" in tables else None
        shown = f"{100 * alike[0]:.0f} % | {alike[1]:.2f}" if alike else "- | -"
        loss = held_out_loss(own, windows, architecture)
        lines.append(f"| {name} | {speed} | {compiled} | {loss:.3f} | {shown} |")
    return "\n".join(lines) + "\n"


def report(corpus, setting, rounds):
    """Markdown tables of both architectures, and how much text there is."""
    words, held_out = (sum(map(len, part)) for part in (corpus.train, corpus.held_out))
    batches = batches_of(corpus.train, corpus, setting)
    pairs = round(batches.pairs_per_batch() * len(batches))
    head = f"{words:,} words, {held_out:,} held out, {corpus.vocabulary_size - 1:,} distinct; skip-gram has {pairs:,} "
    tables = [contest_of(corpus, architecture, setting, rounds) for architecture in ("skip_gram", "cbow")]
    return f"{head}pairs an epoch, {pairs / words:.2f} a word.\n\n" + "\n".join(tables)


def main():
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--data", default=os.environ.get("KERAS_TFM_DATA"), help="folder of the data sets")
    parser.add_argument("--epochs", type=int, default=Setting().epochs)
    parser.add_argument("--rounds", type=int, default=3)
    parser.add_argument("--write", action="store_true", help="append to benchmarks/results")
    arguments = parser.parse_args()
    setting = Setting(epochs=arguments.epochs)
    tables = report(read_corpus(arguments.data, setting.min_count), setting, arguments.rounds)
    print(tables)
    if arguments.write:
        contest.write("word2vec", "Word2Vec", tables)


if __name__ == "__main__":
    main()
