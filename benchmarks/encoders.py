"""The encoder that benchmarks train and ask, of each contestant, on the same batch with padding."""

import functools
import warnings

import keras
import numpy as np

from benchmarks import contest, products, steps
from keras_tfm import layers

SETTING = steps.Setting(6, 256, 1024, 8, batch_size=16, length=128)  # a training step is 63 GFLOP


def batch(setting):
    """Features float32 `[B, T, D]`, real tokens bool `[B, T]`, targets float32 `[B, T, outputs]`."""
    generator = np.random.default_rng(0)
    x = generator.normal(size=(setting.batch_size, setting.length, setting.width)).astype("float32")
    lengths = generator.integers(3 * setting.length // 5, setting.length + 1, setting.batch_size)
    real = np.arange(setting.length) < lengths[:, None]
    return x, real, generator.normal(size=(setting.batch_size, setting.length, setting.num_outputs)).astype("float32")


def contestants(setting, dropout, nested=False):
    """Steps by name, of those that are installed; with PyTorch's nested tensors if `nested`."""
    makers = {"keras_tfm": ours, "keras_hub": keras_hub, "keras.layers": keras_layers}
    makers["products alone"] = lambda setting, dropout: products.steps_of(products.of_encoder(setting))
    if keras.backend.backend() == "torch":
        makers["keras_tfm, skip_padding"] = functools.partial(ours, skip_padding=True)
        makers |= {"torch.nn": torch_nn, **({"torch.nn, nested": torch_nn_nested} if nested else {})}
        makers["x-transformers"] = x_transformers
    return contest.make_all(makers, setting, dropout)


def ours(setting, dropout, skip_padding=False):
    """Keras_tfm's encoder blocks."""
    block = functools.partial(layers.TransformerEncoder, dropout=dropout, skip_padding=skip_padding)
    return of_blocks(setting, lambda: block(setting.intermediate_dim, setting.num_heads))


def keras_hub(setting, dropout):
    """KerasHub's encoder blocks."""
    import keras_hub

    block = keras_hub.layers.TransformerEncoder
    return of_blocks(setting, lambda: block(setting.intermediate_dim, setting.num_heads, dropout=dropout))


def keras_layers(setting, dropout):
    """Blocks as one writes them with Keras' own layers."""
    parts = keras.layers

    def block(x, padding_mask):
        attention = parts.MultiHeadAttention(setting.num_heads, setting.width // setting.num_heads, dropout=dropout)
        update = attention(x, x, attention_mask=keras.ops.expand_dims(padding_mask, 1))
        x = parts.LayerNormalization(epsilon=1e-5)(parts.Add()([x, parts.Dropout(dropout)(update)]))
        update = parts.Dense(setting.width)(parts.Dense(setting.intermediate_dim, "relu")(x))
        return parts.LayerNormalization(epsilon=1e-5)(parts.Add()([x, parts.Dropout(dropout)(update)]))

    return of_blocks(setting, lambda: block)


def of_blocks(setting, make_block):
    """Steps of a Functional model of blocks and a Dense layer, with the mean squared error."""
    x = inputs = keras.Input((setting.length, setting.width))
    real = keras.Input((setting.length,), dtype="bool")
    for _ in range(setting.num_layers):
        x = make_block()(x, padding_mask=real)
    model = keras.Model([inputs, real], keras.layers.Dense(setting.num_outputs, dtype="float32")(x))
    *arrays, targets = batch(setting)
    return steps.of_keras(model, "mse", arrays, targets, setting.jit_compile)


def torch_nn(setting, dropout, nested=False):
    """`torch.nn.TransformerEncoder`, whose prediction takes its fast path."""
    import torch

    class Model(torch.nn.Module):
        def __init__(self):
            super().__init__()
            sizes = setting.width, setting.num_heads, setting.intermediate_dim
            block = torch.nn.TransformerEncoderLayer(*sizes, dropout, batch_first=True)
            self.encoder = torch.nn.TransformerEncoder(block, setting.num_layers, enable_nested_tensor=nested)
            self.head = torch.nn.Linear(setting.width, setting.num_outputs)

        def forward(self, x, padding):
            return self.head(self.encoder(x, src_key_padding_mask=padding))

    x, real, targets = batch(setting)
    return steps.of_torch(Model(), torch.nn.functional.mse_loss, [x, ~real], targets)


def torch_nn_nested(setting, dropout):
    """The same with nested tensors in its prediction, which leave the padding out."""
    return torch_nn(setting, dropout, nested=True)


def x_transformers(setting, dropout):
    """The encoder of x-transformers, post-norm as the others; its activation is GELU."""
    import torch

    with warnings.catch_warnings():
        warnings.simplefilter("ignore", DeprecationWarning)  # of PyTorch, about what it imports
        from x_transformers import Encoder

    class Model(torch.nn.Module):
        def __init__(self):
            super().__init__()
            self.encoder = Encoder(
                dim=setting.width,
                depth=setting.num_layers,
                heads=setting.num_heads,
                attn_dim_head=setting.width // setting.num_heads,
                ff_mult=setting.intermediate_dim / setting.width,
                attn_flash=True,
                pre_norm=False,
                attn_dropout=dropout,
                ff_dropout=dropout,
            )
            self.head = torch.nn.Linear(setting.width, setting.num_outputs)

        def forward(self, x, real):
            return self.head(self.encoder(x, mask=real))

    *arrays, targets = batch(setting)
    return steps.of_torch(Model(), torch.nn.functional.mse_loss, arrays, targets)
