"""One encoder, three kinds of output: a label for each token, one for the sequence, and as many as the model decides.

    python examples/output_kinds.py
    python examples/output_kinds.py --digits 2,7,1,8,2,8

The inputs are sequences of digits. The same encoder has to know three things about them:

- n labels: for each digit, whether it stands elsewhere in the sequence too (a dense layer on every token);
- one label: whether most digits are even (a dense layer on the mean of the tokens);
- as many as the model decides: the digits in order, each once, then END (a decoder).
"""

import argparse

import command_line
import keras
import numpy as np

from keras_tfm import layers, models, training

PAD, START, END, ZERO = 0, 1, 2, 3  # ids; digit d has id ZERO + d


def draw_sequences(rng, num, max_length):
    """Padded ids int `[B, T]` of sequences of 2 to `max_length` digits, and the answers.

    Returns:
        `(inputs, labels)`: `"source_ids"` `[B, T]` and `"target_ids"` `[B, 11]`, which begins with START; `"repeats"`
        int `[B, T]`, -1 at padding; `"evens"` int `[B]`; `"ordered"` int `[B, 11]`, the target that follows.
    """
    digits = rng.integers(0, 10, size=(num, max_length))
    real = np.arange(max_length) < rng.integers(2, max_length + 1, size=num)[:, None]
    source = np.where(real, digits + ZERO, PAD)
    same = (source[:, :, None] == source[:, None]).sum(axis=-1)
    evens = ((digits % 2 == 0) & real).sum(axis=1) * 2 > real.sum(axis=1)
    ordered = np.full((num, 11), PAD)
    for row, ids in zip(ordered, source, strict=True):
        once = np.unique(ids[ids != PAD])
        row[: len(once) + 1] = [*once, END]
    begun = np.concatenate([np.full((num, 1), START), np.where(ordered == END, PAD, ordered)[:, :-1]], axis=1)
    inputs = {"source_ids": source.astype("int32"), "target_ids": begun.astype("int32")}
    return inputs, {"repeats": np.where(real, same > 1, -1), "evens": evens.astype(int), "ordered": ordered}


def build_models(args):
    """A Functional model whose encoder has two dense layers and a decoder above it.

    Returns:
        The whole, for training; the part that labels; and the translator whose encoder and decoder these are.
    """
    translator = models.Seq2SeqTransformer(
        ZERO + 10,
        (args.num_layers, 1),
        args.hidden_dim,
        2 * args.hidden_dim,
        args.num_heads,
        dropout=0.0,
        normalize_first=True,
    )
    source = keras.Input((None,), dtype="int32", name="source_ids")
    target = keras.Input((None,), dtype="int32", name="target_ids")
    encoded = translator.encoder(translator.source_embedding(source))
    decoded = translator.decoder(translator.target_embedding(target), encoded)
    labels = {
        "repeats": keras.layers.Dense(2, name="repeats")(encoded),
        "evens": keras.layers.Dense(2, name="evens")(layers.MaskedMean()(encoded)),
    }
    outputs = labels | {"ordered": translator.target_embedding(decoded, reverse=True)}
    model = keras.Model({"source_ids": source, "target_ids": target}, outputs)
    return model, keras.Model(source, labels), translator


