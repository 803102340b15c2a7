"""Random tiny checkpoints of Hugging Face Transformers, and the same models by our layers with the same weights."""

from typing import Any, NamedTuple

import numpy as np
import torch
import transformers
from keras import ops

from keras_tfm.layers import (
    PositionalEmbedding,
    SinePositionEncoding,
    TransformerDecoderStack,
    TransformerEncoderStack,
)

VOCABULARY, WIDTH, HEADS, INNER, POSITIONS, LAYERS = 29, 12, 3, 17, 31, 2
PAD, START, END = 1, 5, 2
SOURCE_LENGTH, PROMPT_LENGTH = 7, 3
EPSILON = 1e-5


class Pair(NamedTuple):
    """A model of theirs, ours with its weights, and what both are asked."""

    theirs: Any
    ours: Any
    inputs: dict  # numpy int arrays: "input_ids" [B, P], and with an encoder "attention_mask" [B, S]


class Causal:
    """GPT-2 by our layers: pre-norm, approximate GELU, learned positions, tied head."""

    def __init__(self):
        self.embedding = PositionalEmbedding(VOCABULARY, POSITIONS, WIDTH)
        self.decoder = TransformerDecoderStack(
            LAYERS, INNER, HEADS, activation="gelu_tanh", normalize_first=True, layer_norm_epsilon=EPSILON
        )

    def logits(self, ids):
        """float `[B, T, V]` of int `[B, T]`, in one pass."""
        return self.embedding(self.decoder(self.embedding(ids), training=False), reverse=True)

    def begin(self, inputs, max_length):
        """The state after all of the prompt but its last token, and that token."""
        ids = ops.convert_to_tensor(inputs["input_ids"], "int32")
        cache = self.decoder.create_cache(len(ids), PROMPT_LENGTH + max_length)
        _, cache = self.decoder(self.embedding(ids[:, :-1]), cache=cache, cache_update_index=0, training=False)
        return cache, ids[:, -1]

    def step(self, tokens, index, state):
        """The step protocol; the state is the decoder's cache."""
        place = index + PROMPT_LENGTH - 1
        x = self.embedding(tokens[:, None], start_index=place)
        x, cache = self.decoder(x, cache=state, cache_update_index=place, training=False)
        return self.embedding(x[:, 0], reverse=True), cache


class Seq2Seq:
    """BART or Marian by our layers: post-norm, a tied head with a bias.

    Args:
        activation: of the feed-forward networks.
        **embedding: arguments of both `PositionalEmbedding`.
    """

    def __init__(self, activation, **embedding):
        self.source_embedding = PositionalEmbedding(VOCABULARY, POSITIONS, WIDTH, **embedding)
        self.target_embedding = PositionalEmbedding(VOCABULARY, POSITIONS, WIDTH, **embedding)
        block = dict(activation=activation, layer_norm_epsilon=EPSILON)
        self.encoder = TransformerEncoderStack(LAYERS, INNER, HEADS, **block)
        self.decoder = TransformerDecoderStack(LAYERS, INNER, HEADS, **block)
        self.head_bias = np.zeros(VOCABULARY, "float32")

    def encode(self, inputs):
        """The encoder's output `[B, S, D]` and where the source is real, bool `[B, S]`."""
        ids, is_real = ops.convert_to_tensor(inputs["input_ids"], "int32"), inputs["attention_mask"] > 0
        is_real = ops.convert_to_tensor(is_real)
        return self.encoder(self.source_embedding(ids), padding_mask=is_real, training=False), is_real

    def head(self, x):
        """Logits of vectors."""
        return ops.add(self.target_embedding(x, reverse=True), self.head_bias)

    def logits(self, inputs, target_ids):
        """float `[B, T, V]` of a source and int `[B, T]`, in one pass."""
        memory, is_real = self.encode(inputs)
        x = self.target_embedding(ops.convert_to_tensor(target_ids, "int32"))
        return self.head(self.decoder(x, memory, encoder_padding_mask=is_real, training=False))

    def begin(self, inputs, max_length):
        """The state before the first token, and START."""
        memory, is_real = self.encode(inputs)
        batch_size = len(inputs["input_ids"])
        cache = self.decoder.create_cache(batch_size, max_length, memory)
        return (cache, is_real), ops.full((batch_size,), START, dtype="int32")

    def step(self, tokens, index, state):
        """The step protocol; the state is the decoder's cache and where the source is real."""
        cache, is_real = state
        x = self.target_embedding(tokens[:, None], start_index=index)
        x, cache = self.decoder(x, encoder_padding_mask=is_real, cache=cache, cache_update_index=index, training=False)
        return self.head(x[:, 0]), (cache, is_real)


