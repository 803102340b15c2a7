"""The translation model that benchmarks train, of each contestant, on the same batch with padding."""

import keras
import numpy as np

from benchmarks import contest, steps
from keras_tfm import models, ops

TINY = steps.Setting(4, 128, 256, 4, batch_size=64, length=32)
BASE = steps.Setting(6, 512, 2048, 8, batch_size=16, length=32, vocabulary_size=32000)


def batch(setting):
    """Ids int32 `[B, T]` of sources, of targets shifted right, and of targets; 0 is padding, a fifth of all."""
    generator = np.random.default_rng(0)
    shape = setting.batch_size, setting.length
    source, target = generator.integers(4, setting.vocabulary_size, (2, *shape), "int32")
    lengths = generator.integers(3 * setting.length // 5, setting.length + 1, (2, setting.batch_size, 1))
    source, target = (np.where(np.arange(setting.length) < lengths, (source, target), 0)).astype("int32")
    shifted = np.where(target > 0, np.pad(target, ((0, 0), (1, 0)), constant_values=1)[:, :-1], 0)
    return source, shifted.astype("int32"), target


def contestants(setting, dropout):
    """Steps by name, of those that are installed."""
    makers = {"keras_tfm": ours, "keras_hub": keras_hub}
    if keras.backend.backend() == "torch":
        makers["torch.nn"] = torch_nn
    return contest.make_all(makers, setting, dropout)


def ours(setting, dropout):
    """`Seq2SeqTransformer`."""
    sizes = setting.vocabulary_size, setting.num_layers, setting.width, setting.intermediate_dim, setting.num_heads
    model = models.Seq2SeqTransformer(*sizes, dropout=dropout)
    return of_keras(setting, model)


def keras_hub(setting, dropout):
    """KerasHub's blocks, embedding and sinusoids."""
    import keras_hub

    parts, sizes = keras_hub.layers, (setting.intermediate_dim, setting.num_heads)
    embedding = parts.ReversibleEmbedding(setting.vocabulary_size, setting.width)
    source, target = (keras.Input((None,), dtype="int32", name=f"{side}_ids") for side in ("source", "target"))

    def embed(ids):
        x = embedding(ids)
        return keras.layers.Dropout(dropout)(x * setting.width**0.5 + parts.SinePositionEncoding()(x))

    memory, hidden = embed(source), embed(target)
    for _ in range(setting.num_layers):
        memory = parts.TransformerEncoder(*sizes, dropout=dropout)(memory, padding_mask=source != 0)
    for _ in range(setting.num_layers):
        hidden = parts.TransformerDecoder(*sizes, dropout=dropout)(
            hidden, memory, decoder_padding_mask=target != 0, encoder_padding_mask=source != 0
        )
    outputs = embedding(hidden, reverse=True)
    return of_keras(setting, keras.Model({"source_ids": source, "target_ids": target}, outputs))


def of_keras(setting, model):
    """Steps with the cross-entropy of real tokens."""
    source, shifted, target = batch(setting)
    loss = keras.losses.SparseCategoricalCrossentropy(from_logits=True, ignore_class=0)
    return steps.of_keras(model, loss, {"source_ids": source, "target_ids": shifted}, target, setting.jit_compile)


def torch_nn(setting, dropout):
    """`torch.nn.Transformer` with an embedding that is the output's matrix too."""
    import torch

    table = keras.ops.convert_to_numpy(ops.sinusoid(np.arange(setting.length), setting.width))

    class Model(torch.nn.Module):
        def __init__(self):
            super().__init__()
            self.embedding = torch.nn.Embedding(setting.vocabulary_size, setting.width)
            torch.nn.init.normal_(self.embedding.weight, std=setting.width**-0.5)
            self.register_buffer("positions", torch.as_tensor(table))
            self.register_buffer("future", torch.ones(setting.length, setting.length, dtype=torch.bool).triu(1))
            self.drop = torch.nn.Dropout(dropout)
            depth = setting.num_layers, setting.num_layers
            sizes = setting.intermediate_dim, dropout
            self.transformer = torch.nn.Transformer(setting.width, setting.num_heads, *depth, *sizes, batch_first=True)

        def embed(self, ids):
            return self.drop(self.embedding(ids) * setting.width**0.5 + self.positions)

        def forward(self, source, target):
            hidden = self.transformer(
                self.embed(source),
                self.embed(target),
                tgt_mask=self.future,
                tgt_is_causal=True,
                src_key_padding_mask=source == 0,
                tgt_key_padding_mask=target == 0,
                memory_key_padding_mask=source == 0,
            )
            return hidden @ self.embedding.weight.T

    def loss(logits, targets):
        return torch.nn.functional.cross_entropy(logits.flatten(0, 1), targets.flatten().long(), ignore_index=0)

    source, shifted, target = batch(setting)
    return steps.of_torch(Model(), loss, [source, shifted], target)
