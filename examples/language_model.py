"""Trains a language model that reads left to right on any text, measures it on held-out text, and writes with it.

    python examples/language_model.py                               # sentences of a small grammar: no data needed
    python examples/language_model.py --data input.txt.gz           # any text file (tiny Shakespeare), or a folder
    python examples/language_model.py --data DIR --tokens subword   # char, byte or subword
    python examples/language_model.py --resume                      # goes on after an interruption, exactly
    python examples/language_model.py --prompt "they can" --temperature 0.8 --top-k 20

The held-out text is the last tenth. Bits per character compare models of different tokens; where the grammar drew the
text, the bits that the grammar itself needs are printed too: no model can do better. The model, its tokens and the
learning curve are written to the folder --output.
"""

import math
from pathlib import Path

import command_line
import keras
import language_data as data
import numpy as np
from learning_curve import LearningCurve, processor_minutes

from keras_tfm import generation, models, training

SMALL = dict(
    tokens="char", vocabulary=300, num_layers=2, hidden_dim=64, intermediate_dim=256, num_heads=4, position="alibi",
    dropout=0.0, window=128, batch_size=16, epochs=5, peak_learning_rate=4e-3, warmup_steps=50,
)  # fmt: skip
LARGE = dict(
    tokens="char", vocabulary=2000, num_layers=4, hidden_dim=128, intermediate_dim=512, num_heads=4, position="alibi",
    dropout=0.1, window=128, batch_size=32, epochs=6, peak_learning_rate=3e-3, warmup_steps=200,
)  # fmt: skip


def parse_arguments(argv=None):
    parser = command_line.make_parser(__doc__, SMALL, LARGE)
    add = parser.add_argument
    add("--data", metavar="PATH", help="text file, plain or gzip, or a folder of them; none: sentences of a grammar")
    add("--num-sentences", type=int, default=6000, help="drawn without --data")
    add("--output", default="language-model", metavar="DIR", help="folder of the model")
    add("--resume", action="store_true", help="go on with the interrupted training of --output, with its flags")
    add("--evaluate-every", type=int, default=0, metavar="EPOCHS", help="measure so often on the way; 0: never")
    add("--max-minutes", type=float, help="stop after so much processor time, as minutes of a machine with 2 cores")
    add("--save-every", type=int, default=200, metavar="BATCHES", help="write the checkpoint so often")
    add("--prompt", metavar="TEXT", help="go on with this text, by the model in --output; no training")
    add("--generate", type=int, default=200, metavar="TOKENS", help="how much to write")
    add("--temperature", type=float, default=0.8, help="0 always takes the most probable token")
    add("--top-k", type=int, help="draw from the so many most probable tokens")
    add("--top-p", type=float, help="draw from the most probable tokens of so much probability")
    add("--seed", type=int, default=0)
    args = parser.parse_args(argv)
    command_line.fill_defaults(args, LARGE if args.data else SMALL)
    if args.tokens not in data.TOKENS:
        parser.error(f"--tokens must be one of {', '.join(data.TOKENS)}")
    return args


def build_model(vocabulary_size, args):
    return models.CausalLM(
        vocabulary_size,
        args.num_layers,
        args.hidden_dim,
        args.intermediate_dim,
        args.num_heads,
        position=args.position,
        sequence_length=args.window + args.generate,
        dropout=args.dropout,
    )


