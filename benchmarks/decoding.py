"""How fast is decoding? Ours against KerasHub and Hugging Face Transformers, in one run, interleaved.

    KERAS_BACKEND=jax python -m benchmarks.decoding [--strategies greedy beam] [--rounds 3] [--memory] [--write]

A GPT of random weights: 6 layers, width 512, 8 heads, 8,000 tokens; batch 8, prompts of 16 tokens, 128 more; float32.
The limit is the matrix products of a step alone, by the backend's own primitive. `--memory` runs each contestant in a
process of its own and reports how far its peak memory is above that before decoding; `--write` puts the table into
benchmarks/results. Needs keras_hub, transformers and torch for the peers; those that are missing are left out.
"""

import argparse
import subprocess
import sys
from typing import NamedTuple

import keras
import numpy as np

from benchmarks import contest
from keras_tfm import backend, models


class Setting(NamedTuple):
    """Sizes of the model and of the task."""

    vocabulary_size: int = 8000
    num_layers: int = 6
    hidden_dim: int = 512
    intermediate_dim: int = 2048
    num_heads: int = 8
    batch_size: int = 8
    prompt_length: int = 16
    max_length: int = 128
    num_beams: int = 4

    @property
    def num_tokens(self):
        """How many tokens one run generates."""
        return self.batch_size * self.max_length

    def prompts(self):
        """int32 `[B, P]`."""
        return np.random.default_rng(0).integers(
            1, self.vocabulary_size, (self.batch_size, self.prompt_length), "int32"
        )


def ours(setting, strategy, cache=None):
    """A function that generates, and the bytes of its cache."""
    model = models.CausalLM(
        setting.vocabulary_size,
        setting.num_layers,
        setting.hidden_dim,
        setting.intermediate_dim,
        setting.num_heads,
        sequence_length=setting.prompt_length + setting.max_length,
    )
    rows = setting.batch_size * (setting.num_beams if strategy == "beam" else 1)
    length = setting.prompt_length - 1 + setting.max_length
    num_bytes = model.create_cache(rows, length, cache).num_bytes
    settings = {"num_beams": setting.num_beams} if strategy == "beam" else {}
    prompts = setting.prompts()

    def generate():
        model.generate(prompts, max_length=setting.max_length, strategy=strategy, cache=cache, **settings)

    return generate, num_bytes


def keras_hub(setting, strategy):
    """KerasHub's GPT-2 and its samplers."""
    import keras_hub

    length = setting.prompt_length + setting.max_length
    backbone = keras_hub.models.GPT2Backbone(
        setting.vocabulary_size,
        setting.num_layers,
        setting.num_heads,
        setting.hidden_dim,
        setting.intermediate_dim,
        max_sequence_length=length,
    )
    model = keras_hub.models.GPT2CausalLM(backbone, preprocessor=None)
    sampler = keras_hub.samplers.BeamSampler(setting.num_beams) if strategy == "beam" else "greedy"
    model.compile(sampler=sampler)
    rest = ((0, 0), (0, setting.max_length))
    tokens = np.pad(setting.prompts(), rest)
    inputs = {"token_ids": tokens, "padding_mask": np.pad(np.ones_like(setting.prompts()), rest)}
    num_bytes = 4 * 2 * setting.num_layers * setting.batch_size * length * setting.hidden_dim
    times = setting.num_beams if strategy == "beam" else 1
    return lambda: model.generate(inputs, stop_token_ids=None), num_bytes * times


def hugging_face(setting, strategy):
    """Transformers' GPT-2, on PyTorch."""
    import torch
    import transformers

    config = transformers.GPT2Config(
        vocab_size=setting.vocabulary_size,
        n_layer=setting.num_layers,
        n_head=setting.num_heads,
        n_embd=setting.hidden_dim,
        n_inner=setting.intermediate_dim,
        n_positions=setting.prompt_length + setting.max_length,
        bos_token_id=0,
        eos_token_id=0,
        pad_token_id=0,
    )
    model = transformers.GPT2LMHeadModel(config).eval()
    tokens = torch.tensor(setting.prompts(), dtype=torch.long)
    options = {
        "do_sample": False,
        "num_beams": setting.num_beams if strategy == "beam" else 1,
        "min_new_tokens": setting.max_length,
        "max_new_tokens": setting.max_length,
        "attention_mask": torch.ones_like(tokens),
    }

    def generate():
        with torch.no_grad():
            model.generate(tokens, **options)

    return generate, None


