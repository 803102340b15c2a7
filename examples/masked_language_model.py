"""Pre-trains an encoder on text without labels, fine-tunes it on few labelled sentences, and fills in hidden words.

    python examples/masked_language_model.py                                # sentences of a grammar: no data needed
    python examples/masked_language_model.py --masking span --static        # token, whole-word or span
    python examples/masked_language_model.py --data FILE.conllu.gz          # a treebank
    python examples/masked_language_model.py --data FILE.txt                # any text: pre-training alone
    python examples/masked_language_model.py --data FILE --vocabulary 4000  # pieces of words
    python examples/masked_language_model.py --fill "they can [MASK] the fish ."

The tasks are a part of speech for each word, and one label for each sentence: statement, question or command, its last
sign left out. Each is learned twice from the same few sentences: from scratch, and from the pre-trained encoder.
"""

from pathlib import Path

import command_line
import keras
import masked_language_data as data
import numpy as np
from learning_curve import LearningCurve, processor_minutes

from keras_tfm import models, text, training

SMALL = dict(
    num_layers=2, hidden_dim=64, intermediate_dim=128, num_heads=4, position="sinusoidal", normalize_first=True,
    dropout=0.0, vocabulary=0, epochs=12, tokens_per_batch=1024, peak_learning_rate=4e-3, warmup_steps=100,
    num_widths=2, num_labelled=50, task_epochs=30,
)  # fmt: skip
LARGE = dict(
    num_layers=3, hidden_dim=128, intermediate_dim=256, num_heads=4, position="sinusoidal", normalize_first=True,
    dropout=0.1, vocabulary=0, epochs=10, tokens_per_batch=2048, peak_learning_rate=2e-3, warmup_steps=400,
    num_widths=3, num_labelled=200, task_epochs=20,
)  # fmt: skip
TASKS = {"parts of speech": data.tagging_batches, "kind of sentence": data.kind_batches}


def parse_arguments(argv=None):
    parser = command_line.make_parser(__doc__, SMALL, LARGE)
    add = parser.add_argument
    add("--data", metavar="FILE", help="text, a sentence a line, or CoNLL-U; none: sentences of a grammar")
    add("--num-sentences", type=int, default=8000, help="drawn without --data")
    add("--masking", choices=("token", "whole-word", "span"), default="token")
    add("--static", action="store_true", help="hide the same tokens in every epoch")
    add("--output", default="masked-language-model", metavar="DIR", help="folder of the model")
    add("--resume", action="store_true", help="go on with the interrupted pre-training of --output, with its flags")
    add("--fill", metavar="TEXT", help="fill in [MASK] in a text, the lines of a file, or of standard input (-)")
    add("--max-minutes", type=float, help="stop pre-training after so much processor time")
    add("--seed", type=int, default=0)
    args = parser.parse_args(argv)
    return command_line.fill_defaults(args, LARGE if args.data else SMALL)


def sizes(pieces, args):
    names = ("num_layers", "hidden_dim", "intermediate_dim", "num_heads", "position", "normalize_first", "dropout")
    return {name: getattr(args, name) for name in names} | {"vocabulary_size": pieces.vocabulary_size}


def masked_batches(sentences, pieces, args, **options):
    ids, words = zip(*(pieces.encode(sentence.tokens) for sentence in sentences), strict=True)
    masking = text.TokenMasking(pieces.vocabulary_size, pieces.mask_id, unit=args.masking.replace("-", "_"))
    return text.MaskedLanguageBatches(
        ids,
        masking,
        word_ids=words,
        mask_positions=True,
        tokens_per_batch=args.tokens_per_batch,
        num_widths=args.num_widths,
        max_length=256,
        too_long="drop",
        seed=args.seed,
        **options,
    )


