"""How does the time of an encoder's prediction grow with the length? Ours against what else there is, interleaved.

    KERAS_BACKEND=torch python -m benchmarks.inference [--lengths 128 512] [--tokens 2048] [--rounds 5] [--write]

`predict_on_batch` of 6 blocks, width 256, 8 heads, feed-forward 1,024, with a dropout of 0.1 configured, on as many
places at each length: 16 × 128 or 1 × 2,048, of which about a fifth is padding. On PyTorch `torch.nn` takes its fast
path, also with nested tensors, which leave the padding out, and x-transformers takes part. What is not installed is
left out.
"""

import argparse

import keras

from benchmarks import contest, encoders


def report(setting, lengths, num_tokens, rounds, dropout=0.1):
    """Markdown tables of predictions, one a length."""
    tables = []
    for length in lengths:
        batch_size = max(num_tokens // length, 1)
        made = encoders.contestants(setting._replace(length=length, batch_size=batch_size), dropout, nested=True)
        seconds = contest.take_turns({name: each.predict for name, each in made.items()}, rounds, warm_up=2)
        title = f"{keras.backend.backend()}, prediction of {batch_size} × {length:,} tokens"
        tables.append(contest.table(title, seconds, [name for name in made if name != "keras_tfm"]))
    return "\n".join(tables)


def main():
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--lengths", type=int, nargs="+", default=[128, 256, 512, 1024, 2048])
    parser.add_argument("--tokens", type=int, default=2048, help="places of a batch, whatever the length")
    parser.add_argument("--rounds", type=int, default=5)
    parser.add_argument("--write", action="store_true", help="append to benchmarks/results")
    arguments = parser.parse_args()
    tables = report(encoders.SETTING, arguments.lengths, arguments.tokens, arguments.rounds)
    print(tables)
    if arguments.write:
        contest.write("inference", "Predictions against the length", tables)


if __name__ == "__main__":
    main()
