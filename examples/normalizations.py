"""Layer normalization against batch normalization: the same tagger with each, and what padding and batches do to them.

    python examples/normalizations.py                     # "I saw a saw": no data needed
    python examples/normalizations.py --updates 400 --batch-sizes 2 8 64

A layer norm takes its statistics from one token. A batch norm takes them from all tokens of a batch: it must be told
which of them are padding, it makes a sentence's outputs depend on the others of its batch, and at test time it uses
averages from training. A block hands the mask to Keras' layer, as it does with `normalization="batch"`; "batch,
padding counted" is the same layer without it.
"""

import argparse

import keras
import labelling_data as data
import numpy as np

from keras_tfm import layers, training


@keras.saving.register_keras_serializable(package="examples")
class UnmaskedBatchNormalization(keras.layers.BatchNormalization):
    """Batch normalization that counts padding as if it were tokens."""

    def call(self, inputs, training=None):
        return super().call(inputs, training=training)


# The averages for test time forget by 0.9 an update, as Keras' default of 0.99 would outlast a short training.
NORMALIZATIONS = {
    "layer": lambda: "layer",
    "rms": lambda: "rms",
    "batch": lambda: keras.layers.BatchNormalization(momentum=0.9, epsilon=1e-5),
    "batch, padding counted": lambda: UnmaskedBatchNormalization(momentum=0.9, epsilon=1e-5),
}


def parse_arguments(argv=None):
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    add = parser.add_argument
    add("--num-sentences", type=int, default=6000, help="drawn, a tenth of them held out")
    add("--updates", type=int, default=150, help="of the weights, for every network alike")
    add("--batch-sizes", type=int, nargs="+", default=[2, 64], help="sentences in a batch")
    add("--num-layers", type=int, default=2)
    add("--hidden-dim", type=int, default=32)
    add("--intermediate-dim", type=int, default=64)
    add("--num-heads", type=int, default=4)
    add("--learning-rate", type=float, default=5e-3)
    add("--normalizations", nargs="+", choices=list(NORMALIZATIONS), default=list(NORMALIZATIONS))
    add("--seed", type=int, default=0)
    return parser.parse_args(argv)


def read_arrays(args):
    """Ids of words and labels `[number, length]`, 0 at padding, to train on and held out, and the vocabularies."""
    sentences, held_out = data.read_sentences("ambiguous", None, args.num_sentences, args.seed)
    vocabularies = data.Vocabularies.collect(sentences, 1)
    length = max(len(sentence.tokens) for sentence in [*sentences, *held_out])

    def padded(rows):
        return np.array([[*row, *[0] * (length - len(row))] for row in rows], "int32")

    def arrays(part):
        words = [vocabularies.words.encode(map(str.lower, sentence.tokens)) for sentence in part]
        return padded(words), padded([vocabularies.labels.encode(sentence.tags) for sentence in part])

    return arrays(sentences), arrays(held_out), vocabularies


def build_model(normalization, vocabularies, args):
    """A tagger that differs from the others in its norms alone."""
    keras.utils.set_random_seed(args.seed)
    ids = keras.Input((None,), dtype="int32")
    x = layers.PositionalEmbedding(
        len(vocabularies.words), 512, args.hidden_dim, mask_zero=True, position="sinusoidal"
    )(ids)
    for _ in range(args.num_layers):
        x = layers.TransformerEncoder(
            args.intermediate_dim, args.num_heads, normalization=NORMALIZATIONS[normalization]()
        )(x)
    return keras.Model(ids, keras.layers.Dense(len(vocabularies.labels))(x))


def train(model, arrays, batch_size, args):
    """Trains for a number of updates, each on the next `batch_size` sentences."""
    model.compile(keras.optimizers.Adam(args.learning_rate), training.TokenCrossEntropy())
    places = np.arange(args.updates * batch_size) % len(arrays[0])
    words, tags = (array[places] for array in arrays)
    model.fit(words, tags, batch_size=batch_size, epochs=1, shuffle=False, verbose=0)


def accuracy(model, arrays):
    """Right labels of real tokens in percent, with the statistics of training."""
    words, tags = arrays
    best = np.argmax(model.predict(words, batch_size=256, verbose=0)[..., 1:], axis=-1) + 1
    return 100 * float(np.mean((best == tags)[tags > 0]))


def largest_changes(model, words, extra=24):
    """How much the logits of the first half of some sentences move, at real tokens.

    Returns:
        Two numbers in training, when `extra` places of padding are added and when the second half becomes other
        sentences, and the first again at test time.
    """
    half, length = len(words) // 2, words.shape[1]
    real, wider = words[:half] > 0, np.pad(words, ((0, 0), (0, extra)))
    other = np.concatenate([words[:half], words[:half, ::-1]])

    def change(inputs, training):
        before, after = (
            keras.ops.convert_to_numpy(model(each, training=training))[:half, :length] for each in (words, inputs)
        )
        return np.abs(after - before)[real].max()

    return change(wider, True), change(other, True), change(wider, False)


def main(argv=None):
    args = parse_arguments(argv)
    train_arrays, held_out, vocabularies = read_arrays(args)
    share = 100 * np.mean(train_arrays[0] == 0)
    print(f"{len(train_arrays[0])} sentences to train on, {len(held_out[0])} held out; {share:.0f} % of the places are")
    print(f"padding; every network gets {args.updates} updates")
    changes = {}
    for batch_size in args.batch_sizes:
        print(f"accuracy on held-out sentences, trained on batches of {batch_size}:")
        for name in args.normalizations:
            model = build_model(name, vocabularies, args)
            train(model, train_arrays, batch_size, args)
            print(f"  {name}: {accuracy(model, held_out):.2f} %", flush=True)
            changes[name] = largest_changes(model, held_out[0][:16])
    print(f"largest change of a real token's logits, networks trained on batches of {args.batch_sizes[-1]}:")
    for name, (by_padding, by_batch, at_test) in changes.items():
        print(
            f"  {name}: by more padding {by_padding:.1e} in training, {at_test:.1e} at test time; "
            f"by the rest of the batch {by_batch:.1e} in training"
        )


if __name__ == "__main__":
    main()
