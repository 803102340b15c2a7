"""Runs the features of `feature_list` on the backend of this process, and says what happened.

`python -m docs.generate.feature_checks results.json` runs all of them.
"""

import json
import pathlib
import sys
import tempfile
import types

import keras
import numpy as np

import keras_tfm
from docs.generate.feature_list import BATCH, LENGTH, REAL, features
from keras_tfm.ops import observe_attention
from tests import attention_oracle
from tests.numerics import assert_close, randomize, to_numpy

CALLS = {  # kind: the names of causality, padding, and the cache with its index
    "attention": ("use_causal_mask", "padding_mask", "cache"),
    "pair": ("use_causal_mask", "padding_mask", None),
    "encoder": (None, "padding_mask", None),
    "decoder": (None, "decoder_padding_mask", "self_attention_cache"),
    "stack": (None, "decoder_padding_mask", "cache"),
    "list": (None, None, None),
    "layer": (None, None, None),
}


def call(feature, layer, inputs=None, keywords=None, **more):
    """The layer's outputs; `inputs` and `keywords` take the place of the feature's own."""
    inputs = feature.inputs if inputs is None else inputs
    if feature.kind in ("attention", "pair") and len(inputs) == 1:
        inputs = (*inputs, inputs[0])
    keywords = feature.keywords if keywords is None else keywords
    arguments = {**keywords, **feature.options, **more}
    return layer(list(inputs), **arguments) if feature.kind in ("pair", "list") else layer(*inputs, **arguments)


def _dtype(layer):
    return layer.compute_dtype if "float" in layer.compute_dtype else "float32"


def _causal(feature):
    name = CALLS[feature.kind][0]
    return {name: True} if name else {}


def check_oracle(feature, layer):
    """As plain numpy in float64 computes it from the papers' equations."""
    given = {"position": None, "score": layer.score, "sink": layer.attention_sink, "mixing": layer.head_mixing}
    config = layer.get_config()
    names = {"soft_cap": layer.logit_soft_cap, "gate": config["use_gate"], **given}
    names |= {name: _name_in(feature, name) for name in ("position", "score")}
    weights = {name: to_numpy(x) for name, x in attention_oracle.named_weights(layer).items()}
    query, value = feature.inputs[0], feature.inputs[-1]
    lengths = query.shape[1], value.shape[1]
    pairs = np.ones((BATCH, layer.num_heads, *lengths), bool)
    places = [np.tile(np.arange(length), (BATCH, 1)) for length in lengths]
    expected = attention_oracle.multi_head_attention(
        weights, types.SimpleNamespace(**names), query.astype("float64"), value.astype("float64"), pairs, *places
    )
    assert_close(call(feature, layer, return_attention_scores=True), expected, factor=5)


def _name_in(feature, argument):
    return feature.name.split("'")[1] if feature.name.startswith(f"{argument}=") else None


def check_future(feature, layer):
    """Another last token changes no earlier output, and does change its own."""
    first, *others = feature.inputs
    changed = first.copy()
    changed[:, -1] += 1
    before, after = (to_numpy(call(feature, layer, (x, *others), **_causal(feature))) for x in (first, changed))
    assert_close(after[:, :-1], before[:, :-1], _dtype(layer))
    assert np.abs(after - before).max() > 1e-3, "nothing depends on the input"


def check_scores(feature, layer):
    """Asking for scores changes no output."""
    output, *scores = call(feature, layer, return_attention_scores=True)
    assert_close(output, call(feature, layer), _dtype(layer))
    assert all(np.isfinite(to_numpy(x)).all() for x in keras.tree.flatten(scores))


def check_cache(feature, layer):
    """Steps of one token with a cache equal the full pass."""
    name, x = CALLS[feature.kind][2], feature.inputs[0]
    owner = layer.self_attention if feature.kind == "decoder" else layer
    cache, causal = owner.create_cache(BATCH, LENGTH), _causal(feature)
    full = to_numpy(call(feature, layer, **causal))
    for step in range(LENGTH):
        more = {name: cache, f"{name}_update_index": step, **causal}
        output, cache = call(feature, layer, (x[:, step : step + 1],), **more)
        assert_close(output, full[:, step : step + 1], _dtype(layer), message=f"step {step}")


