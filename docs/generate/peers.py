"""Writes `docs/peers.md`: the laws of this package, tried on layers of Keras and KerasHub and on ours.

Run from the checkout, with keras-hub (and TensorFlow, which it needs) installed:

    KERAS_BACKEND=torch python -m docs.generate.peers [configurations [folder]]

Sizes and masks come from the generator that the tests of `tests/properties` use. With a folder
results are kept there, and what has results there is not tried again.
"""

import datetime
import json
import pathlib
import re
import sys
import tempfile

import hypothesis
import keras
import keras_hub
import numpy as np
from hypothesis import strategies as st

import keras_tfm
from docs.generate.peer_laws import LAWS, MEANINGS, PAIRS, TOLERANCE, TOLERANCES
from tests.numerics import to_numpy
from tests.properties import configurations

PAGE = pathlib.Path(__file__).parents[1] / "peers.md"
SLOW = {"save, load": 5}  # tried on every fifth configuration
INTRODUCTION = """# The same laws for Keras, KerasHub and keras_tfm

Written by `KERAS_BACKEND={backend} python -m docs.generate.peers {count}`. {date}, {versions}.

{count} random configurations (batches, lengths, heads, sizes, masks, dropout rates; inference) go to each class and
law; every fifth to *save, load*. A cell says how many broke the law, and how far the worst was off; *error* means that
the call raised one. A difference up to {tolerance} is none. Only documented arguments are used, with the weights that a
new layer has. Some laws are promised by nobody but this package: a count there tells of a difference, not of a defect.

| law | what it says, and who promises it |
|---|---|
{meanings}
"""
PREAMBLE = """Smallest configurations that break a law, as they were run. All begin with

```python
import keras, keras_hub, keras_tfm, numpy as np

def difference(a, b):
    a, b = (np.asarray(keras.ops.convert_to_numpy(each), "float32") for each in (a, b))
    return np.abs(a - b)
```
"""


def draw(count):
    """Configurations from the generator of the property tests, the same ones at every run."""
    drawn = []
    strategy = st.tuples(configurations.any_sizes, st.integers(0, 2**16), st.sampled_from([0.0, 0.3]))

    @hypothesis.seed(0)
    @hypothesis.settings(max_examples=count, phases=[hypothesis.Phase.generate], database=None, deadline=None)
    @hypothesis.given(strategy)
    def collect(configuration):
        drawn.append(configuration)

    collect()
    rng = np.random.default_rng(0)  # the generator stops early where it finds nothing new
    while len(drawn) < count:
        sizes, _, dropout = drawn[rng.integers(len(drawn))]
        drawn.append((sizes, int(rng.integers(2**16)), dropout))
    return drawn[:count]


def program(peer, law, configuration):
    """The text of a law's program for a class and a configuration."""
    sizes, seed, dropout = configuration
    rng = np.random.default_rng(seed)
    batch, length = sizes.batch, max(sizes.queries, 2)
    real = configurations.padding_mask(rng, ["right", "left", "holes"][seed % 3], batch, length)
    real = f"{real.astype(int).tolist()}, bool"
    by_pairs = "mask=mask" in peer.options.get("masked", "")
    lines = {
        True: (
            "mask = (rng.random((B, T, T)) < 0.7) | np.eye(T, dtype=bool)",
            "mask = np.ones((B, T, T), bool)\nmask[0, 0] = False",
        ),
        False: (f"real = np.array({real})\nreal[:, 0] = True", "real = np.ones((B, T), bool)\nreal[0] = False"),
    }[by_pairs]
    calls = {
        f"{name}_{x}": peer.call(x, name) for name in ("plain", "causal", "padded", "masked", "step") for x in "xyz"
    }
    calls |= {"scored_x": peer.call("x", "masked", "scored"), "started_y": peer.call("y", "started")}
    values = {"real": real, "t": int(rng.integers(1, length)), "some_mask": lines[0], "empty_mask": lines[1], **calls}
    values |= {"name": peer.name, "dropout": dropout}
    is_block = peer.plain == "layer(x)"
    values["stacked"] = peer.plain if is_block else f"keras.layers.Add()([x, {peer.plain}])"
    text = (
        f"B, T, D, N, K, H, F = {batch}, {length}, {sizes.width}, {sizes.heads}, {sizes.shared}, {sizes.key_dim}, 7\n"
        f"keras.utils.set_random_seed({seed})\nrng = np.random.default_rng({seed})\n"
        f"x = rng.normal(size=(B, T, D)).astype('float32')\nlayer = {peer.make}\n{LAWS[law]}"
    )
    for _ in range(2):  # what is filled in may have places of its own
        text = re.sub(r"\{(\w+)\}", lambda match: str(values[match[1]]), text)
    return text


