"""Trains a small tagger, and looks into it: all heads, what reaches what, and which words a label comes from.

    python examples/seeing.py                                  # the second "can" of "we can can the fish ."
    python examples/seeing.py --sentence "they fish ." --word 1
    python examples/seeing.py --data FILE.conllu --sentence "..."      # learn from tagged text of your own
    python examples/seeing.py --tf-keras-vis                           # its saliency too, beside ours

The words of the task without data have labels that depend on the others of the sentence, so that there is something to
see. Four pictures are written to the folder of --output.
"""

import argparse
from pathlib import Path

import ambiguous_words
import command_line
import keras
import numpy as np

from keras_tfm import models, text, training, visualization


def parse_arguments(argv=None):
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    add = parser.add_argument
    add("--sentence", default="we can can the fish .", help="words with spaces between")
    add("--word", type=int, default=2, metavar="PLACE", help="whose label is looked at, from 0")
    add("--data", metavar="FILE", help="sentences to learn from, in CoNLL-U")
    add("--tf-keras-vis", action="store_true", help="also show the saliency of tf-keras-vis, which needs TensorFlow")
    add("--output", default="seeing", metavar="DIR", help="folder of the pictures")
    add("--num-sentences", type=int, default=3000, help="drawn for the task without data")
    add("--epochs", type=int, default=6)
    add("--num-widths", type=int, default=3, help="lengths that sentences are padded to")
    add("--num-layers", type=int, default=2)
    add("--hidden-dim", type=int, default=32)
    add("--num-heads", type=int, default=4)
    add("--seed", type=int, default=0)
    args = parser.parse_args(argv)
    args.words = args.sentence.split()
    if not 0 <= args.word < len(args.words):
        parser.error(f"--word must be in [0, {len(args.words)}), the words of --sentence")
    return args


def read_sentences(args):
    """Rows of words and rows of tags."""
    if args.data is None:
        return zip(*ambiguous_words.make_sentences(args.num_sentences, args.seed), strict=True)
    return zip(*((row.tokens, row.tags) for row in text.read_conllu(args.data)), strict=True)


def train_tagger(args):
    """A tagger, and the vocabularies of its words and labels."""
    word_rows, tag_rows = read_sentences(args)
    words = text.Vocabulary.from_counts(word for row in word_rows for word in row)
    labels = text.Vocabulary(sorted({tag for row in tag_rows for tag in row}), specials=("<pad>",))
    if unknown := [word for word in args.words if word not in words.tokens]:
        raise SystemExit(f"these words do not occur in training: {' '.join(unknown)}")
    ids, classes = [words.encode(row) for row in word_rows], [labels.encode(row) for row in tag_rows]
    batches = text.TaggingBatches(ids, classes, tokens_per_batch=1024, num_widths=args.num_widths, seed=args.seed)
    sizes = (len(labels), args.num_layers, args.hidden_dim, 2 * args.hidden_dim, args.num_heads)
    model = models.SequenceTagger(*sizes, vocabulary_size=len(words), dropout=0.0)
    model.compile(keras.optimizers.Adam(3e-3), training.TokenCrossEntropy(), metrics=[training.TokenAccuracy()])
    for epoch in range(args.epochs):
        history = model.fit(batches, verbose=command_line.verbosity()).history
        scores = ", ".join(f"{name} {values[-1]:.3f}" for name, values in history.items())
        print(f"epoch {epoch + 1} of {args.epochs}: {scores}", flush=True)
    return model, words, labels


def look_at_attention(model, ids, args, folder):
    """Draws all heads, and what of each word reaches each word of the last layer; returns that for the chosen word."""
    records = visualization.collect_attention(model, ids)
    visualization.plot_heads(records, folder / "heads.png", title=args.sentence)
    rolled = visualization.attention_rollout(records)[0]
    visualization.plot_attention(rolled, args.words, args.words, folder / "rollout.png", title="attention rollout")
    return rolled[args.word], visualization.attention_flow(records, tokens=[args.word])[0, 0]


def look_at_saliency(model, ids, args, folder):
    """What each word does to the logit of the chosen word's label, by four measures; integrated gradients add up."""
    target = (args.word, None)
    parts = visualization.EmbeddedModel(model)
    integrated = visualization.integrated_gradients(parts, ids, target, num_steps=128)
    lines = {
        "gradient": visualization.gradient_saliency(parts, ids, target).scores[0],
        "SmoothGrad": visualization.smooth_grad(parts, ids, target, num_samples=64).scores[0],
        "gradient × input": visualization.gradient_times_input(parts, ids, target).scores[0],
        "integrated gradients": integrated.scores[0],
    }
    if args.tf_keras_vis:
        lines["tf-keras-vis"] = saliency_of_tf_keras_vis(model, ids, args.word)
        largest = np.abs(visualization.gradient_saliency(parts, ids, target).vectors[0]).max(axis=-1)
        print(f"the saliency of tf-keras-vis is ours to within {np.abs(lines['tf-keras-vis'] - largest).max():.1e}")
    title = f"what labels word {args.word}, “{args.words[args.word]}”"
    visualization.plot_saliency(lines, args.words, folder / "saliency.png", title=title)
    missed = float(np.abs(integrated.residuals[0]))
    print(
        f"integrated gradients sum to {integrated.scores[0].sum():.3f}, the change of the logit to within {missed:.3f}"
    )
    return lines


def saliency_of_tf_keras_vis(model, ids, word):
    """The largest gradient at each word, by tf-keras-vis; on JAX and PyTorch through a bridge."""
    from tf_keras_vis.saliency import Saliency

    best = int(np.asarray(model.predict_on_batch(ids))[0, word].argmax())
    vis = visualization.tf_keras_vis_model(model, ids)
    return Saliency(vis.model)(lambda logits: logits[:, word, best], vis.embeddings, normalize_map=False)[0]


def main(argv=None):
    args = parse_arguments(argv)
    command_line.require("matplotlib", *["tf_keras_vis", "tensorflow"] * args.tf_keras_vis)
    folder = Path(args.output)
    folder.mkdir(parents=True, exist_ok=True)
    keras.utils.set_random_seed(args.seed)
    model, words, labels = train_tagger(args)
    ids = np.array([words.encode(args.words)])
    best = np.asarray(model.predict_on_batch(ids))[0, :, 1:].argmax(-1) + 1  # class 0 is the padding
    print(" ".join(f"{word}/{tag}" for word, tag in zip(args.words, labels.decode(best), strict=True)))

    rolled, flow = look_at_attention(model, ids, args, folder)
    columns = {"rollout": rolled, "flow": flow, **look_at_saliency(model, ids, args, folder)}
    print(f"{'word':12}" + "".join(f"{name:>22}" for name in columns))
    for i, word in enumerate(args.words):
        print(f"{word:12}" + "".join(f"{values[i]:22.3f}" for values in columns.values()))

    common = words.tokens[4:44]  # after padding, start, end and unknown, the most frequent first
    vectors = visualization.EmbeddedModel(model).embed(np.array([words.encode(common)]))[0]
    visualization.plot_embeddings(vectors, common, folder / "words.png", title="embedded words")
    print(f"heads.png, rollout.png, saliency.png and words.png are in {folder}")


if __name__ == "__main__":
    main()
