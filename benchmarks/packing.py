"""What does padding cost an epoch of translation? Padded random batches, buckets and packed rows, in one run.

    KERAS_BACKEND=jax python -m benchmarks.packing --data DIR [--sentences 600] [--rounds 3] [--write]

The first sentences of Multi30k's training pairs, English to German, by words; a model of 2 + 2 blocks, width 128, with
Adam. All contestants have about as many real tokens in an update. Random batches are padded to their longest sentence,
rounded up to 8 so that few shapes are compiled; buckets are `TranslationBatches`, packed rows
`PackedTranslationBatches`. A round is an epoch of training steps; the first, which compiles, is not counted.
"""

import argparse
import os
import pathlib
from typing import NamedTuple

import keras
import numpy as np

from benchmarks import contest
from keras_tfm import models, text
from keras_tfm.training import TokenCrossEntropy


class Setting(NamedTuple):
    """Sizes of the model, the rows and the updates."""

    vocabulary_size: int = 8000
    num_layers: int = 2
    width: int = 128
    intermediate_dim: int = 512
    num_heads: int = 4
    row_length: int = 64
    tokens_per_update: int = 2048


def word_ids(sentences, vocabulary_size):
    """The words of each sentence as ids by frequency, from 4; 3 is any rarer word."""
    words, inverse, counts = np.unique(
        [word for sentence in sentences for word in sentence.split()], return_inverse=True, return_counts=True
    )
    rank = np.empty(len(words), np.int64)
    rank[np.argsort(-counts, kind="stable")] = 4 + np.arange(len(words))
    ids = np.where(rank < vocabulary_size, rank, 3)[inverse]
    return [part.tolist() for part in np.split(ids, np.cumsum([len(each.split()) for each in sentences])[:-1])]


def random_batches(sources, targets, setting):
    """Sentences in random order; each batch is padded to its longest, rounded up to 8."""
    mean = np.mean([len(source) + len(target) + 1 for source, target in zip(sources, targets, strict=True)])
    size, order = max(round(setting.tokens_per_update / mean), 1), np.random.default_rng(0).permutation(len(sources))
    for start in range(0, len(order), size):
        rows = order[start : start + size]
        width = max(max(len(sources[row]), len(targets[row]) + 1) for row in rows)
        arrays = np.zeros((3, size, width + -width % 8), np.int32)
        for place, row in enumerate(rows):
            for array, ids in zip(arrays, (sources[row], [1, *targets[row]], [*targets[row], 2]), strict=True):
                array[place, : len(ids)] = ids
        yield {"source_ids": arrays[0], "target_ids": arrays[1]}, arrays[2]


def epochs(sources, targets, setting):
    """name: the batches of an epoch. The budgets of padded tokens are those that give the real tokens wanted."""
    half = setting.tokens_per_update // 2
    packed = text.PackedTranslationBatches(
        sources, targets, source_length=setting.row_length, tokens_per_batch=round(half / 0.94)
    )
    buckets = text.TranslationBatches(sources, targets, tokens_per_batch=round(half / 0.88), num_widths=3)
    return {
        "random batches": list(random_batches(sources, targets, setting)),
        "buckets": list(buckets),
        "packed rows": list(packed),
    }


def make_epoch(setting, batches, packed):
    """A function that trains an epoch and returns the loss of a token."""
    keras.utils.set_random_seed(0)
    model = models.Seq2SeqTransformer(
        setting.vocabulary_size,
        setting.num_layers,
        setting.width,
        setting.intermediate_dim,
        setting.num_heads,
        normalize_first=True,
        packed=packed,
    )
    model.compile(keras.optimizers.Adam(1e-3), TokenCrossEntropy(label_smoothing=0.1))

    def epoch():
        losses = []
        for batch in batches:
            model.reset_metrics()  # or Keras returns the mean over all batches so far
            losses.append(float(model.train_on_batch(*batch)))
        return np.average(losses, weights=[np.count_nonzero(labels) for _, labels in batches])

    return epoch


def count_tokens(batches):
    """Real tokens and all of them, padding included, of both sides."""
    arrays = [array for inputs, _ in batches for name, array in inputs.items() if name in ("source_ids", "target_ids")]
    return sum(np.count_nonzero(array) for array in arrays), sum(array.size for array in arrays)


def report(sources, targets, setting, rounds):
    """A Markdown table: updates, padding, real tokens a second and the ratio, and the loss of the last epoch."""
    data, losses = epochs(sources, targets, setting), {}

    def keep_loss(name, epoch):
        def run():
            losses[name] = epoch()

        return run

    functions = {
        name: keep_loss(name, make_epoch(setting, batches, name == "packed rows")) for name, batches in data.items()
    }
    seconds = contest.take_turns(functions, rounds)
    lines = [
        f"## {keras.backend.backend()}, {len(sources)} pairs, {rounds + 1} epochs",
        "",
        "| contestant | updates | real tokens an update | padding % | real tokens/s | min-max | × random | last loss |",
        "|---|---:|---:|---:|---:|---:|---:|---:|",
    ]
    base = np.median(seconds["random batches"])
    for name, batches in data.items():
        real, padded = count_tokens(batches)
        median, slowest, fastest = (real / function(seconds[name]) for function in (np.median, max, min))
        lines.append(
            f"| {name} | {len(batches)} | {real / len(batches):.0f} | {100 * (1 - real / padded):.1f} | {median:.0f} "
            f"| {slowest:.0f}-{fastest:.0f} | {base / np.median(seconds[name]):.2f} | {losses[name]:.3f} |"
        )
    return "\n".join(lines) + "\n"


def read(folder, num_sentences, vocabulary_size):
    """Ids of the first pairs of Multi30k, English and German."""
    folder = pathlib.Path(folder) / "multi30k"
    pairs = text.read_parallel(folder / "train.lc.norm.tok.en", folder / "train.lc.norm.tok.de")[:num_sentences]
    ids = word_ids([sentence for side in zip(*pairs, strict=True) for sentence in side], vocabulary_size)
    return ids[: len(pairs)], ids[len(pairs) :]


def main():
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--data", default=os.environ.get("KERAS_TFM_DATA"), help="folder of the data sets")
    parser.add_argument("--sentences", type=int, default=600)
    parser.add_argument("--rounds", type=int, default=3)
    parser.add_argument("--write", action="store_true", help="append to benchmarks/results")
    arguments = parser.parse_args()
    if arguments.data is None:
        parser.error("--data or KERAS_TFM_DATA must name the folder of the data sets")
    setting = Setting()
    sources, targets = read(arguments.data, arguments.sentences, setting.vocabulary_size)
    table = report(sources, targets, setting, arguments.rounds)
    print(table)
    if arguments.write:
        contest.write("packing", "An epoch of translation without padding", table)


if __name__ == "__main__":
    main()