def difference(a, b):
    """Absolute differences of two tensors or arrays."""
    return np.abs(to_numpy(a).astype("float64") - to_numpy(b).astype("float64"))


def deviation(text):
    """Runs a program; the largest deviation (infinite for NaN), or the first line of the error that it raised."""
    with tempfile.TemporaryDirectory() as folder:
        names = {"keras": keras, "keras_hub": keras_hub, "keras_tfm": keras_tfm, "np": np, "difference": difference}
        names["path"] = f"{folder}/model.keras"
        try:
            exec(text, names)
        except Exception as error:  # the page shows it
            return f"{type(error).__name__}: {str(error).strip().splitlines()[0] if str(error) else ''}"
    found = np.asarray(names["deviation"], "float64")
    return float(np.where(np.isnan(found), np.inf, found).max()) if found.size else 0.0


def try_law(peer, law, drawn):
    """How a class keeps a law: configurations tried, violations, the worst, and the program of the smallest."""
    drawn, broken = drawn[:: SLOW.get(law, 1)], []
    for configuration in drawn:
        text = program(peer, law, configuration)
        found = deviation(text)
        if isinstance(found, str) or found > TOLERANCES.get(law, TOLERANCE):
            size = configuration[0].batch * max(configuration[0].queries, 2) * configuration[0].width
            broken.append((size, text, found))
    numbers = [found for *_, found in broken if not isinstance(found, str)]
    worst = max(numbers) if numbers else None
    return {
        "tried": len(drawn),
        "violations": len(broken),
        "worst": worst,
        "smallest": min(broken, default=None, key=lambda x: x[0]),
    }


def try_pair(pair, drawn, laws=tuple(LAWS)):
    """`{law: [of the peer, of ours]}`."""
    return {law: [try_law(side, law, drawn) for side in (pair.peer, pair.ours)] for law in pair.laws if law in laws}


def _cell(name, law, result, examples):
    count = f"{result['violations']} / {result['tried']}"
    if not result["violations"]:
        return count
    _, text, found = result["smallest"]
    examples.append(
        f"{len(examples) + 1}. `{name}`, *{law}*\n\n```python\n{text}\n```\n\n`deviation`: {_number(found, law)}\n"
    )
    worst = "error" if result["worst"] is None else _number(result["worst"], law)
    return f"**{count}**, {worst} ([{len(examples)}])"


def _number(found, law):
    """In words where it is not a finite number."""
    if isinstance(found, str):
        return found
    infinite = {"mask goes on": "no mask", "past the table": "no error"}.get(law, "NaN")
    return infinite if np.isinf(np.max(found)) else f"up to {np.max(found):.2g}"


def render(results, versions, date, count):
    """The page as text; `results` is a list of pairs and what `try_pair` says of them."""
    meanings = "\n".join(f"| `{law}` | {MEANINGS[law]} |" for law in LAWS)
    named = ", ".join(f"{name} {version}" for name, version in versions.items())
    backend, examples = keras.backend.backend(), []
    places = {"backend": backend, "count": count, "date": date, "versions": named, "tolerance": TOLERANCE}
    rows = [INTRODUCTION.format(meanings=meanings, **places)]
    for pair, laws in results:
        sides = (pair.peer, pair.ours)
        heads = (f"`{side.name.removeprefix('keras_tfm.layers.')}`" for side in sides)
        rows += [f"\n## {pair.peer.name}\n", f"| law | {' | '.join(heads)} (ours) |", "|---|---|---|"]
        for law, found in laws.items():
            cells = [_cell(side.name, law, result, examples) for side, result in zip(sides, found, strict=True)]
            rows.append(f"| `{law}` | {' | '.join(cells)} |")
    return "\n".join([*rows, "\n## Examples\n", PREAMBLE, *examples])


def main(count=100, folder=None):
    """Tries every pair, or takes its results from the folder, and writes the page."""
    count, backend, results = int(count), keras.backend.backend(), []
    versions = {"keras": keras.__version__, "keras_hub": keras_hub.__version__, "keras_tfm": keras_tfm.__version__}
    versions[backend] = __import__(backend).__version__
    for index, pair in enumerate(PAIRS):
        kept = pathlib.Path(folder) / f"{backend}-{count}-{index}.json" if folder else None
        found = json.loads(kept.read_text()) if kept and kept.exists() else try_pair(pair, draw(count))
        if kept:
            kept.write_text(json.dumps(found))
        results.append((pair, found))
        keras.backend.clear_session()
    PAGE.write_text(render(results, versions, datetime.date.today(), count), encoding="utf-8")


if __name__ == "__main__":
    main(*sys.argv[1:])