def products_alone(setting, strategy):
    """The matrix products of all steps and nothing else: what memory and arithmetic allow."""
    rows = setting.batch_size * (setting.num_beams if strategy == "beam" else 1)
    width, inner = setting.hidden_dim, setting.intermediate_dim
    shapes = [(width, width)] * 4 + [(width, inner), (inner, width)]
    shapes = shapes * setting.num_layers + [(width, setting.vocabulary_size)]
    weights = [keras.Variable(np.full(shape, 1e-3, "float32")) for shape in shapes]

    def step(x):
        results = []
        for weight in weights:
            x = keras.ops.matmul(x[:, :1] + keras.ops.zeros((rows, weight.shape[0])), weight)
            results.append(keras.ops.mean(x))
        return sum(results)

    compiled = backend.compile_loop(step, weights)
    x = keras.ops.ones((rows, width))

    def run():
        for _ in range(setting.max_length):
            result = compiled(x)
        keras.ops.convert_to_numpy(result)

    return run, None


def ours_int8(setting, strategy):
    """Ours with a cache of int8."""
    return ours(setting, strategy, "int8")


CONTESTANTS = {
    "keras_hub": keras_hub,
    "transformers (torch)": hugging_face,
    "keras_tfm": ours,
    "keras_tfm, int8 cache": ours_int8,
    "products alone": products_alone,
}


def contestants(setting, strategy, names=None):
    """name: `(function, bytes of the cache)`, those that are installed."""
    made = {}
    for name in names or CONTESTANTS:
        try:
            made[name] = CONTESTANTS[name](setting, strategy)
        except ImportError as error:
            print(f"{name} is left out: {error}", file=sys.stderr)
    return made


def peak_memory(name, strategy):
    """MB that decoding adds to the peak memory of a process, measured in one of its own."""
    command = [sys.executable, "-m", "benchmarks.decoding", "--strategies", strategy, "--peak-of", name]
    output = subprocess.run(command, capture_output=True, text=True, check=True).stdout
    return float(output.split()[-1])


def print_peak(setting, strategy, name):
    """For `peak_memory`: prints how much the second call adds to the memory that the process had before the first."""
    function, _ = CONTESTANTS[name](setting, strategy)
    print(contest.peak_memory(lambda: (function(), function())) / 1e6)


def report(setting, strategy, rounds, memory=False, names=None):
    """A Markdown table: tokens a second by the median, spread, ratios, cache and peak memory."""
    made = contestants(setting, strategy, names)
    seconds = contest.take_turns({name: function for name, (function, _) in made.items()}, rounds)
    medians = {name: np.median(values) for name, values in seconds.items()}
    lines = [
        f"## {keras.backend.backend()}, {strategy}{f' of {setting.num_beams}' if strategy == 'beam' else ''}",
        "",
        "| contestant | tokens/s | min-max | × keras_hub | × transformers | share of the limit | cache MB | peak MB |",
        "|---|---:|---:|---:|---:|---:|---:|---:|",
    ]
    for name, values in seconds.items():
        speeds = sorted(setting.num_tokens / value for value in values)
        ratios = [
            f"{medians[peer] / medians[name]:.2f}" if peer in medians else ""
            for peer in ("keras_hub", "transformers (torch)")
        ]
        share = f"{100 * medians['products alone'] / medians[name]:.0f} %" if "products alone" in medians else ""
        cache = "" if made[name][1] is None else f"{made[name][1] / 1e6:.1f}"
        peak = f"{peak_memory(name, strategy):.0f}" if memory else ""
        speed = setting.num_tokens / medians[name]
        span = f"{speeds[0]:.0f}-{speeds[-1]:.0f}"
        lines.append(f"| {name} | {speed:.0f} | {span} | {' | '.join(ratios)} | {share} | {cache} | {peak} |")
    return "\n".join(lines) + "\n"


def main():
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--strategies", nargs="+", default=["greedy", "beam"], choices=["greedy", "beam"])
    parser.add_argument("--rounds", type=int, default=3)
    parser.add_argument("--contestants", nargs="+", choices=list(CONTESTANTS))
    parser.add_argument("--memory", action="store_true", help="also measure peak memory")
    parser.add_argument("--write", action="store_true", help="append to benchmarks/results")
    parser.add_argument("--peak-of", choices=list(CONTESTANTS), help=argparse.SUPPRESS)
    arguments = parser.parse_args()
    setting = Setting()
    if arguments.peak_of:
        print_peak(setting, arguments.strategies[0], arguments.peak_of)
        return
    options = arguments.rounds, arguments.memory, arguments.contestants
    tables = [report(setting, strategy, *options) for strategy in arguments.strategies]
    print("\n".join(tables))
    if arguments.write:
        contest.write("decoding", "Decoding", "\n".join(tables))


if __name__ == "__main__":
    main()
