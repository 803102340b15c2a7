"""The page of attention as Python writes it: the bytes in it, what it refuses, and the vector pictures."""

import base64
import hashlib
import html
import json
import re
import xml.etree.ElementTree as ElementTree
import zlib

import numpy as np
import pytest

from keras_tfm import models
from keras_tfm.visualization import attention_packing, attention_page
from keras_tfm.visualization.attention_page import AttentionPage
from keras_tfm.visualization.collect_attention import AttentionRecord, collect_attention

HOSTILE = ["</script><script>alert(1)</script>", "\"'`", "\u2028\u2029", "{{data}}", "<!--", "\ud83d", "&amp;", "&"]
SVG = "{http://www.w3.org/2000/svg}"


def softmax(logits):
    exponentials = np.exp(logits - logits.max(axis=-1, keepdims=True))
    return (exponentials / exponentials.sum(axis=-1, keepdims=True)).astype("float32")


def record(kind, num_queries, num_keys, num_heads=2, seed=0, batch=1, head_size=None):
    rng = np.random.default_rng(seed)
    scores = softmax(2 * rng.normal(size=(batch, num_heads, num_queries, num_keys)))
    if head_size is None:
        return AttentionRecord(f"{kind}_attention", kind, scores)
    query, key = (rng.normal(size=(batch, length, num_heads, head_size)) for length in (num_queries, num_keys))
    return AttentionRecord(f"{kind}_attention", kind, scores, query, key)


def data_of(page):
    return json.loads(re.search(r'id="data">(.*?)</script>', page.html, re.DOTALL)[1])


def test_scores_come_back_to_half_a_step():
    layer = record("cross", 5, 7, seed=1, batch=3)
    page = AttentionPage.from_records([layer], list("abcdefg"), list("vwxyz"), row=2)
    (packed,) = data_of(page)["layers"]
    levels = np.frombuffer(zlib.decompress(base64.b64decode(packed["scores"])), "uint8")
    assert packed["shape"] == [2, 5, 7] and packed["sides"] == ["target", "source"]
    error = np.abs(levels.reshape(2, 5, 7) / 255.0 - layer.scores[2].astype("float64")).max()
    assert 0 < error <= 1 / 510 + 1e-7


def test_vectors_come_back_to_half_a_step_of_their_head():
    layer = record("encoder", 3, 3, num_heads=2, head_size=5)
    (packed,) = data_of(AttentionPage.from_records([layer], list("abc")))["layers"]
    for name, vectors in (("query", layer.query[0]), ("key", layer.key[0])):
        levels = np.frombuffer(zlib.decompress(base64.b64decode(packed[name]["data"])), "int8").reshape(2, 3, 5)
        scales = np.array(packed[name]["scales"])[:, None, None]
        error = np.abs(levels * scales - vectors.transpose(1, 0, 2)).max(axis=(1, 2))
        assert (error <= np.abs(vectors).max(axis=(0, 2)) / 254 + 1e-7).all()
    assert attention_packing.pack_vectors(np.zeros((2, 1, 3)))[1] == [0.0]


def test_a_page_without_vectors_holds_none():
    (packed,) = data_of(AttentionPage.from_records([record("encoder", 2, 2)], ["a", "b"]))["layers"]
    assert "query" not in packed and "key" not in packed


@pytest.mark.parametrize("is_causal", [False, True])
def test_twelve_layers_of_twelve_heads_and_128_tokens_are_less_than_one_and_a_half_megabytes(is_causal):
    """Queries and keys drawn at random: real attention is sharper, and smaller."""
    rng, records = np.random.default_rng(0), []
    for _ in range(12):
        logits = np.einsum("bntd,bnsd->bnts", *rng.normal(size=(2, 1, 12, 128, 64))) / 8.0
        logits = np.where(np.tril(np.ones((128, 128), bool)), logits, -np.inf) if is_causal else logits
        records.append(AttentionRecord("layer", "encoder", softmax(logits)))
    page = AttentionPage.from_records(records, [f"token{index}" for index in range(128)])
    assert len(page.html.encode()) < 1_500_000


