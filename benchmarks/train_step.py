"""How fast are a training step and a prediction? Ours against KerasHub's encoder and torch.nn, in one run, interleaved.

    KERAS_BACKEND=jax python -m benchmarks.train_step [--dropout 0 0.1] [--rounds 9] [--write]

An encoder of 6 blocks, width 256, 8 heads, feed-forward 1,024, on a batch of 16 × 128 tokens, of which a fifth is
padding; Adam, mean squared error of 17 numbers a token. On PyTorch `torch.nn.TransformerEncoder` takes part, with
`torch.optim.Adam`. A training step is `train_on_batch`, 63 GFLOP; a prediction is `predict_on_batch` of the same model,
with the dropout configured.
"""

import argparse
from typing import NamedTuple

import keras
import numpy as np

from benchmarks import contest
from keras_tfm import layers


class Setting(NamedTuple):
    """Sizes of the model and of the batch."""

    num_layers: int = 6
    width: int = 256
    intermediate_dim: int = 1024
    num_heads: int = 8
    batch_size: int = 16
    length: int = 128
    num_outputs: int = 17

    def batch(self):
        """Features float32 `[B, T, D]`, real tokens bool `[B, T]`, targets float32 `[B, T, outputs]`."""
        generator = np.random.default_rng(0)
        x = generator.normal(size=(self.batch_size, self.length, self.width)).astype("float32")
        lengths = generator.integers(3 * self.length // 5, self.length + 1, self.batch_size)
        real = np.arange(self.length) < lengths[:, None]
        return x, real, generator.normal(size=(self.batch_size, self.length, self.num_outputs)).astype("float32")


def keras_model(setting, block):
    """A Functional model of blocks, compiled."""
    x = inputs = keras.Input((setting.length, setting.width))
    real = keras.Input((setting.length,), dtype="bool")
    for _ in range(setting.num_layers):
        x = block()(x, padding_mask=real)
    model = keras.Model([inputs, real], keras.layers.Dense(setting.num_outputs)(x))
    model.compile(keras.optimizers.Adam(1e-3), "mse", jit_compile="auto")
    return model


def ours(setting, dropout):
    """Keras_tfm's encoder blocks."""
    return _of_keras(
        setting, lambda: layers.TransformerEncoder(setting.intermediate_dim, setting.num_heads, dropout=dropout)
    )


def keras_hub(setting, dropout):
    """KerasHub's encoder blocks."""
    import keras_hub

    return _of_keras(
        setting,
        lambda: keras_hub.layers.TransformerEncoder(setting.intermediate_dim, setting.num_heads, dropout=dropout),
    )


def _of_keras(setting, block):
    model = keras_model(setting, block)
    x, real, y = setting.batch()
    if keras.backend.backend() != "torch":
        return lambda: model.train_on_batch([x, real], y), lambda: model.predict_on_batch([x, real])
    import torch

    tensors = [torch.as_tensor(each) for each in (x, real, y)]
    return (
        lambda: model.train_on_batch(tensors[:2], tensors[2]),
        lambda: model.predict_on_batch(tensors[:2]),
    )


def torch_nn(setting, dropout):
    """`torch.nn.TransformerEncoder`, whose prediction takes its fast path."""
    import torch

    layer = torch.nn.TransformerEncoderLayer(
        setting.width, setting.num_heads, setting.intermediate_dim, dropout, batch_first=True
    )
    encoder = torch.nn.TransformerEncoder(layer, setting.num_layers, enable_nested_tensor=False)
    head = torch.nn.Linear(setting.width, setting.num_outputs)
    optimizer = torch.optim.Adam([*encoder.parameters(), *head.parameters()], 1e-3)
    x, real, y = (torch.as_tensor(each) for each in setting.batch())

    def train():
        encoder.train()
        optimizer.zero_grad()
        loss = torch.nn.functional.mse_loss(head(encoder(x, src_key_padding_mask=~real)), y)
        loss.backward()
        optimizer.step()
        return float(loss)

    def predict():
        encoder.eval()
        with torch.no_grad():
            return head(encoder(x, src_key_padding_mask=~real)).numpy()

    return train, predict


def contestants(setting, dropout):
    """name: `(train, predict)`."""
    makers = {"keras_tfm": ours, "keras_hub": keras_hub}
    if keras.backend.backend() == "torch":
        makers["torch.nn"] = torch_nn
    return {name: make(setting, dropout) for name, make in makers.items()}


def report(setting, dropouts, rounds):
    """Markdown tables of training steps and predictions for each rate of dropout, and what dropout costs."""
    tables, trained = [], {}
    for dropout in dropouts:
        made = contestants(setting, dropout)
        for what, place in (("training step", 0), ("prediction", 1)):
            seconds = contest.take_turns({name: pair[place] for name, pair in made.items()}, rounds, warm_up=3)
            title = f"{keras.backend.backend()}, {what}, dropout {dropout:g}"
            tables.append(contest.table(title, seconds, ["keras_hub", "torch.nn"]))
            if place == 0:
                trained[dropout] = np.median(seconds["keras_tfm"])
    if 0 in trained:
        costs = (f"{rate:g} adds {100 * (value / trained[0] - 1):.0f} %" for rate, value in trained.items() if rate)
        tables.append(f"Dropout of {', '.join(costs)} to our training step.\n")
    return "\n".join(tables)


def main():
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--dropout", type=float, nargs="+", default=[0, 0.1])
    parser.add_argument("--rounds", type=int, default=9)
    parser.add_argument("--write", action="store_true", help="append to benchmarks/results")
    arguments = parser.parse_args()
    tables = report(Setting(), arguments.dropout, arguments.rounds)
    print(tables)
    if arguments.write:
        contest.write("train-step", "Training steps and predictions", tables)


if __name__ == "__main__":
    main()
