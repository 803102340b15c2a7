"""The features that the page `docs/features.md` tells of, each a layer, its inputs and the laws it is held to."""

import dataclasses
from collections.abc import Callable
from typing import Any

import numpy as np

from keras_tfm import layers, ops
from keras_tfm.layers.additive_attention import AdditiveAttention
from keras_tfm.layers.attention_parts import HEAD_MIXINGS, POSITIONS, SCORES
from keras_tfm.layers.block_arguments import FEED_FORWARDS, RESIDUALS
from keras_tfm.layers.gated_feed_forward import GatedFeedForward
from keras_tfm.layers.linear_attention import LinearAttention
from keras_tfm.layers.masked_lm_head import MaskedLMHead
from keras_tfm.layers.mixture_of_experts import MixtureOfExperts
from keras_tfm.layers.multi_head_latent_attention import MultiHeadLatentAttention
from keras_tfm.layers.parts import NORMALIZATIONS
from keras_tfm.layers.pointer_head import PointerHead
from keras_tfm.layers.reversible_projection import ReversibleProjection
from keras_tfm.layers.stochastic_depth import StochasticDepth
from keras_tfm.layers.sublayer_connection import PLACEMENTS

BATCH, LENGTH, WIDTH, NUM_HEADS, KEY_DIM = 3, 7, 20, 2, 10
ALL_LAWS = ("future", "scores", "cache", "padding")
DTYPES = ["float32", "bfloat16", "float16", "mixed_bfloat16", "mixed_float16"]


@dataclasses.dataclass(frozen=True)
class Feature:
    """One row of the page.

    Args:
        group: the heading that it stands under.
        name: what it is called, as one writes it in code.
        make: a function that returns the layer.
        kind: how the layer is called; see `feature_checks.CALLS`.
        laws: names from `feature_checks.LAWS`.
        inputs: the positional arguments.
        keywords: further arrays, by argument.
        options: further arguments that are no arrays.
    """

    group: str
    name: str
    make: Callable
    kind: str = "layer"
    laws: tuple = ()
    inputs: tuple = ()
    keywords: dict = dataclasses.field(default_factory=dict)
    options: dict = dataclasses.field(default_factory=dict)


_rng = np.random.default_rng(0)
X = _rng.normal(size=(BATCH, LENGTH, WIDTH)).astype("float32")
MEMORY = _rng.normal(size=(BATCH, 5, WIDTH)).astype("float32")
IMAGES = _rng.normal(size=(BATCH, 3, 5, WIDTH)).astype("float32")
IDS = _rng.integers(1, 11, (BATCH, LENGTH)).astype("int32")
REAL = np.arange(LENGTH) < np.array([[7], [4], [5]])
SEGMENTS = np.array([[0, 0, 0, 1, 1, 2, 2]] * BATCH, "int32")
POSITIONS_APART = np.cumsum(_rng.integers(1, 4, (BATCH, LENGTH)), axis=1).astype("int32")
MEMORY_IDS = _rng.integers(0, 9, (BATCH, 5)).astype("int32")
LOGITS = _rng.normal(size=(BATCH, LENGTH, 9)).astype("float32")

PATTERNS = {
    "ops.Causal()": ops.Causal(),
    "ops.SlidingWindow(3)": ops.SlidingWindow(3),
    "ops.Dilated(2, 2)": ops.Dilated(2, 2),
    "ops.FirstKeys(3)": ops.FirstKeys(3),
    "ops.FirstQueries(2)": ops.FirstQueries(2),
    "ops.Blocks(3, before=1)": ops.Blocks(3, before=1),
    "ops.BlockLayout(4, …)": ops.BlockLayout(4, [[True, False], [True, True]]),
    "SlidingWindow(2) | FirstKeys(1)": ops.SlidingWindow(2) | ops.FirstKeys(1),
    "SlidingWindow(4) & ~Dilated(1, 2)": ops.SlidingWindow(4) & ~ops.Dilated(1, 2),
}


