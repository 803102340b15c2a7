"""Writes one HTML file that shows what every head of a translator attends to, for any browser.

    python examples/attention_page.py                                  # trains on drawn dates and times: no data needed
    python examples/attention_page.py --sentence "at ten past two on the second of May"
    python examples/attention_page.py --model translator --sentence "three old books"   # of examples/translation.py

The page, and two vector pictures for a paper, are written to the folder --output.
"""

import argparse
import random
from pathlib import Path

import command_line
import keras
import numpy as np
import phrases
import time_phrases
import translation_data as data

from keras_tfm import models, text, training, visualization

SENTENCE = "the film ends at half past nine in the evening on Friday, the second of May, nineteen ninety-eight"


def parse_arguments(argv=None):
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    add = parser.add_argument
    add("--sentence", default=SENTENCE, help="what is translated and shown")
    add("--model", metavar="DIR", help="folder of a translator that is trained; default: one is trained first")
    add("--output", default="attention", metavar="DIR", help="folder of the page and the pictures")
    add("--num-phrases", type=int, default=6000, help="phrases to train on")
    add("--epochs", type=int, default=5)
    add("--hidden-dim", type=int, default=64)
    add("--num-layers", type=int, default=2)
    add("--num-heads", type=int, default=4)
    add("--seed", type=int, default=0)
    return parser.parse_args(argv)


def draw_pairs(num, seed):
    """Draws `num` different phrases about dates, times and what happens then, with their translations."""
    draw, pairs = random.Random(seed), {}
    while len(pairs) < num:
        english, chinese = draw.choice((time_phrases.moment, time_phrases.weekday, phrases.event))(draw)
        pairs[english] = chinese
    return list(pairs.items())


def train(args):
    """Trains a small translator; returns it with its tokenizers."""
    pairs = draw_pairs(args.num_phrases, args.seed)
    tokenizers = data.train_tokenizers(data.Corpus(pairs, [], "zh"), 0)
    sides = zip(tokenizers, zip(*pairs, strict=True), strict=True)
    batches = text.TranslationBatches(
        *(tokenizer.encode_batch(side) for tokenizer, side in sides), tokens_per_batch=1024, num_widths=2
    )
    source, target = (tokenizer.vocabulary_size for tokenizer in tokenizers)
    model = models.Seq2SeqTransformer(
        source,
        args.num_layers,
        args.hidden_dim,
        2 * args.hidden_dim,
        args.num_heads,
        target_vocabulary_size=target,
        normalize_first=True,
        name="translator",
    )
    total = args.epochs * len(batches)
    warmup = max(total // 6, 1)
    rate = training.WarmupSchedule(
        peak_learning_rate=4e-3, warmup_steps=warmup, decay="cosine", decay_steps=max(total - warmup, 1)
    )
    model.compile(
        keras.optimizers.Adam(rate, beta_2=0.98), training.TokenCrossEntropy(), metrics=[training.TokenAccuracy()]
    )
    print(f"{len(pairs)} phrases, {model.count_params()} weights, {total} updates")
    model.fit(batches, epochs=args.epochs, verbose=command_line.verbosity() or 2)
    return model, tokenizers


def load(folder):
    """Reads what examples/translation.py wrote."""
    settings = command_line.read_settings(folder)
    model = keras.saving.load_model(Path(folder) / "model.keras", compile=False)
    return model, data.load_tokenizers(folder, settings.vocabulary)


def make_page(model, tokenizers, sentence):
    """Translates the sentence and shows what each layer attends to while it is read and written."""
    source, target = tokenizers
    (translation,) = model.translate([sentence], source, target, max_length=48)
    print(f"{sentence}\n  {translation}")
    (source_ids,), (target_ids,) = source.encode_batch([sentence]), target.encode_batch([translation])
    inputs = {"source_ids": np.array([source_ids]), "target_ids": np.array([[model.start_id, *target_ids]])}
    pieces = target.pieces(target_ids)
    return visualization.attention_page(
        model,
        inputs,
        source.pieces(source_ids),
        ["<start>", *pieces],
        output_tokens=[*pieces, "<end>"],
        title=f"{sentence} → {translation}",
        with_vectors=True,
    )


def main(argv=None):
    args = parse_arguments(argv)
    keras.utils.set_random_seed(args.seed)
    model, tokenizers = load(args.model) if args.model else train(args)
    page = make_page(model, tokenizers, args.sentence)
    folder = Path(args.output)
    folder.mkdir(parents=True, exist_ok=True)
    path = page.save(folder / "attention.html")
    page.to_svg(kind="cross", path=folder / "lines.svg")
    page.to_svg(kind="cross", view="heatmap", path=folder / "heat_map.svg")
    print(f"{path}: {path.stat().st_size / 1000:.0f} kB, open it in a browser; beside it lines.svg and heat_map.svg")


if __name__ == "__main__":
    main()