def gpt2():
    """A random GPT-2 and its prompts."""
    config = transformers.GPT2Config(
        vocab_size=VOCABULARY,
        n_positions=POSITIONS,
        n_embd=WIDTH,
        n_layer=LAYERS,
        n_head=HEADS,
        n_inner=INNER,
        bos_token_id=START,
        eos_token_id=END,
        pad_token_id=PAD,
    )
    theirs = randomized(transformers.GPT2LMHeadModel, config, seed=0)
    with torch.no_grad():  # END is likely: the head has no bias, but the vectors it reads have one
        direction = theirs.transformer.ln_f.bias
        theirs.transformer.wte.weight[END] += 1.5 * direction / direction.norm() ** 2
    ours, ids = Causal(), np.random.default_rng(3).integers(6, VOCABULARY, (3, PROMPT_LENGTH))
    ours.logits(ops.convert_to_tensor(ids, "int32"))
    weights = numpy_weights(theirs)
    copy_embedding(ours.embedding, weights["transformer.wte.weight"], weights["transformer.wpe.weight"])
    for i, block in enumerate(ours.decoder.blocks):
        copy_gpt2_block(block, weights, f"transformer.h.{i}")
    copy_norm(ours.decoder.final_norm, weights, "transformer.ln_f")
    return Pair(theirs, ours, {"input_ids": ids})


def bart():
    """A random BART and its sources."""
    config = transformers.BartConfig(max_position_embeddings=POSITIONS, **seq2seq_sizes())
    theirs = randomized(transformers.BartForConditionalGeneration, config, seed=8, end_bias=4.0)
    ours = Seq2Seq("gelu", normalization="layer")
    return seq2seq_pair(theirs, ours, learned_positions=True)


def marian():
    """A random Marian and its sources."""
    config = transformers.MarianConfig(
        max_position_embeddings=POSITIONS,
        scale_embedding=True,
        activation_function="swish",
        share_encoder_decoder_embeddings=True,
        **seq2seq_sizes(),
    )
    theirs = randomized(transformers.MarianMTModel, config, seed=2, end_bias=2.5)
    position = SinePositionEncoding(layout="concatenated")
    ours = Seq2Seq("silu", position=position, embedding_scale="sqrt")
    return seq2seq_pair(theirs, ours, learned_positions=False)


def seq2seq_sizes():
    """Arguments of the configurations with an encoder."""
    sides = {
        f"{side}_{name}": size
        for side in ("encoder", "decoder")
        for name, size in (("layers", LAYERS), ("attention_heads", HEADS), ("ffn_dim", INNER))
    }
    return dict(
        vocab_size=VOCABULARY,
        d_model=WIDTH,
        pad_token_id=PAD,
        bos_token_id=START,
        eos_token_id=END,
        decoder_start_token_id=START,
        forced_eos_token_id=None,
        **sides,
    )


def randomized(model_class, config, seed, end_bias=0.0):
    """A model of random weights, great enough that the next token depends on all that was read."""
    torch.manual_seed(seed)
    model = model_class(config).eval()
    with torch.no_grad():
        for name, parameter in model.named_parameters():
            if not parameter.requires_grad:  # sinusoids
                continue
            is_norm = parameter.ndim == 1 and name.endswith("weight")
            parameter.normal_(1.0 if is_norm else 0.0, 0.4)
        if hasattr(model, "final_logits_bias"):
            model.final_logits_bias.normal_(0.0, 0.4)
            model.final_logits_bias[0, END] = end_bias
    return model


