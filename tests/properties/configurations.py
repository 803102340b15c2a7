"""What the laws are tried on: sizes, masks and layers, drawn at random.

Sizes are distinct primes, as far as heads allow, so that no transposed axis goes unseen. Few of them come back again
and again, and JAX, which compiles for each, gets fewer examples; the profile `thorough` draws any and many.
"""

import dataclasses
from typing import Any

import keras
import numpy as np
from hypothesis import settings
from hypothesis import strategies as st

from keras_tfm import layers, ops
from keras_tfm.layers.attention_parts import POSITIONS, SCORES
from keras_tfm.ops.attention_request import AttentionRequest
from tests import oracles
from tests.numerics import randomize

IS_THOROUGH = settings.get_current_profile_name() == "thorough"
_REQUEST = AttentionRequest(*[np.zeros((1, 2, 2, 8), "float32")] * 3, ops.AttentionMask())
KERNELS = [kernel.name for kernel in ops.kernels() if kernel.why_not(_REQUEST) is None]  # liked best or not
LAYOUT = [[i == j or (i + j) % 3 == 0 for j in range(6)] for i in range(6)]
PATTERNS = {  # name: (pattern, the same as a rule of two positions)
    "dilated": (ops.Dilated(2, 2), lambda here, there: abs(here - there) in (0, 2)),
    "window or first": (
        ops.SlidingWindow(2) | ops.FirstKeys(1),
        lambda here, there: abs(here - there) < 2 or there < 1,
    ),
    "blocks": (ops.Blocks(3, before=1), lambda here, there: here // 3 - there // 3 in (0, 1)),
    "layout": (
        ops.BlockLayout(4, LAYOUT) | ops.FirstQueries(2),
        lambda here, there: here < 2 or (max(here, there) < 24 and LAYOUT[here // 4][there // 4]),
    ),
    "neither causal nor far": (
        ~ops.Causal() & ops.SlidingWindow(4),
        lambda here, there: here < there and abs(here - there) < 4,
    ),
}
SHIFT_INVARIANT = [None, "dilated", "neither causal nor far"]  # patterns that go by distance alone
DTYPES = ["float32", "bfloat16", "float16"]
PADDINGS = [None, "right", "left", "holes", "empty"]  # where a mask is False; "empty": the first sequence throughout
num_tried = 0


def _count(seed):
    global num_tried
    num_tried += 1
    return seed


seeds = st.integers(0, 2**16).map(_count)  # every property draws one for each configuration
IS_SLOW = keras.backend.backend() == "jax" and not IS_THOROUGH
sparingly = settings(max_examples=6) if IS_SLOW else settings()
generously = settings(max_examples=settings.default.max_examples if IS_THOROUGH else 40)


@dataclasses.dataclass(frozen=True)
class Sizes:
    """Letters as in the documentation: B, T, S, N, K, H, Hv."""

    batch: int
    queries: int
    keys: int
    heads: int
    shared: int
    key_dim: int
    value_dim: int

    @property
    def width(self):
        """D of a block: what its heads make together."""
        return self.heads * self.key_dim


SOME_SIZES = [Sizes(2, 5, 7, 3, 1, 10, 11), Sizes(3, 7, 2, 4, 2, 6, 5), Sizes(2, 3, 5, 2, 2, 14, 13)]
any_sizes = st.builds(
    lambda heads, half, **others: Sizes(heads=heads[0], shared=heads[1], key_dim=2 * half, **others),
    heads=st.sampled_from([(1, 1), (2, 1), (2, 2), (3, 1), (4, 2), (6, 3), (6, 2), (5, 5)]),
    half=st.integers(1, 7),
    batch=st.sampled_from([1, 2, 3]),
    queries=st.integers(1, 13),
    keys=st.integers(1, 13),
    value_dim=st.integers(1, 13),
)
few_sizes = any_sizes if IS_THOROUGH else st.sampled_from(SOME_SIZES[:2])
sizes = any_sizes if IS_THOROUGH else st.sampled_from(SOME_SIZES[:1] if IS_SLOW else SOME_SIZES)


def normal(rng, *shape):
    return rng.normal(size=shape).astype("float32")


def padding_mask(rng, kind, batch, length):
    """bool `[B, T]`, or `None` for the kind `None`."""
    if kind is None:
        return None
    lengths, steps = rng.integers(1, length + 1, (batch, 1)), np.arange(length)
    if kind == "holes":
        return rng.random((batch, length)) < 0.6
    mask = steps >= length - lengths if kind == "left" else steps < lengths
    return mask & (np.arange(batch) > 0)[:, None] if kind == "empty" else mask


def segment_ids(rng, batch, length):
    """int32 `[B, T]`, rising from 0."""
    return np.cumsum(rng.random((batch, length)) < 0.4, axis=1).astype("int32")


@dataclasses.dataclass(frozen=True)
class Masks:
    """Which ingredients a mask has; `draw` gives the values."""

    causal: bool = False
    window: int | None = None
    key_padding: str | None = None
    query_padding: str | None = None
    explicit: str | None = None  # "shared" among heads, or "heads": one for each
    segments: bool = False
    prefix: bool = False
    pattern: str | None = None
    positions: bool = False  # explicit ones, in any order, some twice

    def draw(self, rng, sizes, keys=None):
        """The ingredients as numpy arrays, by the names that `oracles.allowed_pairs` has for them."""
        keys = sizes.keys if keys is None else keys
        shape = {None: None, "shared": (), "heads": (sizes.heads,)}[self.explicit]
        explicit = None if shape is None else rng.random((sizes.batch, *shape, sizes.queries, keys)) < 0.7
        pair = [segment_ids(rng, sizes.batch, length) for length in (sizes.queries, keys)]
        if keys == sizes.queries:
            pair[1] = pair[0]
        return dict(
            causal=self.causal,
            window=self.window,
            key_padding=padding_mask(rng, self.key_padding, sizes.batch, keys),
            query_padding=padding_mask(rng, self.query_padding, sizes.batch, sizes.queries),
            segments=tuple(pair) if self.segments else None,
            explicit=explicit,
            prefix=rng.integers(0, 4, sizes.batch) if self.prefix and self.causal else None,
            pattern=self.pattern,
            **self._draw_positions(rng, sizes, keys),
        )

    def _draw_positions(self, rng, sizes, keys):
        if not self.positions:
            return {}
        drawn = [rng.integers(0, 9, (sizes.batch, length)).astype("int32") for length in (sizes.queries, keys)]
        return {"query_positions": drawn[0], "key_positions": drawn[0] if keys == sizes.queries else drawn[1]}


masks = st.builds(
    Masks,
    causal=st.booleans(),
    window=st.sampled_from([None, 1, 2, 3]),
    key_padding=st.sampled_from(PADDINGS),
    query_padding=st.sampled_from([None, "right", "left"]),
    explicit=st.sampled_from([None, None, "shared", "heads"]),
    segments=st.booleans(),
    prefix=st.booleans(),
    pattern=st.sampled_from([None, None, *PATTERNS]),
    positions=st.booleans(),
)


def attention_mask(parts):
    """The `ops.AttentionMask` of drawn ingredients."""
    names = {"causal": "is_causal", "prefix": "prefix_length"}
    parts = {names.get(name, name): value for name, value in parts.items()}
    if parts["explicit"] is not None and parts["explicit"].ndim == 3:
        parts["explicit"] = parts["explicit"][:, None]
    parts["pattern"] = PATTERNS[parts["pattern"]][0] if parts["pattern"] else None
    tensors = {name: _as_tensor(value) for name, value in parts.items()}
    return ops.AttentionMask(**tensors)


def _as_tensor(value):
    if isinstance(value, tuple):
        return tuple(_as_tensor(each) for each in value)
    return keras.ops.convert_to_tensor(value) if isinstance(value, np.ndarray) else value


def allowed(parts, sizes, keys=None, offset=0):
    """The oracle's bool `[B, N, T, S]` of drawn ingredients."""
    parts = {**parts, "pattern": PATTERNS[parts["pattern"]][1] if parts["pattern"] else None}
    return oracles.allowed_pairs(sizes.batch, sizes.heads, sizes.queries, keys or sizes.keys, offset=offset, **parts)


def layer_offset(parts, sizes, keys=None):
    """Where a layer puts the first query: causal queries that are fewer than the keys are the last of them."""
    return max((keys or sizes.keys) - sizes.queries, 0) if parts["causal"] else 0


def layer_allowed(parts, sizes, keys=None):
    """As `allowed`, as a layer aligns queries and keys."""
    return allowed(parts, sizes, keys, layer_offset(parts, sizes, keys))


def layer_arguments(parts):
    """Drawn ingredients as call arguments of `MultiHeadAttention`; window and pattern are the constructor's."""
    arguments = dict(
        use_causal_mask=parts["causal"],
        value_mask=parts["key_padding"],
        query_mask=parts["query_padding"],
        attention_mask=parts["explicit"],
        prefix_length=parts["prefix"],
        query_positions=parts.get("query_positions"),
        key_positions=parts.get("key_positions"),
    )
    if parts["segments"] is not None:
        arguments["segment_ids"], arguments["key_segment_ids"] = parts["segments"]
    return {name: value for name, value in arguments.items() if value is not None}


@dataclasses.dataclass(frozen=True)
class AttentionLayer:
    """A configuration of `MultiHeadAttention`."""

    sizes: Sizes
    position: Any = None
    grouped: bool = False
    dropout: float = 0.0
    window: int | None = None
    gate: bool = False
    soft_cap: float | None = None
    norm: str | None = None
    score: str | None = None
    sink: Any = None
    mixing: bool = False
    pattern: str | None = None
    dtype: str = "float32"

    def make(self, seed=0, **arguments):
        """A built layer with random weights for queries `[B, T, D]` and values `[B, S, D + 2]`, or `[B, S, D]`."""
        layer = layers.MultiHeadAttention(
            self.sizes.heads,
            self.sizes.key_dim,
            value_dim=self.sizes.value_dim,
            dropout=self.dropout,
            sliding_window=self.window,
            use_gate=self.gate,
            num_key_value_heads=self.sizes.shared if self.grouped else None,
            position=self.position,
            logit_soft_cap=self.soft_cap,
            query_key_norm=self.norm,
            score=self.score,
            attention_sink=self.sink,
            head_mixing="talking_heads" if self.mixing else None,
            attention_pattern=PATTERNS[self.pattern][0] if self.pattern else None,
            kernel_initializer="zeros",
            dtype=self.dtype,
            seed=1,
        )
        width = self.sizes.width
        layer.build((None, None, width), (None, None, arguments.get("value_width", width)))
        return randomize(layer, seed, scale=width**-0.5)


attention_layers = st.builds(
    AttentionLayer,
    sizes=sizes,
    position=st.sampled_from([None, None, *sorted(POSITIONS)]),
    grouped=st.booleans(),
    dropout=st.sampled_from([0.0, 0.3]),
    window=st.sampled_from([None, 2, 3]),
    gate=st.booleans(),
    soft_cap=st.sampled_from([None, 2.0]),
    norm=st.sampled_from([None, "rms", "layer"]),
    score=st.sampled_from([None, None, *SCORES]),
    sink=st.sampled_from([None, None, "learned", 0.5]),
    mixing=st.booleans(),
    pattern=st.sampled_from([None, None, *PATTERNS]),
)
shift_invariant_layers = attention_layers.filter(
    # A rotation commutes with dot products only.
    lambda config: (
        config.pattern in SHIFT_INVARIANT
        and (config.position, config.score) not in {("rope", score) for score in ("general", "additive", "concat")}
    )
)


@dataclasses.dataclass(frozen=True)
class Block:
    """A configuration of an encoder or decoder block, or of a stack of them."""

    sizes: Sizes
    normalize_first: bool = False
    position: Any = None
    grouped: bool = False
    dropout: float = 0.0
    attention_dropout: float | None = None
    activation_dropout: float = 0.0
    activation: str = "relu"
    normalization: str = "layer"
    dtype: str = "float32"

    @property
    def arguments(self):
        return dict(
            intermediate_dim=self.sizes.width + 3,
            num_heads=self.sizes.heads,
            dropout=self.dropout,
            activation=self.activation,
            layer_norm_epsilon=1e-3,
            kernel_initializer="zeros",
            normalize_first=self.normalize_first,
            attention_dropout=self.attention_dropout,
            activation_dropout=self.activation_dropout,
            num_key_value_heads=self.sizes.shared if self.grouped else None,
            position=self.position,
            normalization=self.normalization,
            dtype=self.dtype,
        )

    def encoder(self, num_layers=None, seed=0):
        """A built block, or a stack of `num_layers`, with random weights."""
        layer = (
            layers.TransformerEncoder(**self.arguments)
            if num_layers is None
            else layers.TransformerEncoderStack(num_layers, **self.arguments)
        )
        layer.build((None, None, self.sizes.width))
        layer.built = True
        return randomize(layer, seed, scale=self.sizes.width**-0.5)

    def decoder(self, num_layers=None, has_memory=True, seed=0):
        """A built block, or a stack of `num_layers`, with random weights, with or without cross attention."""
        layer = (
            layers.TransformerDecoder(**self.arguments)
            if num_layers is None
            else layers.TransformerDecoderStack(num_layers, **self.arguments)
        )
        shape = (None, None, self.sizes.width)
        layer.build(shape, shape if has_memory else None)
        layer.built = True
        return randomize(layer, seed, scale=self.sizes.width**-0.5)


blocks = st.builds(
    Block,
    sizes=sizes.filter(lambda sizes: sizes.width > 3),  # two features, normalized, are always 1 and -1
    normalize_first=st.booleans(),
    position=st.sampled_from([None, *sorted(POSITIONS)]),
    grouped=st.booleans(),
    dropout=st.sampled_from([0.0, 0.3]),
    attention_dropout=st.sampled_from([None, 0.0, 0.4]),
    activation_dropout=st.sampled_from([0.0, 0.3]),
    activation=st.sampled_from(["relu", "gelu"]),
    normalization=st.sampled_from(["layer", "rms"]),
)
fusable_blocks = blocks.filter(lambda config: config.position != "clipped")  # relative values need all scores
