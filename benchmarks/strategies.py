"""Which strategy is worth its time? Quality and time of each, of one trained translator or of a small character model.

    KERAS_BACKEND=tensorflow python -m benchmarks.strategies --data DIR --model translator [--write]
    KERAS_BACKEND=tensorflow python -m benchmarks.strategies --data DIR --characters --minutes 2 [--write]

The translator is what `examples/translation.py --data DIR --source en --target de` leaves in its folder: BLEU on the
1,014 validation and the 1,000 test sentences, and the seconds that each set takes in a second run, the first of which
compiles. The character model is trained here on tinyshakespeare. Of its continuations: nats a character under the
model, share of 8-grams that occurred before in the same text, and share of words that the training text has.
"""

import argparse
import gzip
import json
import pathlib
import re
import time

import keras
import numpy as np

from benchmarks import contest
from keras_tfm import generation, models, text

TRANSLATION = {
    "greedy": dict(strategy="greedy"),
    "beam of 2": dict(strategy="beam", num_beams=2),
    "beam of 5": dict(strategy="beam", num_beams=5),
    "beam of 5, no length penalty": dict(strategy="beam", num_beams=5, length_penalty=0.0),
    "beam of 5, average, 1.0": dict(strategy="beam", num_beams=5, penalty="average", length_penalty=1.0),
    "diverse beam, 2 groups of 3": dict(strategy="diverse_beam", num_beams=6, num_groups=2),
    "sampling": dict(strategy="sampling"),
    "sampling, temperature 0.5": dict(strategy="sampling", temperature=0.5),
}
CHARACTERS = {
    "greedy": dict(strategy="greedy"),
    "beam of 5": dict(strategy="beam", num_beams=5, num_results=1),
    "greedy, repetition penalty 1.3": dict(strategy="greedy", rules=(generation.RepetitionPenalty(1.3),)),
    "sampling": dict(strategy="sampling"),
    "sampling, temperature 0.7": dict(strategy="sampling", temperature=0.7),
    "sampling, top-k 10": dict(strategy="sampling", top_k=10),
    "sampling, top-p 0.9": dict(strategy="sampling", top_p=0.9),
    "sampling, min-p 0.1": dict(strategy="sampling", min_p=0.1),
    "Mirostat, 2 bits": dict(strategy="mirostat", tau=2.0),
}


def seconds_of(function):
    """The result of a second call, and its seconds; the first one compiles."""
    function()
    start = time.perf_counter()
    result = function()
    return result, time.perf_counter() - start


def bleu(translations, references):
    """Corpus BLEU of lower-cased, tokenized text."""
    import sacrebleu

    return sacrebleu.corpus_bleu(translations, [references], tokenize="none", force=True).score


def by_bayes_risk(model, tokenizer, lines, num_samples):
    """The sample of each line that agrees most with the others."""
    samples = model.translate(
        lines, tokenizer, strategy="sampling", temperature=0.7, num_samples=num_samples, num_best=num_samples
    )
    ids = [tokenizer.encode_batch(each) for each in samples]
    longest = max(len(x) for each in ids for x in each)
    padded = np.array([[x + [0] * (longest - len(x)) for x in each] for each in ids], "int32")
    best = generation.minimum_bayes_risk(padded, np.array([[len(x) for x in each] for each in ids]))
    return [each[index] for each, index in zip(samples, best.indices, strict=True)]


def read(folder, name):
    """Lines of a gzipped file of Multi30k."""
    with gzip.open(pathlib.Path(folder, "multi30k", name), "rt", encoding="utf-8") as file:
        return file.read().splitlines()