def train(model, inputs, labels, args):
    steps = args.epochs * -(-len(labels["evens"]) // args.batch_size)
    warmup = max(steps // 10, 1)
    rate = training.WarmupSchedule(peak_learning_rate=3e-3, warmup_steps=warmup, decay="linear", decay_steps=steps)
    losses = {
        "repeats": training.TokenCrossEntropy(ignore_id=-1),
        "evens": training.TokenCrossEntropy(ignore_id=None),
        "ordered": training.TokenCrossEntropy(),
    }
    model.compile(keras.optimizers.Adam(rate, beta_2=0.98), losses)
    model.fit(inputs, labels, batch_size=args.batch_size, epochs=args.epochs, verbose=command_line.verbosity())


def answer(labeller, translator, source):
    """All three answers for int ids `[B, T]`: labels `[B, T]`, labels `[B]`, and lists of digits."""
    outputs = labeller.predict_on_batch(source)
    written = translator.generate(source, max_length=12).sequences
    lists = [[int(token) - ZERO for token in row if token >= ZERO] for row in written]
    return outputs["repeats"].argmax(axis=-1), outputs["evens"].argmax(axis=-1), lists


def show(source, repeats, evens, ordered):
    """Prints a sequence with its three answers."""
    digits = [int(token) - ZERO for token in source if token != PAD]
    words = " ".join(f"{digit}*" if repeat else f"{digit}" for digit, repeat in zip(digits, repeats, strict=False))
    print(f"  {words:32} mostly {'even' if evens else 'not even':9} {' '.join(map(str, ordered))}")


def print_scores(labels, repeats, evens, ordered):
    """Percent of right answers: of digits, of sequences, of lists as a whole; and of the most frequent label."""
    real = labels["repeats"] >= 0
    wanted = [[int(token) - ZERO for token in row if token >= ZERO] for row in labels["ordered"]]
    often = [max(truth.mean(), 1 - truth.mean()) for truth in (labels["repeats"][real], labels["evens"])]
    print(f"right of {len(wanted)} held-out sequences, in percent:")
    print(f"  n labels, digits that repeat   {100 * np.mean(repeats[real] == labels['repeats'][real]):6.2f}", end="")
    print(f"  (the most frequent label: {100 * often[0]:.2f})")
    print(f"  one label, mostly even         {100 * np.mean(evens == labels['evens']):6.2f}", end="")
    print(f"  (the most frequent label: {100 * often[1]:.2f})")
    exact = [ours == theirs for ours, theirs in zip(ordered, wanted, strict=True)]
    print(f"  written lists, each as a whole {100 * np.mean(exact):6.2f}")


def read_digits(text, max_length):
    """Ids `[max_length]` of digits that are separated by commas, padded."""
    digits = text.split(",")
    if len(digits) > max_length or not all(len(digit) == 1 and digit in "0123456789" for digit in digits):
        raise SystemExit(f"--digits must be up to {max_length} digits with commas between them. Received: {text}")
    return np.array([int(digit) + ZERO for digit in digits] + [PAD] * (max_length - len(digits)), "int32")


def main(argv=None):
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    add = parser.add_argument
    add("--digits", default="3,1,4,1,5,9,2,6,5", help="a sequence to answer for after training")
    add("--num-sequences", type=int, default=6400, help="to train on")
    add("--max-length", type=int, default=9, help="the most digits of a sequence")
    add("--num-layers", type=int, default=2)
    add("--hidden-dim", type=int, default=48)
    add("--num-heads", type=int, default=4)
    add("--batch-size", type=int, default=64)
    add("--epochs", type=int, default=6)
    add("--seed", type=int, default=0)
    args = parser.parse_args(argv)
    own = read_digits(args.digits, args.max_length)
    keras.utils.set_random_seed(args.seed)
    rng = np.random.default_rng(args.seed)
    inputs, labels = draw_sequences(rng, args.num_sequences, args.max_length)
    held_out, truth = draw_sequences(rng, max(args.num_sequences // 10, 32), args.max_length)
    model, labeller, translator = build_models(args)
    print(f"{args.num_sequences} sequences to train on; {model.count_params()} weights")
    train(model, inputs, labels, args)
    source = np.concatenate([held_out["source_ids"], own[None]])
    answers = answer(labeller, translator, source)
    print_scores(truth, *(each[:-1] for each in answers))
    print("digits, with a star where they repeat; one label; what the decoder wrote:")
    for index in (0, 1, 2, 3, 4, -1):
        show(source[index], *(each[index] for each in answers))


if __name__ == "__main__":
    main()
