"""Trains a Transformer that translates, scores it, draws its cross-attention, and translates with it.

    python examples/translation.py                                        # English to Chinese phrases: no data needed
    python examples/translation.py --data DIR --source en --target de     # Multi30k in DIR; --download fetches it
    python examples/translation.py --pairs cmn-eng.train.tsv.gz           # any tab-separated pairs
    python examples/translation.py --encoder lstm                         # or gru or conv in place of self-attention
    python examples/translation.py --resume                               # goes on after an interruption, exactly
    python examples/translation.py --translate "half past two on Monday"  # or a file, or - for standard input

The model, its vocabularies, the learning curve and the picture are written to the folder --output.
"""

from pathlib import Path

import command_line
import keras
import numpy as np
import translation_data as data
from learning_curve import LearningCurve, processor_minutes

from keras_tfm import models, text, training, visualization

# The recipe of the paper, scaled down. A vocabulary of 0 means whole words and characters; `draw` is the sentence of
# the picture, the first held-out one if empty.
PHRASES = dict(
    num_layers=2, hidden_dim=96, intermediate_dim=256, num_heads=4, normalize_first=True, position="sinusoidal",
    encoder="attention", dropout=0.0, label_smoothing=0.1, vocabulary=0, tokens_per_batch=2048, num_widths=6, epochs=5,
    peak_learning_rate=3e-3, warmup_steps=200, decay="cosine", average=1,
    draw="twenty past three on the second of May, nineteen ninety-eight",
)  # fmt: skip
CORPUS = dict(
    num_layers=4, hidden_dim=128, intermediate_dim=256, num_heads=4, normalize_first=True, position="sinusoidal",
    encoder="attention", dropout=0.1, label_smoothing=0.1, vocabulary=4000, tokens_per_batch=2048, num_widths=6,
    epochs=24, peak_learning_rate=3e-3, warmup_steps=800, decay="cosine", average=1,
    draw="",
)  # fmt: skip


def parse_arguments(argv=None):
    parser = command_line.make_parser(__doc__, PHRASES, CORPUS)
    add = parser.add_argument
    add("--data", metavar="DIR", help="folder with Multi30k, or with NAME.train.tsv; none: drawn phrases")
    add("--pairs", metavar="FILE", help="tab-separated file: source, target")
    add("--source", default="en")
    add("--target", default="zh")
    add("--download", action="store_true", help="fetch Multi30k into --data first")
    add("--num-phrases", type=int, default=61_000, help="phrases drawn without --data")
    add("--output", default="translator", metavar="DIR", help="folder of the model")
    add("--resume", action="store_true", help="go on with the interrupted training of --output, with its flags")
    add("--translate", metavar="TEXT", help="translate a text, the lines of a file, or of standard input (-)")
    add("--model", metavar="DIR", help="folder of the model that translates; default: --output")
    add("--evaluate-every", type=int, default=0, metavar="EPOCHS", help="score so often on the way; 0: never")
    add("--max-minutes", type=float, help="stop after so much processor time, as minutes of a machine with 2 cores")
    add("--save-every", type=int, default=200, metavar="BATCHES", help="write the checkpoint so often")
    add("--num-beams", type=int, default=1, help="1 is greedy search")
    add("--length-penalty", type=float, default=0.6)
    add("--max-length", type=int, default=64, help="the most tokens of a translation")
    add("--seed", type=int, default=0)
    args = parser.parse_args(argv)
    if args.download and not args.data:
        parser.error("--download needs --data, the folder to fetch into")
    return command_line.fill_defaults(args, CORPUS if args.data or args.pairs else PHRASES)


def build_model(tokenizers, args):
    source, target = tokenizers
    return models.Seq2SeqTransformer(
        source.vocabulary_size,
        args.num_layers,
        args.hidden_dim,
        args.intermediate_dim,
        args.num_heads,
        target_vocabulary_size=None if source is target else target.vocabulary_size,
        dropout=args.dropout,
        normalize_first=args.normalize_first,
        position=args.position,
        encoder=args.encoder,
    )