def check_padding(feature, layer):
    """NaN in padded places reaches no real token."""
    x, name = feature.inputs[0], CALLS[feature.kind][1]
    poisoned = np.where(REAL[..., None], x, np.nan).astype("float32")
    before, after = (to_numpy(call(feature, layer, (each,), **{name: REAL}))[REAL] for each in (x, poisoned))
    assert_close(after, before, _dtype(layer))


LAWS = {
    "oracle": check_oracle,
    "future": check_future,
    "scores": check_scores,
    "cache": check_cache,
    "padding": check_padding,
}


def run_eagerly(feature, layer):
    """The names of the kernels that served a plain call, whose outputs are finite."""
    kernels = []
    with observe_attention(lambda request, kernel: kernels.append(kernel.name)):
        outputs = call(feature, layer)
    assert all(np.isfinite(to_numpy(x)).all() for x in keras.tree.flatten(outputs)), "outputs are not finite"
    return sorted(set(kernels))


def _model(feature, layer, has_head):
    arrays = [*feature.inputs, *feature.keywords.values()]
    symbols = keras.tree.map_structure(lambda x: keras.Input(x.shape[1:], dtype=str(x.dtype)), arrays)
    inputs, others = symbols[: len(feature.inputs)], symbols[len(feature.inputs) :]
    output = call(feature, layer, tuple(inputs), dict(zip(feature.keywords, others, strict=True)))
    if has_head and "int" in str(output.dtype):
        output = keras.layers.Embedding(11, 3)(output)
    output = keras.layers.Dense(3)(output) if has_head else output
    return keras.Model(keras.tree.flatten(symbols), output), keras.tree.flatten(arrays)


def train(feature, layer):
    """One batch of `model.fit`, compiled where the backend compiles: a finite loss, and weights that moved."""
    model, arrays = _model(feature, layer, has_head=True)
    model.compile("sgd", "mse")
    before = [to_numpy(x) for x in layer.trainable_variables]
    target = np.random.default_rng(1).normal(size=(BATCH, *model.output.shape[1:])).astype("float32")
    loss = model.fit(arrays, target, batch_size=BATCH, verbose=0).history["loss"][0]
    assert np.isfinite(loss), f"the loss is {loss}"
    moved = [np.abs(to_numpy(x) - y).max() > 0 for x, y in zip(layer.trainable_variables, before, strict=True)]
    assert any(moved) or not moved, "no weight moved"


def save_and_load(feature, layer):
    """A `.keras` file gives back the same numbers."""
    model, arrays = _model(feature, layer, has_head=False)
    with tempfile.TemporaryDirectory() as folder:
        path = pathlib.Path(folder) / "model.keras"
        model.save(path)
        loaded = keras.models.load_model(path)
    assert_close(loaded(arrays), model(arrays), _dtype(layer))


def run(feature):
    """What happened: `{"kernels": [...], "error": None or "step: first line of the error"}`."""
    keras.utils.set_random_seed(0)
    result, step = {"kernels": [], "error": None}, "make"
    try:
        layer = feature.make()
        step = "eager call"
        call(feature, layer)
        randomize(layer, scale=0.2)
        result["kernels"] = run_eagerly(feature, layer)
        for step in feature.laws:
            LAWS[step](feature, layer)
        for step in ("save and load", "training step"):
            {"save and load": save_and_load, "training step": train}[step](feature, layer)
    except Exception as error:  # whatever it is, the page shows it
        lines = [line.strip() for line in str(error).splitlines() if line.strip()]
        result["error"] = f"{step}: {type(error).__name__}: {lines[0] if lines else ''}"
    return result


def main(path):
    """Runs all features and writes what happened."""
    backend = keras.backend.backend()
    versions = {"keras_tfm": keras_tfm.__version__, "keras": keras.__version__}
    versions[backend] = __import__(backend).__version__
    results = {feature.name: run(feature) for feature in features()}
    pathlib.Path(path).write_text(json.dumps({"versions": versions, "results": results}, indent=1), encoding="utf-8")


if __name__ == "__main__":
    main(sys.argv[1])
