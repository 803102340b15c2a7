"""Layers of Keras and KerasHub beside ours, and the laws that all are held to, as programs that a page can print.

A law is the text of a program that leaves `deviation`, 0 where the law is kept. In braces stand calls,
`{plain_x}` a plain one on x, which are filled in as each class wants to be called; capitals are sizes.
"""

import dataclasses

TOLERANCE = 1e-4


@dataclasses.dataclass(frozen=True)
class Peer:
    """A class and how it is called, as text.

    Args:
        name: where it is imported from.
        arguments: of the constructor.
        plain: a call on `x`.
        options: what a call is given besides if it is `causal`, `padded` (by `real`), `masked` (by `mask`), `scored`, a
            `step` with a cache, or `started` further on.
    """

    name: str
    arguments: str
    plain: str = "layer(x)"
    options: dict = dataclasses.field(default_factory=dict)
    skip: tuple = ()

    @property
    def make(self):
        """The call of the constructor."""
        return f"{self.name}({self.arguments})"

    def call(self, x="x", *options):
        """The text of a call, with `x` in the place of its input."""
        more = [self.options[option] for option in options if self.options.get(option)]
        text = self.plain.replace("x", x).removesuffix(")")
        return ", ".join([text, *more]) + ")"


@dataclasses.dataclass(frozen=True)
class Pair:
    """A class of theirs and ours, and the laws for both."""

    peer: Peer
    ours: Peer
    laws: tuple


REAL = "real = np.array({real})\n"
IDS = (
    REAL
    + "ids = np.where(real, rng.integers(1, 9, real.shape), 0)\nembed = keras.layers.Embedding(9, D, mask_zero=True)\n"
)
FORMULA = (
    "x = np.zeros((1, 500, D), 'float32')\ni = np.arange(D) // 2\n"
    "angles = np.arange(500)[:, None] / 10000 ** (2 * i / D)\n"
    "expected = np.where(np.arange(D) % 2, np.cos(angles), np.sin(angles))\ndeviation = difference({plain_x}, expected)"
)
LAWS = {
    "future": "y = x.copy()\ny[:, {t}:] += 1\ndeviation = difference({causal_x}, {causal_y})[:, :{t}]",
    "padding": REAL
    + "y, expected = np.where(real[..., None], x, 7).astype('float32'), {padded_x}\n"
    + "y, longer = np.pad(y, ((0, 0), (0, 3), (0, 0))), real\nreal = np.pad(real, ((0, 0), (0, 3)))\n"
    + "deviation = difference({padded_y}[:, :T], expected)[longer]",
    "NaN in padding": REAL
    + "y = np.where(real[..., None], x, np.nan).astype('float32')\n"
    + "deviation = difference({padded_x}, {padded_y})[real]",
    "mask read twice": IDS + "x = embed(ids)\ndeviation = difference({plain_x}, {plain_x})[real]",
    "mask goes on": IDS
    + "x = embed(ids)\ny = {plain_x}\nmask = getattr(y, '_keras_mask', None)\n"
    + "deviation = float('inf') if mask is None else difference(real, mask)",
    "mask in a stack": IDS
    + "def stack(ids):\n    x = embed(ids)\n    for _ in range(2):\n        x = {stacked}\n    return x\n"
    + "longer = np.pad(ids, ((0, 0), (0, 3)))\ndeviation = difference(stack(ids), stack(longer)[:, :T])[real]",
    "scores": "{some_mask}\ndeviation = difference({masked_x}, {scored_x}[0])",
    "empty row: zero": "{empty_mask}\ndeviation = difference({masked_x}, 0)[0, 0]",
    "empty row: no NaN": "{empty_mask}\ndeviation = difference({masked_x}, 0)[0, 0] * 0",
    "empty row: scores": "{empty_mask}\ndeviation = difference({masked_x}, {scored_x}[0])[0, 0]",
    "cache": "mask = np.tril(np.ones((B, T, T), bool))\nfull, steps = {causal_x}, []\n"
    + "cache = np.zeros((B, 2, T, N, H), 'float32')\nfor t in range(T):\n    y = x[:, t : t + 1]\n"
    + "    step, cache = {step_y}\n    steps.append(step)\n"
    + "deviation = difference(full, keras.ops.concatenate(steps, 1))",
    "batch": "y = x[:1]\ndeviation = difference({plain_x}[:1], {plain_y})",
    "save, load": "z = keras.Input((None, D))\nmodel = keras.Model(z, {plain_z})\nmodel.save(path)\n"
    + "deviation = difference(model(x), keras.models.load_model(path)(x))",
    "start_index": "y = x[:, {t}:]\ndeviation = difference({plain_x}[:, {t}:], {started_y})",
    "formula": FORMULA,
    "formula, bfloat16": "layer = {name}(dtype='bfloat16')\n" + FORMULA,
    "past the table": "{plain_x}\ntry:\n    y = np.zeros((B, 99, D), 'float32')\n    {plain_y}\n"
    + "    deviation = float('inf')\nexcept Exception:\n    deviation = 0",
}
TOLERANCES = {"formula, bfloat16": 0.01}  # bfloat16 itself rounds by 0.004
MEANINGS = {
    "future": "Another token t changes no output before t (`use_causal_mask`). Promised by all that have the argument.",
    "padding": "What padding holds and how long it is changes no real token (explicit masks). Promised by all.",
    "NaN in padding": "NaN in padded places reaches no real token. Promised by keras_tfm alone.",
    "mask read twice": "Two calls on one tensor with an implicit mask give the same. Keras' guide says that layers "
    "with `supports_masking` see and pass masks; that one takes the mask off its input is said nowhere.",
    "mask goes on": "The output carries the implicit mask of the (query) input. Promised by `supports_masking`, which "
    "KerasHub's position layers do not set; Keras warns there.",
    "mask in a stack": "Two layers in a row, attention with residual sums (`keras.layers.Add`): more padding, known by "
    "its implicit mask alone, changes no real token.",
    "scores": "`return_attention_scores=True` changes no output. Nobody says that it could.",
    "empty row: zero": "A query that may attend to nothing gets zeros. Promised by keras_tfm alone.",
    "empty row: no NaN": "Such a query gives no NaN. Promised by keras_tfm alone.",
    "empty row: scores": "Such a query gets the same with and without scores. Promised by keras_tfm alone.",
    "cache": "Token by token with a cache equals the full pass: what the argument is documented for.",
    "batch": "A sequence gets in a batch what it gets alone.",
    "save, load": "A `.keras` file gives back the same numbers. Promised by all.",
    "start_index": "From `start_index=t` on equals the end of the whole: what the argument is documented for.",
    "formula": "Sinusoids of 500 positions are those of the paper, computed in float64.",
    "formula, bfloat16": "The same, with `dtype='bfloat16'`, to 0.01. No precision is promised by KerasHub.",
    "past the table": "More tokens than the table has positions are refused. Promised by keras_tfm alone.",
}

