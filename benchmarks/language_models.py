"""The GPT that benchmarks train, of each contestant, on the same batch."""

import keras
import numpy as np

from benchmarks import contest, steps
from keras_tfm import models

# The blocks of GPT-2's smallest, and fewer words than its 50,257.
SETTING = steps.Setting(12, 768, 3072, 12, batch_size=1, length=128)


def batch(setting):
    """Ids int32 `[B, T]`, and those that follow each."""
    shape = setting.batch_size, setting.length + 1
    ids = np.random.default_rng(0).integers(1, setting.vocabulary_size, shape, "int32")
    return ids[:, :-1], ids[:, 1:]


def contestants(setting, dropout):
    """Steps by name, of those that are installed."""
    makers = {"keras_tfm": ours, "keras_hub": keras_hub}
    if keras.backend.backend() == "torch":
        makers["transformers"] = transformers
    return contest.make_all(makers, setting, dropout)


def ours(setting, dropout):
    """`CausalLM`."""
    sizes = setting.vocabulary_size, setting.num_layers, setting.width, setting.intermediate_dim, setting.num_heads
    model = models.CausalLM(*sizes, activation="gelu_tanh", dropout=dropout, sequence_length=setting.length)
    return of_keras(setting, model, lambda ids: ids)


def keras_hub(setting, dropout):
    """`GPT2Backbone` and its embedding as the output."""
    import keras_hub

    backbone = keras_hub.models.GPT2Backbone(
        setting.vocabulary_size,
        setting.num_layers,
        setting.num_heads,
        setting.width,
        setting.intermediate_dim,
        dropout=dropout,
        max_sequence_length=setting.length,
    )
    model = keras.Model(backbone.inputs, backbone.token_embedding(backbone.output, reverse=True))
    return of_keras(setting, model, lambda ids: {"token_ids": ids, "padding_mask": np.ones_like(ids)})


def of_keras(setting, model, inputs):
    """Steps with the cross-entropy of all tokens."""
    ids, targets = batch(setting)
    loss = keras.losses.SparseCategoricalCrossentropy(from_logits=True)
    return steps.of_keras(model, loss, inputs(ids), targets, setting.jit_compile)


def transformers(setting, dropout):
    """Hugging Face's `GPT2LMHeadModel`."""
    import torch
    from transformers import GPT2Config, GPT2LMHeadModel

    config = GPT2Config(
        vocab_size=setting.vocabulary_size,
        n_positions=setting.length,
        n_embd=setting.width,
        n_layer=setting.num_layers,
        n_head=setting.num_heads,
        n_inner=setting.intermediate_dim,
        activation_function="gelu_pytorch_tanh",
        use_cache=False,
        **{f"{place}_pdrop": dropout for place in ("resid", "embd", "attn")},
    )

    class Model(torch.nn.Module):
        def __init__(self):
            super().__init__()
            self.model = GPT2LMHeadModel(config)

        def forward(self, ids):
            return self.model(ids).logits

    def loss(logits, targets):
        return torch.nn.functional.cross_entropy(logits.flatten(0, 1), targets.flatten().long())

    ids, targets = batch(setting)
    return steps.of_torch(Model(), loss, [ids.astype("int64")], targets.copy())