def _attention(group, name, laws=ALL_LAWS, inputs=(X,), keywords=None, options=None, **arguments):
    def make():
        return layers.MultiHeadAttention(NUM_HEADS, KEY_DIM, **arguments)

    return Feature(group, name, make, "attention", laws, inputs, keywords or {}, options or {})


def _block(group, name, laws=ALL_LAWS, inputs=(X,), keywords=None, **arguments):
    def make():
        width = None if isinstance(arguments.get("feed_forward"), MixtureOfExperts) else 23
        return layers.TransformerDecoder(width, NUM_HEADS, **arguments)

    return Feature(group, name, make, "decoder", laws, inputs, keywords or {})


def _layer(group, name, make, *inputs, kind="layer", laws=(), **others):
    return Feature(group, name, make, kind, laws, inputs, **others)


def _keyword(argument, value):
    return f"{argument}={value!r}"


def _attention_features():
    where, held = "Attention: `MultiHeadAttention(…)`", ("oracle", *ALL_LAWS)
    yield _attention(where, "num_heads, key_dim", held)
    yield _attention(where, "cross attention", ("oracle", "scores"), (X, MEMORY))
    yield _attention(where, "value_dim, output_shape", value_dim=3, output_shape=11)
    yield _attention(where, "num_key_value_heads=1", held, num_key_value_heads=1)
    yield _attention(where, "dropout", dropout=0.3)
    yield _attention(where, "use_gate=True", held, use_gate=True)
    yield _attention(where, "logit_soft_cap", held, logit_soft_cap=2.0)
    for norm in ("rms", "layer"):
        yield _attention(where, _keyword("query_key_norm", norm), held, query_key_norm=norm)
    for sink in ("learned", 0.5):
        yield _attention(where, _keyword("attention_sink", sink), held, attention_sink=sink)
    for mixing in HEAD_MIXINGS:
        yield _attention(where, _keyword("head_mixing", mixing), held, head_mixing=mixing)
    for score in SCORES:
        yield _attention(where, _keyword("score", score), held, score=score)
    for position in POSITIONS:
        laws = held if position in ("rope", "alibi") else ALL_LAWS
        yield _attention(where, _keyword("position", position), laws, position=position)
    yield _attention(where, "attention_axes=(2,) on [B, X, Y, D]", ("scores",), (IMAGES,), attention_axes=(2,))
    yield _attention(where, "attention_axes=(1, 2) on [B, X, Y, D]", ("scores",), (IMAGES,), attention_axes=(1, 2))


def _mask_features():
    where = "Masks and places"
    yield _attention(where, "use_causal_mask", ("scores",), options={"use_causal_mask": True})
    yield _attention(where, "padding_mask", ("scores",), keywords={"padding_mask": REAL})
    yield _attention(where, "query_mask, value_mask", ("scores",), keywords={"query_mask": REAL, "value_mask": REAL})
    yield _attention(where, "segment_ids", ("future", "scores", "padding"), keywords={"segment_ids": SEGMENTS})
    pairs = _rng.random((BATCH, LENGTH, LENGTH)) < 0.7
    yield _attention(where, "attention_mask", ("scores", "padding"), keywords={"attention_mask": pairs})
    bias = _rng.normal(size=(BATCH, 1, LENGTH, LENGTH)).astype("float32")
    yield _attention(where, "attention_bias", ("future", "scores"), keywords={"attention_bias": bias})
    places = {"query_positions": POSITIONS_APART}
    yield _attention(where, "query_positions", ("future", "scores", "padding"), keywords=places, position="rope")
    prefix = {"prefix_length": np.array([2, 3, 1], "int32")}
    yield _attention(where, "prefix_length", ("scores",), keywords=prefix, options={"use_causal_mask": True})
    yield _attention(where, "sliding_window", ALL_LAWS, sliding_window=3)
    for name, pattern in PATTERNS.items():
        laws = ALL_LAWS[1:] if pattern == ops.FirstQueries(2) else ALL_LAWS  # its last query sees nothing
        yield _attention(where, f"attention_pattern={name}", laws, attention_pattern=pattern)