def compile_model(model, num_updates, args):
    warmup = min(args.warmup_steps, max(num_updates // 3, 1))
    rate = training.WarmupSchedule(
        peak_learning_rate=args.peak_learning_rate,
        warmup_steps=warmup,
        decay=args.decay,
        decay_steps=None if args.decay == "inverse_sqrt" else max(num_updates - warmup, 1),
    )
    optimizer = keras.optimizers.Adam(rate, beta_1=0.9, beta_2=0.98, epsilon=1e-9)
    model.compile(optimizer, training.TokenCrossEntropy(args.label_smoothing), metrics=[training.TokenAccuracy()])


def translate(model, tokenizers, lines, args):
    """Translates lines; a blank line stays blank."""
    search = dict(strategy="beam", num_beams=args.num_beams, length_penalty=args.length_penalty)
    return model.translate(lines, *tokenizers, max_length=args.max_length, **(search if args.num_beams > 1 else {}))


def score(translations, pairs, bleu_tokenizer):
    """BLEU, and the share of translations that are exactly the reference, in percent."""
    import sacrebleu

    references = [reference for _, reference in pairs]
    bleu = sacrebleu.corpus_bleu(translations, [references], tokenize=bleu_tokenizer, force=True).score
    exact = [ours == theirs for ours, theirs in zip(translations, references, strict=True)]
    return {"bleu": bleu, "exact": 100 * float(np.mean(exact))}


def draw_attention(model, tokenizers, sentence, translation, path):
    """Draws which source tokens the last block looks at when it predicts each target token."""
    source, target = tokenizers
    (source_ids,), (target_ids,) = source.encode_batch([sentence]), target.encode_batch([translation])
    scores = model.cross_attention_scores(np.array([source_ids]), np.array([[model.start_id, *target_ids]]))
    labels = source.pieces(source_ids), [*target.pieces(target_ids), "<end>"]
    visualization.plot_attention(scores[-1, 0], *labels, path, title="cross-attention of the last block")


def train(args):
    if args.resume:
        args = command_line.read_settings(args.output)
        args.resume = True
    command_line.require("matplotlib", "sacrebleu", *["tokenizers"] * bool(args.vocabulary))
    if args.download:
        data.download_multi30k(args.data, (args.source, args.target))
    corpus = data.read_corpus(args.data, args.pairs, args.source, args.target, args.num_phrases, args.seed)
    tokenizers = data.train_tokenizers(corpus, args.vocabulary)
    sides = zip(tokenizers, zip(*corpus.train, strict=True), strict=True)
    batches = text.TranslationBatches(
        *(tokenizer.encode_batch(side) for tokenizer, side in sides),
        tokens_per_batch=args.tokens_per_batch,
        num_widths=args.num_widths,
        seed=args.seed,
    )
    folder = command_line.write_settings(args)
    data.save_tokenizers(tokenizers, folder)

    keras.utils.set_random_seed(args.seed)
    model = build_model(tokenizers, args)
    compile_model(model, args.epochs * len(batches), args)
    print(f"{len(corpus.train)} pairs to train on, {len(corpus.held_out)} held out; {model.count_params()} weights")
    sentences = [sentence for sentence, _ in corpus.held_out]

    averaging = training.CheckpointAveraging(args.average, directory=folder / "snapshots")

    def score_average():
        averaging.apply()
        translations = translate(model, tokenizers, sentences, args)
        averaging.restore()
        return score(translations, corpus.held_out, corpus.bleu_tokenizer)

    checkpoint = training.TrainingCheckpoint(
        folder / "training.npz", batches, save_every=args.save_every, resume=args.resume
    )
    curve = LearningCurve(folder / "curve.csv", score_average, args.evaluate_every, args.max_minutes)
    model.fit(
        batches,
        initial_epoch=checkpoint.initial_epoch,
        epochs=args.epochs,
        verbose=command_line.verbosity(),
        callbacks=[averaging, curve, checkpoint],
    )
    model.save(folder / "model.keras")

    translations = translate(model, tokenizers, sentences, args)
    for (sentence, reference), translation in zip(corpus.held_out[:8], translations, strict=False):
        print(f"  {sentence}\n    {translation}" + ("" if translation == reference else f"  (reference: {reference})"))
    drawn = args.draw or sentences[0]
    draw_attention(model, tokenizers, drawn, translate(model, tokenizers, [drawn], args)[0], folder / "attention.png")
    results = score(translations, corpus.held_out, corpus.bleu_tokenizer)
    print(f"BLEU {results['bleu']:.2f}, exact match {results['exact']:.2f} % on {len(sentences)} held-out sentences")
    print(
        f"model, vocabularies, curve.csv and attention.png are in {folder}; processor minutes {processor_minutes():.2f}"
    )


def translate_text(args):
    folder = Path(args.model or args.output)
    tokenizers = data.load_tokenizers(folder, command_line.read_settings(folder).vocabulary)
    model = keras.saving.load_model(folder / "model.keras", compile=False)
    for translation in translate(model, tokenizers, command_line.input_lines(args.translate), args):
        print(translation)


def main(argv=None):
    args = parse_arguments(argv)
    train(args) if args.translate is None else translate_text(args)


if __name__ == "__main__":
    main()
