"""How fast are a training step and a prediction? Ours against what else there is, in one run, interleaved.

    KERAS_BACKEND=jax python -m benchmarks.train_step [--models encoder gpt] [--dropout 0 0.1] [--rounds 9] [--write]

- `encoder`: 6 blocks, width 256, 8 heads, feed-forward 1,024, on a batch of 16 × 128 tokens, of which a fifth is
  padding; mean squared error of 17 numbers a token.
- `translation-tiny`: 4 + 4 blocks, width 128, feed-forward 256, 64 pairs of up to 32 tokens, 8,000 words.
- `translation-base`: 6 + 6 blocks, width 512, feed-forward 2,048, 16 pairs, 32,000 words.
- `gpt`: 12 blocks, width 768, feed-forward 3,072, 128 tokens, 8,000 words.

The encoder's tables have the products of its matrices alone, each as the backend multiplies it: what is left when all
else costs nothing. After each table of training steps stands what memory a step takes from the system anew: its pages
cost time. All with Adam. A training step is `train_on_batch`, a prediction `predict_on_batch` of the same model, with
the dropout configured. On TensorFlow with only a CPU Keras compiles by XLA where it is told to, by `--jit-compile`. On
PyTorch `torch.nn`, x-transformers and Hugging Face take part, with `torch.optim.Adam`. What is not installed is left
out.
"""

import argparse

import keras
import numpy as np

from benchmarks import contest, encoders, language_models, translators

MODELS = {
    "encoder": (encoders, encoders.SETTING),
    "translation-tiny": (translators, translators.TINY),
    "translation-base": (translators, translators.BASE),
    "gpt": (language_models, language_models.SETTING),
}


def report(name, module, setting, dropouts, rounds, warm_up=3):
    """Markdown tables of training steps and predictions for each rate of dropout, and what dropout costs."""
    tables, trained = [], {}
    policy = keras.config.dtype_policy().name
    for dropout in dropouts:
        made = module.contestants(setting, dropout)
        for what, place in (("training step", 0), ("prediction", 1)):
            functions = {contestant: steps[place] for contestant, steps in made.items()}
            seconds = contest.take_turns(functions, rounds, warm_up)
            compiler = ", jit_compile" if setting.jit_compile is True else ""
            title = f"{keras.backend.backend()}{compiler}, {name}, {policy}, {what}, dropout {dropout:g}"
            peers = [contestant for contestant in made if contestant != "keras_tfm"]
            tables.append(contest.table(title, seconds, peers))
            if place == 0:
                trained[dropout] = np.median(seconds["keras_tfm"])
                fresh = {contestant: contest.fresh_memory(step) / 1e6 for contestant, step in functions.items()}
                sizes = ", ".join(f"{contestant} {size:.0f}" for contestant, size in fresh.items())
                tables.append(f"MB that a step takes from the system anew: {sizes}.\n")
    if 0 in trained:
        costs = [f"{rate:g} adds {100 * (value / trained[0] - 1):.0f} %" for rate, value in trained.items() if rate]
        tables += [f"Dropout of {', '.join(costs)} to our training step.\n"] * bool(costs)
    speeds = [f"{setting.num_tokens / value:.0f} at dropout {rate:g}" for rate, value in trained.items()]
    tables.append(f"Places a second in our training steps: {', '.join(speeds)}.\n")
    return "\n".join(tables)


def main():
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--models", nargs="+", choices=list(MODELS), default=["encoder"])
    parser.add_argument("--dropout", type=float, nargs="+", default=[0, 0.1])
    parser.add_argument("--dtype", default="float32", help="Keras' dtype policy, as mixed_bfloat16")
    parser.add_argument("--jit-compile", action="store_true", help="XLA for Keras' models on TensorFlow's CPU too")
    parser.add_argument("--rounds", type=int, default=9)
    parser.add_argument("--write", action="store_true", help="append to benchmarks/results")
    arguments = parser.parse_args()
    keras.config.set_dtype_policy(arguments.dtype)
    for name in arguments.models:
        module, setting = MODELS[name]
        setting = setting._replace(jit_compile=True if arguments.jit_compile else "auto")
        tables = report(name, module, setting, arguments.dropout, arguments.rounds)
        print(tables)
        if arguments.write:
            contest.write("train-step", "Training steps and predictions", tables)


if __name__ == "__main__":
    main()
