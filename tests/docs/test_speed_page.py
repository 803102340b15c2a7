"""The page on speed: the kernels that it names are those that exist."""

import pathlib
import re

import keras

from keras_tfm.ops.attention import kernels

PAGE = (pathlib.Path(__file__).parents[2] / "docs" / "speed.md").read_text(encoding="utf-8")
OF_BACKENDS = {"jax": {"cudnn"}, "tensorflow": set(), "torch": {"torch_segments", "torch_sdpa", "torch_dropout"}}


def test_every_kernel_has_its_row():
    table = PAGE.split("| kernel |")[1].split("\n\n")[0]
    rows = [re.findall(r"`(\w+)`", line.split("|")[1]) for line in table.splitlines()[2:]]
    named = [name for row in rows for name in row]
    others = set.union(*OF_BACKENDS.values()) - OF_BACKENDS[keras.backend.backend()]
    assert [name for name in named if name not in others] == [kernel.name for kernel in kernels()]