def test_no_token_and_no_title_breaks_out_of_the_page():
    title = "</title><script>alert(2)</script>"
    page = AttentionPage.from_records([record("encoder", 8, 8)], HOSTILE, title=title)
    assert data_of(page)["tokens"] == {"source": HOSTILE, "target": None, "output": None}
    assert page.html.count("<script") == 2 and page.html.count("</script>") == 2
    assert title not in page.html and html.escape(title) in page.html
    assert "\u2028" not in page.html and "alert(1)</script>" not in page.html


def test_the_policy_allows_the_script_and_the_style_of_the_page_and_nothing_else():
    page = AttentionPage.from_records([record("encoder", 2, 2)], ["a", "b"]).html
    policy = re.search(r'Content-Security-Policy" content="([^"]*)"', page)[1]
    assert policy.startswith("default-src 'none'; ") and "unsafe" not in policy
    for pattern in (r'<script type="module">(.*?)</script>', r"<style>(.*?)</style>"):
        digest = hashlib.sha256(re.search(pattern, page, re.DOTALL)[1].encode()).digest()
        assert f"'sha256-{base64.b64encode(digest).decode()}'" in policy
    assert not re.search(r"https?://|\beval\(|new Function|innerHTML|\bfetch\(|import\(", page)


def test_spaces_and_empty_tokens_can_be_seen():
    page = AttentionPage.from_records([record("encoder", 3, 3)], [" ", "", "\n"])
    assert data_of(page)["tokens"]["source"] == ["␣", "∅", "\\n"]


def test_cross_attention_goes_by_what_the_decoder_writes():
    records = [record("decoder", 2, 2), record("cross", 2, 3)]
    data = data_of(AttentionPage.from_records(records, list("abc"), ["<start>", "x"], output_tokens=["x", "<end>"]))
    assert [layer["sides"] for layer in data["layers"]] == [["target", "target"], ["output", "source"]]
    assert data["tokens"]["output"] == ["x", "<end>"]


def test_causal_attention_alone_has_its_tokens_in_the_first_list():
    page = AttentionPage.from_records([record("decoder", 3, 3)], ["a", "b", "c"])
    assert data_of(page)["layers"][0]["sides"] == ["source", "source"]


@pytest.fixture(scope="module")
def translator():
    return models.Seq2SeqTransformer(11, 1, 8, 13, 2, name="translator")


IDS = {"source_ids": np.array([[3, 4, 5, 6, 7]]), "target_ids": np.array([[1, 4, 5]])}


def test_a_model_is_shown_with_the_scores_that_it_has(translator, tmp_path):
    path = tmp_path / "page.html"
    page = attention_page(translator, IDS, list("abcde"), list("xyz"), path, with_vectors=True)
    assert path.read_text(encoding="utf-8") == page.html and list(tmp_path.iterdir()) == [path]
    assert "<h1><bdi>Attention of translator</bdi></h1>" in page.html
    layers = data_of(page)["layers"]
    assert [(layer["kind"], layer["shape"]) for layer in layers] == [
        ("encoder", [2, 5, 5]),
        ("decoder", [2, 3, 3]),
        ("cross", [2, 3, 5]),
    ]
    assert all(layer["query"]["width"] == 4 for layer in layers)
    for found, expected in zip(layers, collect_attention(translator, IDS), strict=True):
        unpacked = attention_packing.unpack_scores(found["scores"], found["shape"])
        np.testing.assert_allclose(unpacked, expected.scores[0], atol=1 / 510 + 1e-6)


def test_a_notebook_shows_the_page_in_a_frame_of_its_own():
    page = AttentionPage.from_records([record("encoder", 2, 2)], ['"', "b"], title='"quoted" & <b>')
    frame = page._repr_html_()
    found = re.fullmatch(r'<iframe title="([^"]*)" sandbox="allow-scripts" [^>]* srcdoc="([^"]*)"></iframe>', frame)
    assert html.unescape(found[1]) == '"quoted" & <b>'
    assert html.unescape(found[2]) == page.html


