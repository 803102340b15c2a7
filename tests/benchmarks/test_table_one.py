"""The measured table 1 runs, fits what it should, and finds the paths that arithmetic says."""

import math

import numpy as np
import pytest

from benchmarks import table_one, token_mixing


@pytest.mark.parametrize(
    ("name", "expected"),
    [
        ("self-attention", lambda n: 1),
        ("restricted, r = 4", lambda n: math.ceil((n - 1) / 3)),  # a token sees those nearer than 4
        ("recurrent", lambda n: n),
        ("convolutional, k = 3", lambda n: math.ceil((n - 1) / 2)),  # two tokens further a layer
        ("dilated, k = 3", lambda n: math.ceil(math.log(n, 3) - 1e-9)),  # the digits of n - 1 in base 3
    ],
)
def test_gradients_reach_as_far_as_arithmetic_says(name, expected):
    assert token_mixing.path_length(name, 5) == expected(5)


def test_a_tiny_run_gives_a_row_for_each_layer(capsys, tmp_path):
    pytest.importorskip("matplotlib")
    names = ["self-attention, scores not held", "self-attention"]
    rows = {name: token_mixing.ROWS[name] for name in names}
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(table_one, "ROWS", rows)
        patch.setattr(table_one, "PATHS", {"self-attention": token_mixing.PATHS["self-attention"]})
        patch.setitem(table_one.FIXED, "length", 3)
        image = tmp_path / "table.png"
        table_one.main(
            ["--axes", "length", "--sizes", "3", "5", "--rounds", "1", "--path-lengths", "4", "--image", str(image)]
        )
    printed = capsys.readouterr().out
    assert [line.split(" | ")[0][2:] for line in printed.splitlines() if line.startswith("| ")] == [
        "layer",
        *names,
        "layer",
        "self-attention",
    ]
    assert image.read_bytes().startswith(b"\x89PNG")


def test_exponents_stand_beside_the_papers():
    sizes = [512, 1024, 2048, 4096]
    values = {name: 1e-6 * np.array(sizes, float) ** 2 for name in token_mixing.ROWS}
    rows = table_one.growth_table("milliseconds", "length", sizes, values).splitlines()[4:]
    assert {row.split(" | ")[5] for row in rows} == {"2.00"}
    assert [row.split(" | ")[-1].strip(" |") for row in rows] == ["2", "2", "1", "1", "1", "1"]


def test_memory_is_that_of_a_step():
    assert token_mixing.peak("self-attention", 16, 4) >= 0
