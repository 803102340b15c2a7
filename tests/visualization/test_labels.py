import pytest

labels = pytest.importorskip("keras_tfm.visualization.labels", reason="matplotlib")
ft2font = pytest.importorskip("matplotlib.ft2font")


def test_the_chosen_font_has_every_glyph_of_its_label(recwarn):
    texts = ["der", "кот", "二〇〇五年", "ねこ", "∅␣▁"]
    for (label, font), _ in zip(labels.readable_labels(texts), texts, strict=True):
        charmap = ft2font.FT2Font(font).get_charmap()
        assert all(ord(char) in charmap for char in label)


def test_plain_fonts_come_before_bold_and_slanted_ones():
    names = ["/f/NotoSansCJK-Bold.ttc", "/f/NotoSansCJK-Regular.ttc", "/f/DejaVuSans-Oblique.ttf", "/f/DejaVuSans.ttf"]
    assert sorted(names, key=labels._plainness)[:2] == ["/f/DejaVuSans.ttf", "/f/NotoSansCJK-Regular.ttc"]


def test_a_file_that_is_no_font_has_no_characters(tmp_path):
    (tmp_path / "bad.ttf").write_bytes(b"no font")
    assert labels._characters(str(tmp_path / "bad.ttf")) == frozenset()