def pretrain(sentences, pieces, folder, args):
    """A model that fills in what is hidden, of text alone."""
    batches = masked_batches(sentences, pieces, args, dynamic=not args.static)
    model = models.MaskedLM(**sizes(pieces, args), mask_positions=True)
    total = args.epochs * len(batches)
    warmup = min(args.warmup_steps, max(total // 10, 1))
    rate = training.WarmupSchedule(
        peak_learning_rate=args.peak_learning_rate, warmup_steps=warmup, decay="linear", decay_steps=total - warmup + 1
    )
    model.compile(
        keras.optimizers.Adam(rate, beta_2=0.98), training.TokenCrossEntropy(), metrics=[training.TokenAccuracy()]
    )
    print(f"{model.count_params()} weights, {args.epochs} epochs of {len(batches)} batches")
    checkpoint = training.TrainingCheckpoint(folder / "training.npz", batches, resume=args.resume)
    curve = LearningCurve(folder / "curve.csv", dict, every=0, max_minutes=args.max_minutes)
    model.fit(
        batches,
        initial_epoch=checkpoint.initial_epoch,
        epochs=args.epochs,
        verbose=command_line.verbosity(),
        callbacks=[curve, checkpoint],
    )
    return model


def learn_task(task, labels, sentences, held_out, pieces, pretrained, args):
    """The share of right labels on held-out sentences, after training on few; from scratch if `pretrained` is None."""
    keras.utils.set_random_seed(args.seed)
    if task == "parts of speech":
        model = models.SequenceTagger(len(labels), **sizes(pieces, args))
        model.compile(keras.optimizers.Adam(1e-3), training.TokenCrossEntropy(), metrics=[training.TokenAccuracy()])
    else:
        model = models.SequenceClassifier(len(data.KINDS), **sizes(pieces, args))
        loss = keras.losses.SparseCategoricalCrossentropy(from_logits=True)
        model.compile(keras.optimizers.Adam(1e-3), loss, weighted_metrics=["accuracy"])
    if pretrained is not None:
        model.take_encoder(pretrained)
    options = dict(max_length=256, too_long="drop", num_widths=1)
    batches = TASKS[task](sentences, pieces, labels, tokens_per_batch=512, seed=args.seed, **options)
    model.fit(batches, epochs=args.task_epochs, verbose=0)
    scores = model.evaluate(TASKS[task](held_out, pieces, labels, **options), verbose=0, return_dict=True)
    return 100 * next(value for name, value in scores.items() if "accuracy" in name)


def fill(model, pieces, lines, num_words=5):
    """Prints for each [MASK] of the lines what the model would put there."""
    for tokens in map(str.split, lines):
        ids, _ = pieces.encode(tokens)
        places = [place for place, index in enumerate(ids) if index == pieces.mask_id]
        print(" ".join(tokens))
        if not places:
            continue
        inputs = {"token_ids": np.array([ids], "int32"), "mask_positions": np.array([places], "int32")}
        logits = np.asarray(model.predict_on_batch(inputs))
        for row in keras.ops.convert_to_numpy(keras.ops.softmax(logits[0], axis=-1)):
            best = np.argsort(-row)[:num_words]
            print("    " + "  ".join(f"{pieces.name(int(index))} {row[index]:.2f}" for index in best))


def train(args):
    if args.resume:
        args = command_line.read_settings(args.output)
        args.resume = True
    command_line.require(*["tokenizers"] * bool(args.vocabulary))
    sentences = data.read_sentences(args.data, args.num_sentences, args.seed)
    count = min(1000, len(sentences) // 10)
    if count < 1:
        raise SystemExit(f"there must be ten sentences at least; there are {len(sentences)}")
    held_out, sentences = sentences[:count], sentences[count:]
    folder = command_line.write_settings(args)
    pieces = data.Pieces.learn([sentence.tokens for sentence in sentences], args.vocabulary)
    pieces.save(folder / "pieces.json")
    print(f"{len(sentences)} sentences to train on, {count} held out, {pieces.vocabulary_size} ids")

    keras.utils.set_random_seed(args.seed)
    model = pretrain(sentences, pieces, folder, args)
    model.save(folder / "model.keras")
    scores = model.evaluate(masked_batches(held_out, pieces, args, dynamic=False), verbose=0, return_dict=True)
    print(f"hidden tokens of held-out sentences: {100 * scores['token_accuracy']:.2f} % right, {args.masking} masking")

    if sentences[0].tags:
        labels = text.Vocabulary(text.check_labels(sentences, held_out), specials=("<pad>",))
        few = sentences[: args.num_labelled]
        print(f"accuracy after {len(few)} labelled sentences:  from scratch  pre-trained")
        for task in TASKS:
            both = [learn_task(task, labels, few, held_out, pieces, source, args) for source in (None, model)]
            print(f"  {task:<37}  {both[0]:10.2f} %  {both[1]:9.2f} %", flush=True)
    print(f"model and pieces are in {folder}; processor minutes {processor_minutes():.2f}; it fills in:")
    hidden = [len(sentence.tokens) // 2 for sentence in held_out[:3]]
    pairs = zip(held_out, hidden, strict=False)
    fill(model, pieces, [" ".join([*s.tokens[:place], "[MASK]", *s.tokens[place + 1 :]]) for s, place in pairs])


def fill_text(args):
    """Fills in text with the model in the folder."""
    folder = Path(args.output)
    pieces = data.Pieces.load(folder / "pieces.json", command_line.read_settings(folder).vocabulary)
    model = keras.saving.load_model(folder / "model.keras", compile=False)
    fill(model, pieces, command_line.input_lines(args.fill))


def main(argv=None):
    args = parse_arguments(argv)
    train(args) if args.fill is None else fill_text(args)


if __name__ == "__main__":
    main()
