"""The pages of nineteen questions: one text in two languages, figures that were measured, and claims that hold."""

import json
import re

import numpy as np
import pytest

pytest.importorskip("matplotlib")

from docs.generate.questions import QUESTIONS, no_leak, padding_mask, residuals, scaling  # noqa: E402
from docs.generate.questions.pages import FIGURES, PAGES, PICTURES, read_figures, render  # noqa: E402
from docs.generate.questions.pictures import heat_maps  # noqa: E402

TEMPLATES = [path.read_text(encoding="utf-8") for path in PAGES]
TEXTS = [path.read_text(encoding="utf-8") for path in PAGES.values()]
BLOCKS = re.findall(r"```python\n(.*?)```", TEXTS[0], flags=re.DOTALL)


def test_both_pages_hold_the_nineteen_questions():
    for text in TEXTS:
        assert re.findall(r"^## (\d+)\.", text, flags=re.MULTILINE) == [str(number + 1) for number in range(19)]
        assert re.findall(r"\[\w+\.py\]\(generate/questions/(\w+)\.py\)", text) == list(QUESTIONS)
        assert re.findall(r"!\[[^\]]+\]\(images/questions/(\w+)\.png\)", text) == list(QUESTIONS)


def test_pages_hold_what_was_measured_and_no_place_is_empty():
    figures = read_figures()
    assert set(figures) == {"setting", *QUESTIONS}
    assert "NaN" not in json.dumps(figures)
    for template, text in zip(TEMPLATES, TEXTS, strict=True):
        assert render(template, figures) == text, "run `python -m docs.generate.questions --pages`"
        assert "{{" not in text and "}}" not in text


def test_both_pages_have_the_same_figures_and_code():
    english, chinese = ([set(re.findall(r"\{\{.*?\}\}", part)) for part in text.split("\n## ")] for text in TEMPLATES)
    assert english == chinese
    assert re.findall(r"```python\n(.*?)```", TEXTS[1], flags=re.DOTALL) == BLOCKS
    assert len(BLOCKS) == len(QUESTIONS)


def test_pictures_are_there_and_small():
    assert {path.stem for path in PICTURES.glob("*.png")} == set(QUESTIONS)
    assert all(100 < path.stat().st_size <= 40_000 for path in PICTURES.glob("*.png"))
    assert FIGURES.stat().st_size < 100_000


@pytest.mark.parametrize("name", QUESTIONS)
def test_blocks_print_what_they_say(name, capsys):
    exec(compile(BLOCKS[QUESTIONS.index(name)], f"docs/questions.md, {name}", "exec"), {})
    printed = capsys.readouterr().out
    expected = {
        "several_heads": "4224 (1, 1, 6, 6)\n4224 (1, 2, 6, 6)\n4224 (1, 4, 6, 6)\n",
        "query_and_key_matrices": "True\n",
        "additive_score": "scaled_dot (1, 6, 16) 1088\nadditive (1, 6, 16) 1360\n",
        "padding_mask": "0.0\n",
        "narrow_heads": "1 512 1050624\n8 64 1050624\n8 512 8401408\n",
        "encoder_block": "3152384\n",
        "positions": "True\n",
        "residuals": "0.0\n",
        "layer_norm": "layer True\nbatch False\n",
        "batch_norm": "True\n",
        "feed_forward": "True\n",
        "cross_attention": "(1, 4, 16) (1, 2, 4, 4) (1, 2, 4, 7)\n",
        "sequence_mask": "True False\nFalse True\n",
        "parallel": "True\n",
        "warmup_and_dropout": "[0.000175, 0.000699, 0.000349]\n1000.0 2.0\n",
        "no_leak": "[ True  True  True False False]\n",
    }
    assert printed if name not in expected else printed == expected[name]


def test_the_variance_of_a_dot_product_is_its_number_of_terms():
    found = scaling.measure(seed=1, sizes=(4, 256), length=16, batch=8)
    assert found["variance_plain"] == pytest.approx([4, 256], rel=0.1)
    assert found["variance_scaled"] == pytest.approx([1, 1], rel=0.1)
    assert found["jacobian_plain"][1] < 0.6 * found["jacobian_scaled"][1]
    assert found["entropy_plain"][1] < 0.4 < 2 < found["entropy_scaled"][1]
    assert found["dead_plain"][1] > 0.2 and found["dead_scaled"] == [0, 0]


def test_saturation_is_that_of_the_jacobian():
    scores = np.array([[0.7, 0.2, 0.1]])
    jacobian = np.diag(scores[0]) - np.outer(scores[0], scores[0])
    assert scaling.saturation(scores)["jacobian"] == pytest.approx(np.linalg.norm(jacobian))


def test_masked_padding_moves_nothing():
    found = padding_mask.measure(seed=1, num_blocks=2)
    assert found["moved_masked"] < 1e-5 < 0.1 < found["moved_unmasked"]
    assert found["on_padding_masked"] == found["nan_moved"] == found["empty_row"] == 0.0
    assert 0.2 < found["on_padding_unmasked"] < 0.9


def test_residuals_leak_no_future_and_a_missing_mask_does(tmp_path):
    found = no_leak.measure(seed=1, num_blocks=2)
    assert found["future_masked"] == 0.0
    assert min(found["past_masked"], found["past_unmasked"], found["future_unmasked"]) > 1e-3
    heat_maps({"a": found["matrix_masked"]}, tmp_path / "a.png")
    assert (tmp_path / "a.png").stat().st_size > 100


def test_without_residuals_tokens_become_alike():
    found = residuals.measure(seed=1, num_blocks=6, steps=0)
    assert found["apart_last_with"] > 0.1 > 1e-3 > found["apart_last_without"]
    assert found["gradient_first_bare"] < 0.1 * found["gradient_first_with"]
