"""Trains a Transformer encoder that labels every word of a sentence, scores it, and labels with it.

    python examples/sequence_labelling.py                                  # "I saw a saw": no data needed
    python examples/sequence_labelling.py --data DIR --task ewt            # parts of speech, UD English EWT
    python examples/sequence_labelling.py --data DIR --task wnut17         # entities, WNUT-17
    python examples/sequence_labelling.py --encoder lstm                   # or gru or conv in place of self-attention
    python examples/sequence_labelling.py --resume                         # goes on after an interruption, exactly
    python examples/sequence_labelling.py --label "we can can the fish ."  # or a file, or - for standard input

The default task has words whose part of speech depends on the whole sentence: there the script also trains a network
that sees one word at a time, and computes the ceiling that no such network can pass.
"""

import itertools
from pathlib import Path

import ambiguous_words
import command_line
import keras
import labelling_data as data
import numpy as np
from learning_curve import LearningCurve

from keras_tfm import layers, models, training, visualization

SMALL = dict(
    num_layers=2, hidden_dim=64, intermediate_dim=128, num_heads=4, encoder="attention", position="sinusoidal",
    normalize_first=False, dropout=0.0, token_dropout=0.0, min_count=1, epochs=12, tokens_per_batch=2048, num_widths=6,
    peak_learning_rate=2e-3, warmup_steps=100,
)  # fmt: skip
LARGE = dict(
    num_layers=2, hidden_dim=128, intermediate_dim=256, num_heads=4, encoder="attention", position="sinusoidal",
    normalize_first=False, dropout=0.2, token_dropout=0.1, min_count=2, epochs=16, tokens_per_batch=2048, num_widths=6,
    peak_learning_rate=2e-3, warmup_steps=400,
)  # fmt: skip


def parse_arguments(argv=None):
    parser = command_line.make_parser(__doc__, SMALL, LARGE)
    add = parser.add_argument
    add("--task", choices=("ambiguous", *data.FILES), default="ambiguous")
    add("--data", metavar="DIR", help="folder with the files of the task, or with a folder named after it")
    add("--num-sentences", type=int, default=11_000, help="drawn for the task without data")
    add("--output", default="tagger", metavar="DIR", help="folder of the model")
    add("--resume", action="store_true", help="go on with the interrupted training of --output, with its flags")
    add("--label", metavar="TEXT", help="label a text, the lines of a file, or of standard input (-)")
    add("--evaluate-every", type=int, default=0, metavar="EPOCHS", help="score so often on the way; 0: never")
    add("--max-minutes", type=float, help="stop after so much processor time, as minutes of a machine with 2 cores")
    add("--save-every", type=int, default=200, metavar="BATCHES", help="write the checkpoint so often")
    add("--seed", type=int, default=0)
    args = parser.parse_args(argv)
    if (args.task == "ambiguous") != (args.data is None):
        parser.error("--task ewt and --task wnut17 need --data, and --data needs one of them")
    return command_line.fill_defaults(args, LARGE if args.data else SMALL)