@pytest.mark.parametrize(
    "tokens, message",
    [
        ((["a"] * 4, None), r"`target_tokens` must be given: cross_attention is cross attention"),
        (
            (["a"] * 3, ["b"] * 2),
            r"`source_tokens` must have a token for each of the S=4 positions.*: 3 tokens",
        ),
        (
            (["a"] * 4, ["b"] * 3),
            r"`target_tokens` must have a token for each of the T=2 positions.*: 3 tokens",
        ),
        (("aaaa", ["b"] * 2), r"`source_tokens` must be a list of strings.*source_tokens='aaaa'"),
        (([1, 2, 3, 4], ["b"] * 2), r"`source_tokens` must be a list of strings"),
    ],
)
def test_tokens_that_do_not_fit_are_refused(tokens, message):
    with pytest.raises(ValueError, match=message):
        AttentionPage.from_records([record("cross", 2, 4)], *tokens)


def test_records_that_cannot_be_shown_are_refused():
    good = record("encoder", 2, 2)
    for bad, message in [
        (good._replace(kind="graph"), "kind='graph'"),
        (good._replace(scores=good.scores[0]), r"finite and \[B, N, T, S\]. Received: shape \(2, 2, 2\)"),
        (good._replace(scores=good.scores * np.nan), "must be finite"),
    ]:
        with pytest.raises(ValueError, match=message):
            AttentionPage.from_records([bad], ["a", "b"])
    with pytest.raises(ValueError, match="`row` must be in the batch of 1. Received: row=1"):
        AttentionPage.from_records([good], ["a", "b"], row=1)
    with pytest.raises(ValueError, match="no attention to show"):
        AttentionPage.from_records([], ["a", "b"])


def test_a_picture_for_papers_has_a_line_for_each_score_above_the_threshold(tmp_path):
    layer = record("cross", 3, 5, seed=4)
    page = AttentionPage.from_records([layer], ["the", "</text>", "\x07", "猫", "."], ["א", "b", "c"])
    picture = page.to_svg(view="heads", threshold=0.2, title="a < b", path=tmp_path / "heads.svg")
    assert (tmp_path / "heads.svg").read_text(encoding="utf-8") == picture
    root = ElementTree.fromstring(picture)
    lines = {
        tuple(int(line.get(f"data-{name}")) for name in ("head", "query", "key")): float(line.get("data-score"))
        for line in root.iter(f"{SVG}path")
    }
    expected = np.argwhere(layer.scores[0] >= 0.2)
    assert set(lines) == {tuple(row) for row in expected.tolist()}
    assert all(abs(score - layer.scores[0][place]) < 1e-4 for place, score in lines.items())
    texts = [(text.get("class"), text.text) for text in root.iter(f"{SVG}text")]
    assert texts == [("title", "a < b"), *[("query", token) for token in "אbc"]] + [
        ("key", token) for token in ("the", "</text>", "\ufffd", "猫", ".")
    ]


def test_a_heat_map_for_papers_is_the_mean_of_the_heads_or_one_head():
    layer = record("encoder", 3, 3, seed=5)
    page = AttentionPage.from_records([layer], ["a", "b", "c"])
    for head, expected in ((None, layer.scores[0].mean(axis=0)), (1, layer.scores[0, 1])):
        root = ElementTree.fromstring(page.to_svg(0, head, "encoder", view="heatmap", threshold=0.0))
        cells = [cell for cell in root.iter(f"{SVG}rect") if cell.get("class") == "cell"]
        np.testing.assert_allclose([float(cell.get("data-score")) for cell in cells], expected.ravel(), atol=1e-4)


def test_a_picture_of_what_is_not_there_is_refused():
    page = AttentionPage.from_records([record("encoder", 2, 2)], ["a", "b"])
    for arguments, message in [
        ({"kind": "cross"}, r"`kind` must be one that the model has: \['encoder'\]. Received: kind='cross'"),
        ({"layer": 1}, "`layer` must be less than the 1 of kind 'encoder'. Received: layer=1"),
        ({"head": 2}, "`head` must be in 0 to 1. Received: head=2"),
        ({"view": "graph"}, "`view` must be 'heads' or 'heatmap'. Received: view='graph'"),
    ]:
        with pytest.raises(ValueError, match=message):
            page.to_svg(**arguments)
