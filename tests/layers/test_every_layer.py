"""Every public layer goes through `check_layer`: here those without a file of their own, elsewhere the others."""

import pathlib

import numpy as np
import pytest

from keras_tfm import layers, ops
from tests.layers.check_layer import check_layer

RNG = np.random.default_rng(0)
X = RNG.normal(size=(2, 5, 12)).astype("float32")
REAL = np.arange(5) < [[5], [3]]
CHARACTERS = RNG.integers(1, 7, (2, 5, 3)).astype("int32")
IDS = RNG.integers(1, 7, (2, 5)).astype("int32")

ATTENTION = {
    "plain": dict(),
    "grouped, rotary, normalized": dict(
        num_key_value_heads=1, position="rope", query_key_norm="rms", use_gate=True, logit_soft_cap=5.0
    ),
    "sink and talking heads": dict(attention_sink="learned", head_mixing="talking_heads", position="alibi"),
    "general score": dict(score="general", position="t5"),
    "additive score": dict(score="additive", position="clipped"),
    "concat score": dict(score="concat"),
    "pattern": dict(attention_pattern=ops.Blocks(3, before=1) | ops.FirstKeys(1)),
}
# The softmax does not see what all keys have in common, such as the bias of their projection, unless it is normalized
# or goes through a nonlinear score.
UNSEEN = ("key/bias", "buckets")


@pytest.mark.parametrize("name", ATTENTION)
def test_multi_head_attention(name):
    def make(**options):
        return layers.MultiHeadAttention(2, 6, **ATTENTION[name], **options)

    check_layer(
        make,
        (X, X),
        keywords={"padding_mask": REAL},
        options={"use_causal_mask": True, "return_attention_scores": True},
        zero_gradients=UNSEEN,
        unused=("flash_attention",),
        tolerance=4,
    )


PARTS = {"AttentionScore", "GeneralScore", "AdditiveScore", "ConcatScore", "TalkingHeads"}  # checked in attention

SMALL = {
    "CharacterEmbedding": (lambda **o: layers.CharacterEmbedding(7, 12, **o), (CHARACTERS,), None),
    "MaskedMean": (lambda **o: layers.MaskedMean(**o), (X,), None),
    "AttachMask": (lambda **o: layers.AttachMask(**o), ([X, REAL],), None),
    "Dropout": (lambda **o: layers.Dropout(0.3, **o), (X,), True),
    "TokenDropout": (lambda **o: layers.TokenDropout(0.3, 1, **o), (IDS,), None),
    "TokenAndPositionEmbedding": (lambda **o: layers.TokenAndPositionEmbedding(7, 9, 12, **o), (IDS,), None),
}


@pytest.mark.parametrize("name", SMALL)
def test_small_layers(name):
    make, inputs, passes_mask = SMALL[name]
    check_layer(make, inputs, passes_mask=passes_mask, trains="Embedding" in name, tolerance=4)


def test_every_public_layer_is_checked():
    """By `check_layer`, in this file or in its own."""
    folder = pathlib.Path(__file__).parent
    texts = [path.read_text(encoding="utf-8") for path in folder.glob("test_*.py")]
    checked = " ".join(text for text in texts if "check_layer" in text or "assert_is_a_layer" in text)
    names = [name for name in layers.__all__ if isinstance(getattr(layers, name), type)]
    others = {"DecoderCache", "AttentionPosition", "TiedOutputCrossEntropy"}  # no layers, and a base class
    assert [name for name in names if name not in checked and name not in others | PARTS] == []