def seq2seq_pair(theirs, ours, learned_positions):
    """Ours with their weights, and sources of several lengths."""
    rng = np.random.default_rng(3)
    ids = rng.integers(6, VOCABULARY, (3, SOURCE_LENGTH))
    is_real = np.arange(SOURCE_LENGTH) < np.array([[SOURCE_LENGTH], [4], [5]])
    inputs = {"input_ids": np.where(is_real, ids, PAD), "attention_mask": is_real.astype("int64")}
    ours.logits(inputs, ids[:, :2])
    weights = numpy_weights(theirs)
    ours.head_bias = weights["final_logits_bias"][0]
    for side, embedding, stack in (
        ("encoder", ours.source_embedding, ours.encoder),
        ("decoder", ours.target_embedding, ours.decoder),
    ):
        positions = weights[f"model.{side}.embed_positions.weight"][2:] if learned_positions else None
        copy_embedding(embedding, weights["model.shared.weight"], positions)
        if embedding.normalization is not None:
            copy_norm(embedding.normalization, weights, f"model.{side}.layernorm_embedding")
        for i, block in enumerate(stack.blocks):
            copy_bart_block(block, weights, f"model.{side}.layers.{i}")
    return Pair(theirs, ours, inputs)


def numpy_weights(model):
    """The weights and buffers by name."""
    return {name: value.detach().numpy() for name, value in model.state_dict().items()}


def copy_embedding(layer, tokens, positions=None):
    """Sets the tables."""
    layer.token_embedding.embeddings.assign(tokens)
    if positions is not None:
        layer.position_embedding.position_embeddings.assign(positions)


def copy_norm(layer, weights, name):
    """Sets a layer normalization."""
    layer.gamma.assign(weights[f"{name}.weight"])
    layer.beta.assign(weights[f"{name}.bias"])


def copy_feed_forward(layer, inner, outer):
    """Sets a feed-forward network by two pairs of kernel `[in, out]` and bias."""
    for dense, (kernel, bias) in ((layer.intermediate_dense, inner), (layer.output_dense, outer)):
        dense.kernel.assign(kernel)
        dense.bias.assign(bias)


def copy_attention(layer, query, key, value, output):
    """Sets an attention layer by four pairs of kernel `[D, D]` (in, out) and bias `[D]`."""
    for name, (kernel, bias) in (("query", query), ("key", key), ("value", value)):
        dense = getattr(layer, f"{name}_dense")
        dense.kernel.assign(kernel.reshape(WIDTH, HEADS, -1))
        dense.bias.assign(bias.reshape(HEADS, -1))
    layer.output_dense.kernel.assign(output[0].reshape(HEADS, -1, WIDTH))
    layer.output_dense.bias.assign(output[1])


def copy_gpt2_block(block, weights, name):
    """Sets a block by GPT-2's names; its kernels are [in, out], query, key and value in one."""

    def dense(part):
        return weights[f"{name}.{part}.weight"], weights[f"{name}.{part}.bias"]

    joint = zip(*(np.split(each, 3, axis=-1) for each in dense("attn.c_attn")), strict=True)
    copy_attention(block.self_attention, *joint, dense("attn.c_proj"))
    copy_feed_forward(block.feed_forward, dense("mlp.c_fc"), dense("mlp.c_proj"))
    copy_norm(block.self_attention_norm, weights, f"{name}.ln_1")
    copy_norm(block.feed_forward_norm, weights, f"{name}.ln_2")


def copy_bart_block(block, weights, name):
    """Sets a block of an encoder or a decoder by BART's and Marian's names; their kernels are [out, in]."""

    def dense(part):
        return weights[f"{name}.{part}.weight"].T, weights[f"{name}.{part}.bias"]

    def attention(layer, part):
        copy_attention(layer, *(dense(f"{part}.{each}_proj") for each in "qkv"), dense(f"{part}.out_proj"))

    attention(block.self_attention, "self_attn")
    copy_norm(block.self_attention_norm, weights, f"{name}.self_attn_layer_norm")
    if getattr(block, "cross_attention", None) is not None:
        attention(block.cross_attention, "encoder_attn")
        copy_norm(block.cross_attention_norm, weights, f"{name}.encoder_attn_layer_norm")
    copy_feed_forward(block.feed_forward, dense("fc1"), dense("fc2"))
    copy_norm(block.feed_forward_norm, weights, f"{name}.final_layer_norm")