def _other_attention():
    where = "Other attention layers"
    for feature_map in ("elu", "relu"):
        name = f"LinearAttention(feature_map={feature_map!r})"
        make = lambda feature_map=feature_map: LinearAttention(NUM_HEADS, KEY_DIM, feature_map=feature_map)  # noqa: E731
        yield Feature(where, name, make, "attention", ALL_LAWS, (X,))
    latent = {"": {}, "(query_latent_dim)": {"query_latent_dim": 6}}
    for name, arguments in latent.items():
        make = lambda arguments=arguments: MultiHeadLatentAttention(NUM_HEADS, KEY_DIM, 12, 4, **arguments)  # noqa: E731
        yield Feature(where, f"MultiHeadLatentAttention{name}", make, "attention", ALL_LAWS, (X,))
    laws = ("future", "scores", "padding")
    yield Feature(where, "AdditiveAttention", AdditiveAttention, "pair", laws, (X,))
    yield Feature(where, "AdditiveAttention(units)", lambda: AdditiveAttention(units=5), "pair", laws, (X,))
    for combination in ("flat", "hierarchical", "serial", "parallel"):
        name = f"MultiSourceAttention({combination!r})"
        make = lambda combination=combination: layers.MultiSourceAttention(NUM_HEADS, KEY_DIM, combination)  # noqa: E731
        yield _layer(where, name, make, X, [MEMORY, X])
    yield _layer(where, "AdaptiveSoftmax", lambda: layers.AdaptiveSoftmax(11, (5,)), X, IDS % 11)
    yield _layer(where, "PointerHead", lambda: PointerHead(11), X, MEMORY)
    yield _layer(where, "PointerHead(vocabulary_size)", lambda: PointerHead(11, 9), X, MEMORY, MEMORY_IDS, LOGITS)


def _block_features():
    where, encoder = "Blocks and stacks", ("scores", "padding")
    yield Feature(where, "TransformerEncoder", lambda: layers.TransformerEncoder(23, 2), "encoder", encoder, (X,))
    yield _block(where, "TransformerDecoder")
    yield _block(where, "TransformerDecoder with cross attention", ("future", "scores"), (X, MEMORY))
    make = lambda: layers.TransformerEncoderStack(2, 23, NUM_HEADS)  # noqa: E731
    yield Feature(where, "TransformerEncoderStack", make, "encoder", encoder, (X,))
    make = lambda: layers.TransformerDecoderStack(2, 23, NUM_HEADS)  # noqa: E731
    yield Feature(where, "TransformerDecoderStack", make, "stack", ALL_LAWS, (X,))
    yield _block(where, "segment_ids, positions", ("future", "scores"), keywords={"segment_ids": SEGMENTS})
    where = "Parts of blocks: `TransformerDecoder(…)`"
    for placement in PLACEMENTS:
        yield _block(where, _keyword("placement", placement), placement=placement)
    for residual in RESIDUALS:
        more = {"num_layers": 2} if residual == "deepnorm" else {}
        yield _block(where, _keyword("residual", residual), residual=residual, **more)
    for normalization in (*NORMALIZATIONS, "none"):
        yield _block(where, _keyword("normalization", normalization), normalization=normalization)
    for feed_forward in FEED_FORWARDS:
        yield _block(where, _keyword("feed_forward", feed_forward), feed_forward=feed_forward)
    yield _block(where, "feed_forward=MixtureOfExperts(…)", feed_forward=MixtureOfExperts(3, 11))
    yield _block(where, "attention=LinearAttention(…)", ("future", "scores"), attention=LinearAttention(2, 10))
    latent = MultiHeadLatentAttention(NUM_HEADS, KEY_DIM, 12, 4)
    yield _block(where, "attention=MultiHeadLatentAttention(…)", ("future", "scores"), attention=latent)
    yield _block(where, "stochastic_depth", stochastic_depth=0.3)
    yield _block(where, "dropout, attention_dropout, activation_dropout", dropout=0.1, activation_dropout=0.2)
    yield _block(where, "use_bias=False", use_bias=False)
    yield _block(where, "skip_padding", skip_padding=True)


