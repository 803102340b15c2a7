"""Learns vectors of words with Word2Vec, shows what they know, draws them, and starts a tagger with them.

    python examples/word2vec.py                           # a small grammar with classes of words: no data needed
    python examples/word2vec.py --architecture cbow       # the other architecture
    python examples/word2vec.py --data FILE               # any text, one sentence a line; gzip too

On the way it shows the forms of a word: one-hot, id, pieces, vector. The grammar's classes (animals, tools ...) are
never told to Word2Vec; the tagger is told the class of each word in few sentences, and meets new words afterwards.
"""

import random
import re
from pathlib import Path

import command_line
import keras
import numpy as np

from keras_tfm import models, text, training

CLASSES = {
    "animal": "dog cat horse cow sheep goat pig duck hen goose rabbit fox",
    "tool": "hammer saw drill axe knife spade rake brush pen needle shovel chisel",
    "food": "bread cheese soup rice cake meat fruit corn salad pie honey stew",
    "place": "garden field forest yard river meadow kitchen market barn cellar street village",
    "person": "farmer baker smith teacher sailor painter hunter tailor miller nurse cook guard",
    "eat": "eats chews swallows tastes wants smells steals finishes",
    "use": "takes lifts drops cleans sharpens repairs sells lends",
    "move": "runs walks jumps sleeps waits hides rests sits",
    "other": "the a in near with and .",
}
CLASS_OF = {word: name for name, words in CLASSES.items() for word in words.split()}
RULES = """
the animal eat the food . | the person eat the food . | a animal move in the place . | the person move near the place .
| the person use the tool . | the person use the tool in the place . | a person with a tool move in the place .
| the animal and the animal move . | the person eat food and food . | the tool and the tool . | a animal eat food .
"""
SMALL = dict(embedding_dim=48, epochs=12, learning_rate=0.025, window=5, min_count=1, subsampling=0.0, tokens=512)
LARGE = dict(embedding_dim=100, epochs=5, learning_rate=0.025, window=5, min_count=3, subsampling=1e-3, tokens=2048)


def parse_arguments(argv=None):
    parser = command_line.make_parser(__doc__, SMALL, LARGE)
    add = parser.add_argument
    add("--architecture", choices=("skip_gram", "cbow"), default="skip_gram")
    add("--loss", choices=("negative_sampling", "full_softmax"), default="negative_sampling")
    add("--data", metavar="FILE", help="text with one sentence a line")
    add("--num-sentences", type=int, default=6000, help="drawn from the grammar without data")
    add("--words", help="words whose neighbours are printed; default: some of the corpus")
    add("--num-labelled", type=int, default=16, help="sentences with labels for the tagger")
    add("--tagger-epochs", type=int, default=30)
    add("--output", default="word2vec", metavar="DIR", help="folder of the model and the picture")
    add("--seed", type=int, default=0)
    args = parser.parse_args(argv)
    return command_line.fill_defaults(args, LARGE if args.data else SMALL)


def make_sentences(num, seed):
    """Sentences of the grammar as (words, classes)."""
    draw, sentences = random.Random(seed), []
    shapes = [shape.split() for shape in RULES.split("|")]
    for _ in range(num):
        names = draw.choice(shapes)
        words = [draw.choice(CLASSES.get(name, name).split()) for name in names]
        sentences.append((words, [name if name in CLASSES else "other" for name in names]))
    return sentences


def read_words(path):
    """The words of each line, in small letters, without punctuation."""
    return [re.findall(r"[\w']+", line.lower()) for line in text.read_lines(path)]


def show_forms(sentences, vocabulary, model):
    """Prints a word as one-hot vector, id, pieces and vector, and that the first times the table is the last."""
    word = max(sentences[0], key=len)
    index = vocabulary.encode([word])[0]
    one_hot = (np.arange(len(vocabulary)) == index).astype("float32")
    product = one_hot @ model.vectors
    pieces = text.SubwordTokenizer.train([" ".join(words) for words in sentences[:2000]], 120)
    cut = [pieces.decode([piece]) for piece in pieces.encode(word)]
    print(f"the word {word!r} is id {index} of {len(vocabulary)}, and the subwords {' + '.join(filter(None, cut))}")
    print(f"one-hot: {len(one_hot)} numbers, a 1 at place {index}; vector: {len(product)} numbers")
    print(f"one-hot times the table minus row {index}: {np.abs(product - model.vectors[index]).max():g}")


def train_vectors(rows, vocabulary_size, args):
    """A trained `Word2Vec` model."""
    batches = text.Word2VecBatches(
        rows,
        vocabulary_size=vocabulary_size,
        window=args.window,
        tokens_per_batch=args.tokens,
        subsampling=args.subsampling,
        negatives_per_row=0 if args.loss == "full_softmax" else 64,
        seed=args.seed,
    )
    print(f"{batches.num_words} words, {vocabulary_size} ids, {args.epochs * len(batches)} updates")
    model = models.Word2Vec(vocabulary_size, args.embedding_dim, architecture=args.architecture, loss=args.loss)
    model.compile(model.pairwise_sgd(batches, args.epochs, args.learning_rate, args.learning_rate / 250))
    history = model.fit(batches, epochs=args.epochs, verbose=command_line.verbosity(), shuffle=False)
    print(
        f"loss of a pair: {history.history['loss'][0]:.3f} in the first epoch, {history.history['loss'][-1]:.3f} last"
    )
    return model