def translation_table(data, folder):
    """A Markdown table of strategies of a trained translator."""
    model = keras.saving.load_model(pathlib.Path(folder, "model.keras"), compile=False)
    tokenizer = text.SubwordTokenizer.load(pathlib.Path(folder, "source.json"))
    settings = json.loads(pathlib.Path(folder, "settings.json").read_text(encoding="utf-8"))
    source, target = settings["source"], settings["target"]
    sides = {
        part: [read(data, f"{part}.lc.norm.tok.{language}.gz") for language in (source, target)]
        for part in ("val", "test_2016_flickr")
    }
    lines = ["| strategy | BLEU val | s val | BLEU test | s test |", "|---|---:|---:|---:|---:|"]
    runs = {
        name: lambda texts, options=options: model.translate(texts, tokenizer, **options)
        for name, options in TRANSLATION.items()
    }
    runs["20 samples, minimum Bayes risk"] = lambda texts: by_bayes_risk(model, tokenizer, texts, 20)
    for name, run in runs.items():
        cells = []
        for texts, references in sides.values():
            translations, seconds = seconds_of(lambda run=run, texts=texts: run(texts))
            cells += [f"{bleu(translations, references):.2f}", f"{seconds:.1f}"]
        lines.append(f"| {name} | {' | '.join(cells)} |")
        print(lines[-1], flush=True)
    return "\n".join(lines) + "\n"


def train_characters(content, minutes, length=128):
    """A character model, and its ids by character."""
    vocabulary = sorted(set(content))
    ids = {character: index for index, character in enumerate(vocabulary)}
    encoded = np.array([ids[character] for character in content], "int32")
    model = models.CausalLM(len(vocabulary), 4, 192, 768, 6, dropout=0.0, position="rope")
    loss = keras.losses.SparseCategoricalCrossentropy(from_logits=True)
    model.compile(keras.optimizers.Adam(2e-3), loss, jit_compile=keras.backend.backend() != "torch")
    rng, end = np.random.default_rng(0), time.perf_counter() + 60 * minutes
    while time.perf_counter() < end:
        starts = rng.integers(0, len(encoded) - length - 1, 16)
        windows = encoded[starts[:, None] + np.arange(length + 1)]
        value = model.train_on_batch(windows[:, :-1], windows[:, 1:])
    print(f"trained: {float(value):.2f} nats a character", flush=True)
    return model, ids


def repeated_share(content, order=8):
    """Share of the n-grams of a text that occurred earlier in it."""
    grams = [content[i : i + order] for i in range(len(content) - order + 1)]
    return 1 - len(set(grams)) / len(grams)


def character_table(data, minutes, num_texts=32, length=256):
    """A Markdown table of strategies of a character model."""
    with gzip.open(pathlib.Path(data, "tinyshakespeare", "input.txt.gz"), "rt", encoding="utf-8") as file:
        content = file.read()
    split = int(0.9 * len(content))
    model, ids = train_characters(content[:split], minutes)
    words = set(re.findall(r"[a-z]+", content[:split].lower()))
    characters = list(ids)
    starts = np.linspace(split, len(content) - 40, num_texts).astype(int)
    prompts = [[ids[character] for character in content[start : start + 32]] for start in starts]
    lines = ["| strategy | nats/char | repeated 8-grams | known words | s |", "|---|---:|---:|---:|---:|"]
    for name, options in CHARACTERS.items():
        results, seconds = seconds_of(
            lambda options=options: model.generate(prompts, max_length=length, end_id=(), **options)
        )
        sequences = results.sequences.reshape(num_texts, length)
        texts = ["".join(characters[i] for i in row) for row in sequences]
        scores = model.score(prompts, sequences.tolist()).scores
        found = [word in words for each in texts for word in re.findall(r"[a-z]+", each.lower())[1:-1]]
        cells = [
            f"{-np.mean(scores) / length:.2f}",
            f"{100 * np.mean([repeated_share(each) for each in texts]):.0f} %",
            f"{100 * np.mean(found):.0f} %" if found else "none found",
            f"{seconds:.1f}",
        ]
        lines.append(f"| {name} | {' | '.join(cells)} |")
        print(lines[-1], flush=True)
    return "\n".join(lines) + "\n"


def main():
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--data", required=True, metavar="DIR")
    parser.add_argument("--model", default="translator", metavar="DIR")
    parser.add_argument("--characters", action="store_true")
    parser.add_argument("--minutes", type=float, default=2.0, help="how long the character model is trained")
    parser.add_argument("--write", action="store_true", help="append to benchmarks/results")
    arguments = parser.parse_args()
    if arguments.characters:
        title, table = "A character model", character_table(arguments.data, arguments.minutes)
    else:
        title, table = "Translation", translation_table(arguments.data, arguments.model)
    if arguments.write:
        contest.write("strategies", "Strategies", f"## {title}, {keras.backend.backend()}\n\n{table}")


if __name__ == "__main__":
    main()