def compile_model(model, num_updates, args):
    warmup = min(args.warmup_steps, max(num_updates // 3, 1))
    rate = training.WarmupSchedule(
        peak_learning_rate=args.peak_learning_rate,
        warmup_steps=warmup,
        decay="cosine",
        decay_steps=max(num_updates - warmup, 1),
    )
    optimizer = keras.optimizers.AdamW(rate, beta_2=0.98, weight_decay=0.01, clipnorm=1.0)
    model.compile(optimizer, training.TokenCrossEntropy(ignore_id=-1), metrics=[training.Perplexity(ignore_id=-1)])


def measure(model, windows, num_tokens, num_characters):
    """Loss and perplexity of a token, and the bits of a character, on held-out windows."""
    scores = model.evaluate(windows, verbose=0, return_dict=True)
    bits = math.log2(scores["perplexity"]) * num_tokens / num_characters
    return {"loss": math.log(scores["perplexity"]), "perplexity": scores["perplexity"], "bits": bits}


def bits_of_frequencies(ids, others, num_characters):
    """Bits per character of guessing every token by its frequency in training: what a model must beat."""
    counts = np.bincount(ids, minlength=max(others) + 1) + 1
    return float(-np.log2(counts[others] / counts.sum()).sum() / num_characters)


def write(model, tokens, prompt, args):
    """Prints the prompt, then what the model goes on with, as it comes."""
    print(prompt, end="", flush=True)
    stream = model.stream(
        [tokens.encode(prompt)],
        max_length=args.generate,
        strategy="sampling",
        temperature=args.temperature,
        top_k=args.top_k,
        top_p=args.top_p,
        rules=[generation.ForbiddenTokens(tokens.special_ids)] if tokens.special_ids else [],
        seed=args.seed,
    )
    for (piece,) in models.stream_text(stream, tokens.decode):
        print(piece, end="", flush=True)
    print()


def train(args):
    if args.resume:
        args = command_line.read_settings(args.output)
        args.resume = True
    command_line.require(*["tokenizers"] * (args.tokens == "subword"))
    folder = Path(args.output)
    text = data.read_text(args.data) if args.data else data.draw_text(args.num_sentences, args.seed)
    cut = text.rfind("\n", 0, len(text) * 9 // 10) + 1 or len(text) * 9 // 10
    tokens = data.TOKENS[args.tokens].learn(text[:cut], args.vocabulary)
    ids, others = tokens.encode(text[:cut]), tokens.encode(text[cut:])
    windows = data.TextWindows(ids, args.window, args.batch_size, seed=args.seed)
    held_out = data.TextWindows(others, args.window, args.batch_size, shuffle=False)
    command_line.write_settings(args)
    tokens.save(folder / "tokens.json")
    print(f"{cut} characters to train on as {len(ids)} tokens of {tokens.vocabulary_size}, {len(text) - cut} held out")

    keras.utils.set_random_seed(args.seed)
    model = build_model(tokens.vocabulary_size, args)
    compile_model(model, args.epochs * len(windows), args)
    print(f"{model.count_params()} weights, {args.epochs} epochs of {len(windows)} batches")
    checkpoint = training.TrainingCheckpoint(
        folder / "training.npz", windows, save_every=args.save_every, resume=args.resume
    )

    def score():
        return measure(model, held_out, len(others), len(text) - cut)

    model.fit(
        windows,
        initial_epoch=checkpoint.initial_epoch,
        epochs=args.epochs,
        verbose=command_line.verbosity(),
        callbacks=[LearningCurve(folder / "curve.csv", score, args.evaluate_every, args.max_minutes), checkpoint],
    )
    model.save(folder / "model.keras")
    found = score()
    print(f"held-out text: loss {found['loss']:.3f} a token, perplexity {found['perplexity']:.2f}")
    print(f"  bits per character: {found['bits']:.3f}")
    print(f"  by the frequency of tokens alone: {bits_of_frequencies(ids, others, len(text) - cut):.3f}")
    if not args.data:
        print(f"  by the grammar that drew the text: {data.bits_of_grammar(text[cut:]):.3f}")
    print(f"model, tokens and curve.csv are in {folder}; processor minutes {processor_minutes():.2f}; it writes:\n")
    write(model, tokens, text[cut:].splitlines(keepends=True)[0], args)


def write_with_saved_model(args):
    trained = command_line.read_settings(args.output)
    tokens = data.TOKENS[trained.tokens].load(Path(args.output, "tokens.json"))
    model = keras.saving.load_model(Path(args.output, "model.keras"), compile=False)
    write(model, tokens, args.prompt, args)


def main(argv=None):
    args = parse_arguments(argv)
    train(args) if args.prompt is None else write_with_saved_model(args)


if __name__ == "__main__":
    main()