def print_neighbours(model, vocabulary, words):
    print("nearest words, by cosine:")
    ids, similarities = model.most_similar(vocabulary.encode(words), k=5)
    for word, row, values in zip(words, ids, similarities, strict=True):
        near = (f"{vocabulary.tokens[index]} {value:.2f}" for index, value in zip(row, values, strict=True))
        print(f"  {word}: {', '.join(near)}")


def print_purity(model, vocabulary):
    """How many of the five nearest words are of the same class, for the grammar's words."""
    words = [word for word in vocabulary.tokens[4:] if CLASS_OF[word] != "other"]
    ids, _ = model.most_similar(vocabulary.encode(words), k=5)
    same = [[CLASS_OF.get(vocabulary.tokens[i]) == CLASS_OF[w] for i in row] for w, row in zip(words, ids, strict=True)]
    print(f"of the five nearest words of a word, {100 * np.mean(same):.1f} % are of its class")


def draw_plane(model, vocabulary, path, most=80):
    """Draws the frequent words on the two axes along which their vectors differ most."""
    from matplotlib.figure import Figure

    words, vectors = vocabulary.tokens[4 : 4 + most], model.vectors[4 : 4 + most]
    directions = vectors / np.linalg.norm(vectors, axis=1, keepdims=True)
    centered = directions - directions.mean(axis=0)
    points = centered @ np.linalg.svd(centered, full_matrices=False)[2][:2].T
    colors = [f"C{list(CLASSES).index(CLASS_OF.get(word, 'other'))}" for word in words]
    axes = Figure(figsize=(7, 5), layout="constrained").add_subplot()
    axes.set(title="words on the first two principal axes", xlabel="first axis", ylabel="second axis")
    axes.scatter(*points.T, s=9, c=colors)
    placed = np.empty((0, 2))
    for word, point, color in zip(words, points, colors, strict=True):
        if not (np.abs(placed - point) < (0.12, 0.03)).all(axis=1).any():  # else one would cover the other
            axes.annotate(word, point, color=color, xytext=(2, 2), textcoords="offset points")
            placed = np.vstack([placed, point])
    axes.figure.savefig(path, dpi=100)


def tagger_accuracy(vectors, sentences, held_out, vocabulary, args):
    """Trains a tagger on few sentences, its embedding started with `vectors` or at random, and scores it."""
    keras.utils.set_random_seed(args.seed)
    labels = text.Vocabulary(CLASSES, specials=("<pad>",))
    tagger = models.SequenceTagger(
        len(labels), 1, args.embedding_dim, 64, 4, vocabulary_size=len(vocabulary), dropout=0.1, position="learned"
    )
    table = tagger.get_layer("token_embedding")
    if vectors is not None:
        table.set_weights([vectors * table.get_weights()[0].std() / vectors[4:].std()])  # as large as at random
    batches, test = (
        text.TaggingBatches(
            [vocabulary.encode(words) for words, _ in part],
            [labels.encode(tags) for _, tags in part],
            tokens_per_batch=tokens,
            num_widths=1,
        )
        for part, tokens in ((sentences, 64), (held_out, 4096))
    )
    tagger.compile(keras.optimizers.Adam(3e-3), training.TokenCrossEntropy(), metrics=[training.TokenAccuracy()])
    tagger.fit(batches, epochs=args.tagger_epochs, verbose=0)
    return 100 * tagger.evaluate(test, verbose=0, return_dict=True)["token_accuracy"]


def main(argv=None):
    args = parse_arguments(argv)
    command_line.require("matplotlib", "tokenizers")
    folder = Path(args.output)
    folder.mkdir(parents=True, exist_ok=True)
    keras.utils.set_random_seed(args.seed)
    labelled = None if args.data else make_sentences(args.num_sentences, args.seed)
    lines = [words for words, _ in labelled] if labelled else read_words(args.data)
    vocabulary = text.Vocabulary.from_counts((word for words in lines for word in words), min_count=args.min_count)
    sentences = [words for words in ([w for w in line if w in vocabulary] for line in lines) if words]
    if not sentences:
        raise SystemExit(f"{args.data}: no word occurs {args.min_count} times")
    model = train_vectors([vocabulary.encode(words) for words in sentences], len(vocabulary), args)
    show_forms(sentences, vocabulary, model)
    default = " ".join(vocabulary.tokens[20:26]) if args.data else "dog hammer bread garden baker runs"
    print_neighbours(model, vocabulary, [word for word in (args.words or default).split() if word in vocabulary])
    draw_plane(model, vocabulary, folder / "words.png")
    model.save(folder / "model.keras")
    vocabulary.save(folder / "vocabulary.json")
    print(f"model.keras, vocabulary.json and words.png are in {folder}")
    if labelled is not None:
        print_purity(model, vocabulary)
        parts = make_sentences(args.num_labelled, args.seed + 1), make_sentences(300, args.seed + 2)
        for name, vectors in (("at random", None), ("with these vectors", model.vectors)):
            accuracy = tagger_accuracy(vectors, *parts, vocabulary, args)
            print(f"a tagger that starts {name}: {accuracy:.1f} % of 300 sentences, {args.num_labelled} to learn from")


if __name__ == "__main__":
    main()
