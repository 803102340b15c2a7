"""The page on decoding: its table names strategies and rules that exist."""

import pathlib
import re

from keras_tfm import generation, models
from keras_tfm.generation.strategies import STRATEGIES

PAGE = (pathlib.Path(__file__).parents[2] / "docs" / "generation.md").read_text(encoding="utf-8")


def test_every_strategy_has_its_place():
    table = PAGE.split("| you want |")[1].split("\n\n")[0]
    named = set(re.findall(r"`(?:keras_tfm\.models\.)?(\w+)", table))
    assert set(STRATEGIES) <= named
    known = {*STRATEGIES, *generation.__all__, *models.__all__, "num_results", "num_samples", "top_p", "min_p"}
    assert named <= known