def _rivals_of_attention():
    where, laws = "In place of attention", ("padding",)
    mixers = {
        "RecurrentMixer('lstm')": (lambda: layers.RecurrentMixer("lstm"), laws),
        "RecurrentMixer('gru', bidirectional=False)": (
            lambda: layers.RecurrentMixer("gru", bidirectional=False),
            ("future", *laws),
        ),
        "ConvolutionalMixer(3)": (lambda: layers.ConvolutionalMixer(3), laws),
        "ConvolutionalMixer(3, padding='causal', dilation_rate=2)": (
            lambda: layers.ConvolutionalMixer(3, padding="causal", dilation_rate=2),
            ("future", *laws),
        ),
        "ConvolutionalMixer(convolution='separable', gate='sigmoid')": (
            lambda: layers.ConvolutionalMixer(convolution="separable", gate="sigmoid"),
            laws,
        ),
        "RecurrentEncoder": (lambda: layers.RecurrentEncoder(23, cell="gru"), laws),
        "ConvolutionalEncoder": (lambda: layers.ConvolutionalEncoder(23), laws),
    }
    for name, (make, laws_of_it) in mixers.items():
        yield Feature(where, name, make, "encoder", laws_of_it, (X,))


def _small_layers():
    where = "Networks of single tokens"
    yield _layer(where, "FeedForward", lambda: layers.FeedForward(23), X)
    yield _layer(where, "GatedFeedForward", lambda: GatedFeedForward(23), X)
    for k in (1, 2):
        yield _layer(where, f"MixtureOfExperts(top_k={k})", lambda k=k: MixtureOfExperts(3, 11, top_k=k), X)
    yield _layer(where, "MixtureOfExperts(capacity_factor)", lambda: MixtureOfExperts(3, 11, capacity_factor=1.5), X)
    yield _layer(where, "ReversibleProjection", lambda: ReversibleProjection(11), X)
    yield _layer(where, "StochasticDepth", lambda: StochasticDepth(0.3), X)
    where = "Embeddings and masks"
    make = layers.PositionalEmbedding
    for position in ("learned", "sinusoidal", None):
        name = f"PositionalEmbedding(position={position!r})"
        yield _layer(where, name, lambda position=position: make(11, 9, WIDTH, position=position), IDS)
    scaled = dict(embedding_scale="sqrt", embedding_rank=5, normalization="layer", mask_zero=True)
    yield _layer(where, "PositionalEmbedding(embedding_rank, …)", lambda: make(11, 9, WIDTH, **scaled), IDS)
    yield _layer(where, "TokenAndPositionEmbedding", lambda: layers.TokenAndPositionEmbedding(11, 9, WIDTH), IDS)
    yield _layer(where, "PositionEmbedding", lambda: layers.PositionEmbedding(9), X)
    stretched = lambda: layers.PositionEmbedding(5, interpolation="linear")  # noqa: E731
    yield _layer(where, "PositionEmbedding(interpolation)", stretched, X)
    yield _layer(where, "SinePositionEncoding", layers.SinePositionEncoding, X)
    yield _layer(where, "CharacterEmbedding", lambda: layers.CharacterEmbedding(11, 13), IDS[..., None] + [[[0, -1]]])
    yield _layer(where, "Dropout", lambda: layers.Dropout(0.3), X)
    yield _layer(where, "TokenDropout", lambda: layers.TokenDropout(0.3), IDS)
    yield _layer(where, "AttachMask", layers.AttachMask, X, REAL, kind="list")
    yield _layer(where, "MaskedMean", layers.MaskedMean, X)
    yield _layer(where, "MaskedLMHead", lambda: MaskedLMHead(11), X, IDS[:, :2] % LENGTH)


def _dtypes():
    for policy in DTYPES:
        yield _attention("Dtypes", f"MultiHeadAttention(dtype={policy!r})", dtype=policy, position="rope")
        yield _block("Dtypes", f"TransformerDecoder(dtype={policy!r})", dtype=policy)


def features() -> list[Any]:
    """All of them, in the order of the page."""
    makers = (
        *(_attention_features, _mask_features, _other_attention, _block_features, _rivals_of_attention),
        *(_small_layers, _dtypes),
    )
    return [feature for make in makers for feature in make()]
