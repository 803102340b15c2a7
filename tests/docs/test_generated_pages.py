"""The pages that programs write: the programs run, and the pages tell of all that the programs know."""

import dataclasses
import pathlib

import pytest

pytest.importorskip("keras_hub")

from docs.generate import feature_checks, peers  # noqa: E402
from docs.generate.feature_list import features  # noqa: E402
from docs.generate.features import render  # noqa: E402
from docs.generate.peer_laws import LAWS, PAIRS  # noqa: E402
from keras_tfm import layers  # noqa: E402
from keras_tfm.layers.registry import PARTS  # noqa: E402

DOCS = pathlib.Path(__file__).parents[2] / "docs"
KNOWN = [
    ("keras.layers.MultiHeadAttention", "mask read twice", False),
    ("keras_tfm.layers.MultiHeadAttention", "mask read twice", True),
    ("keras_tfm.layers.MultiHeadAttention", "future", True),
]
SOME = [
    "num_heads, key_dim",
    "position='t5'",
    "attention_pattern=ops.Dilated(2, 2)",
    "TransformerDecoder",
    "MixtureOfExperts(top_k=2)",
    "TransformerDecoder(dtype='bfloat16')",
]


@pytest.mark.parametrize("name", SOME)
def test_a_feature_runs(name):
    (feature,) = [feature for feature in features() if feature.name == name]
    assert feature_checks.run(feature)["error"] is None


def test_a_feature_that_fails_is_not_hidden():
    (feature,) = [feature for feature in features() if feature.name == "TransformerDecoder"]
    broken = dataclasses.replace(feature, laws=("future",), options={"use_causal_mask": False})
    result = feature_checks.run(broken)
    assert result["error"].startswith("future: AssertionError")
    found = {"torch": {"versions": {}, "results": {feature.name: result}}}
    assert "`TransformerDecoder` on torch: future: AssertionError" in render(found, "")


def test_the_page_of_features_names_all():
    page = (DOCS / "features.md").read_text(encoding="utf-8")
    missing = [feature.name for feature in features() if f"`{feature.name.replace('|', chr(92) + '|')}`" not in page]
    assert not missing, "run `python -m docs.generate.features`"


def test_every_layer_is_among_the_features():
    names = " ".join(f"{feature.group} {feature.name}" for feature in features())
    bases = {"AttentionPosition", "AttentionScore", "DecoderCache", "Residual", "TiedOutputCrossEntropy", "get"}
    parts = {getattr(part, "func", part).__name__ for part in PARTS.values()}  # these go by their short names
    assert [name for name in layers.__all__ if name not in bases | parts and name not in names] == []


@pytest.mark.parametrize("name, law, is_kept", KNOWN)
def test_the_laws_find_what_is_known(name, law, is_kept):
    """Keras' layer erases its caller's implicit mask; ours does not."""
    pair = next(pair for pair in PAIRS if name in (pair.peer.name, pair.ours.name))
    result = peers.try_law(pair.peer if pair.peer.name == name else pair.ours, law, peers.draw(4))
    assert result["tried"] == 4
    assert (result["violations"] == 0) == is_kept


def test_laws_run_on_a_handful_of_configurations():
    results = [(pair, peers.try_pair(pair, peers.draw(2), ("cache", "future", "padding"))) for pair in PAIRS]
    page = peers.render(results, {"keras": "0"}, "date", 2)
    assert "| `cache` | 0 / 2 | 0 / 2 |" in page
    assert "rror" not in page.split("## Examples")[1], "a program does not run"


def test_the_page_of_peers_names_all():
    page = (DOCS / "peers.md").read_text(encoding="utf-8")
    assert all(side.name.split(".")[-1] in page for pair in PAIRS for side in (pair.peer, pair.ours))
    assert all(f"`{law}`" in page for law in LAWS)