_MASKED = {"masked": "attention_mask=mask", "padded": "attention_mask=np.repeat(real[:, None], real.shape[1], 1)"}
_ATTENTION = {**_MASKED, "causal": "use_causal_mask=True", "scored": "return_attention_scores=True"}
_CACHED = {
    **_ATTENTION,
    "causal": "attention_mask=np.tril(np.ones((B, T, T), bool))",
    "step": "attention_mask=mask[:, t : t + 1], cache=cache, cache_update_index=t",
}
_LISTED = {
    "masked": "mask=[None, real]",
    "padded": "mask=[None, real]",
    **{k: _ATTENTION[k] for k in ("causal", "scored")},
}
_ENCODER = {"padded": "padding_mask=real", "masked": "attention_mask=mask"}
_DECODER = {
    "padded": "decoder_padding_mask=real",
    "masked": "decoder_attention_mask=mask",
    "step": "self_attention_cache=cache, self_attention_cache_update_index=t",
}
_STARTED = {"started": "start_index={t}"}
_MASKS = ("mask read twice", "mask goes on", "mask in a stack")
_EMPTY = ("empty row: zero", "empty row: no NaN", "empty row: scores")
_ALL = ("future", "padding", "NaN in padding", *_MASKS, "scores", *_EMPTY, "batch", "save, load")
_NO_IMPLICIT = tuple(law for law in _ALL if law not in _MASKS)
_BLOCK = ("padding", "NaN in padding", *_MASKS, "empty row: no NaN", "batch", "save, load")
_HEADS, _GROUPED = "N, H, dropout={dropout}", "H, N, K, dropout={dropout}"


def _pair(theirs, ours, arguments, laws, plain="layer(x)", options=None, our_arguments=None):
    options = options or {}
    ours = Peer(f"keras_tfm.layers.{ours}", our_arguments or arguments, plain, options)
    return Pair(Peer(theirs, arguments, plain, options), ours, laws)


PAIRS = [
    _pair("keras.layers.MultiHeadAttention", "MultiHeadAttention", _HEADS, _ALL, "layer(x, x)", _ATTENTION),
    _pair(
        "keras.layers.GroupQueryAttention",
        "MultiHeadAttention",
        _GROUPED,
        _ALL,
        "layer(x, x)",
        _ATTENTION,
        our_arguments="N, H, num_key_value_heads=K, dropout={dropout}",
    ),
    _pair(
        "keras_hub.layers.CachedMultiHeadAttention",
        "MultiHeadAttention",
        _HEADS,
        ("cache", *_NO_IMPLICIT),
        "layer(x, x)",
        _CACHED,
    ),
    _pair("keras.layers.AdditiveAttention", "AdditiveAttention", "dropout={dropout}", _ALL, "layer([x, x])", _LISTED),
    _pair(
        "keras_hub.layers.TransformerEncoder", "TransformerEncoder", "F, N, dropout={dropout}", _BLOCK, options=_ENCODER
    ),
    _pair(
        "keras_hub.layers.TransformerDecoder",
        "TransformerDecoder",
        "F, N, dropout={dropout}",
        ("future", "cache", *_BLOCK),
        options=_DECODER,
    ),
    _pair(
        "keras_hub.layers.SinePositionEncoding",
        "SinePositionEncoding",
        "",
        ("start_index", "formula", "formula, bfloat16", "mask goes on", "batch", "save, load"),
        options=_STARTED,
    ),
    _pair(
        "keras_hub.layers.PositionEmbedding",
        "PositionEmbedding",
        "T",
        ("start_index", "past the table", "mask goes on", "batch", "save, load"),
        options=_STARTED,
    ),
]