def train_model(model, batches, score_held_out, path, args):
    total = args.epochs * len(batches)
    warmup = min(args.warmup_steps, max(total // 10, 1))
    rate = training.WarmupSchedule(
        peak_learning_rate=args.peak_learning_rate, warmup_steps=warmup, decay="linear", decay_steps=total - warmup + 1
    )
    model.compile(
        keras.optimizers.Adam(rate, beta_2=0.98), training.TokenCrossEntropy(), metrics=[training.TokenAccuracy()]
    )
    checkpoint = training.TrainingCheckpoint(
        path.with_suffix(".npz"), batches, save_every=args.save_every, resume=args.resume
    )
    curve = LearningCurve(path.with_suffix(".csv"), score_held_out, args.evaluate_every, args.max_minutes)
    model.fit(
        batches,
        initial_epoch=checkpoint.initial_epoch,
        epochs=args.epochs,
        verbose=command_line.verbosity(),
        callbacks=[curve, checkpoint],
    )


def predict_tags(model, vocabularies, token_rows, num_widths=6):
    """A label for each token of each sentence."""
    batches = vocabularies.batches(token_rows, tokens_per_batch=4096, num_widths=num_widths, shuffle=False)
    tag_rows = [[] for _ in token_rows]
    for index in range(len(batches)):
        (inputs,) = batches[index]
        # Class 0 is the padding, which is no answer.
        best = np.argmax(np.asarray(model.predict_on_batch(inputs))[:, :, 1:], axis=-1) + 1
        for row, ids in zip(batches.rows(index), best, strict=True):
            if row >= 0:
                tag_rows[row] = vocabularies.labels.decode(ids[: len(token_rows[row])])
    return tag_rows


def score(sentences, tag_rows):
    """The share of right labels, and F1 of whole entities where labels are B- and I-."""
    right = np.concatenate([row.tags for row in sentences]) == np.concatenate(tag_rows)
    scores = {"accuracy": 100 * float(right.mean())}
    true_rows = [list(sentence.tags) for sentence in sentences]
    kinds = {tag[2:] for tag in itertools.chain(*true_rows, *tag_rows) if tag.startswith(("B-", "I-"))}
    if kinds:
        import nervaluate

        evaluator = nervaluate.Evaluator(true_rows, tag_rows, tags=sorted(kinds), loader="list")
        # An entity counts where its words and its kind are right.
        scores["entity F1"] = 100 * float(evaluator.evaluate()["overall"]["strict"].f1)
    return scores


def draw_attention(model, vocabularies, tokens, path):
    """Draws what each word attends to in the last block."""
    (inputs,) = vocabularies.batches([tokens], width_multiple=1, row_multiple=1)[0]
    embed = keras.Model(model.input, model.get_layer("embedding_dropout").output)
    _, scores = model.encoder(embed.predict_on_batch(inputs), return_attention_scores=True)
    last = keras.ops.convert_to_numpy(scores[-1])
    visualization.plot_attention(last[0], tokens, tokens, path, title="self-attention of the last block")


def label_text(args):
    """Labels text with the model in the folder."""
    model = keras.saving.load_model(Path(args.output, "model.keras"), compile=False)
    token_rows = [tokens for tokens in map(str.split, command_line.input_lines(args.label)) if tokens]
    tag_rows = predict_tags(model, data.Vocabularies.load(args.output), token_rows)
    for tokens, tags in zip(token_rows, tag_rows, strict=True):
        print(" ".join(f"{token}/{tag}" for token, tag in zip(tokens, tags, strict=True)))


def one_word_network(vocabularies, args):
    """A network that sees one word at a time, so that it can learn no more than each word's most frequent label."""
    words = keras.Input((None,), dtype="int32", name="token_ids")
    characters = keras.Input((None, None), dtype="int32", name="character_ids")
    embedded = [
        keras.layers.Embedding(len(vocabularies.words), args.hidden_dim, mask_zero=True)(words),
        layers.CharacterEmbedding(len(vocabularies.characters), args.hidden_dim)(characters),
    ]
    x = keras.layers.Dense(args.intermediate_dim, activation="relu")(keras.layers.Add()(embedded))
    outputs = keras.layers.Dense(len(vocabularies.labels))(x)
    return keras.Model({"token_ids": words, "character_ids": characters}, outputs)


def encoder_network(vocabularies, args):
    return models.SequenceTagger(
        len(vocabularies.labels),
        args.num_layers,
        args.hidden_dim,
        args.intermediate_dim,
        args.num_heads,
        vocabulary_size=len(vocabularies.words),
        character_vocabulary_size=len(vocabularies.characters),
        encoder=args.encoder,
        position=args.position,
        normalize_first=args.normalize_first,
        dropout=args.dropout,
        token_dropout=args.token_dropout,
    )


def train(args):
    if args.resume:
        args = command_line.read_settings(args.output)
        args.resume = True
    command_line.require("matplotlib", "nervaluate")
    folder = command_line.write_settings(args)
    keras.utils.set_random_seed(args.seed)
    sentences, held_out = data.read_sentences(args.task, args.data, args.num_sentences, args.seed)
    vocabularies = data.Vocabularies.collect(sentences, args.min_count)
    token_rows, tag_rows = zip(*((sentence.tokens, sentence.tags) for sentence in sentences), strict=True)
    print(f"{len(sentences)} sentences to train on, {len(held_out)} held out, {len(vocabularies.labels) - 1} labels")
    networks = {"self-attention" if args.encoder == "attention" else args.encoder: encoder_network}
    if args.data is None:
        networks = {"one word at a time": one_word_network} | networks
        ceiling = 100 * ambiguous_words.ceiling([(tuple(s.tokens), s.tags) for s in held_out])
    results = []
    for name, make in networks.items():
        model = make(vocabularies, args)
        options = dict(tokens_per_batch=args.tokens_per_batch, num_widths=args.num_widths, seed=args.seed)
        batches = vocabularies.batches(token_rows, tag_rows, **options)
        print(f"{name}: {model.count_params()} weights")

        def score_held_out(model=model):
            return score(held_out, predict_tags(model, vocabularies, [s.tokens for s in held_out], args.num_widths))

        train_model(model, batches, score_held_out, folder / name.replace(" ", "-"), args)
        results += [f"{name}: {metric} {value:.2f} %" for metric, value in score_held_out().items()]
    model.save(folder / "model.keras")
    vocabularies.save(folder)
    written = ["model", "vocabularies"]
    if args.encoder == "attention":
        draw_attention(model, vocabularies, held_out[0].tokens, folder / "attention.png")
        written.append("attention.png")
    print(f"{', '.join(written)} are in {folder}; on {len(held_out)} held-out sentences:")
    if args.data is None:
        print(f"  ceiling of every function of one word: accuracy {ceiling:.2f} %")
    print("\n".join(f"  {result}" for result in results))


def main(argv=None):
    args = parse_arguments(argv)
    train(args) if args.label is None else label_text(args)


if __name__ == "__main__":
    main()
