"""The benchmark of training steps runs, on each of its models."""

import keras
import pytest

from benchmarks import encoders, language_models, products, steps, train_step, translators

TINY = steps.Setting(1, 8, 12, 2, batch_size=2, length=5, vocabulary_size=31)
PEERS = {"keras_hub", "keras.layers"} if keras.backend.backend() == "torch" else set()


def contestants(tables):
    """The names of the rows."""
    return {line.split(" | ")[0].strip("| ") for line in tables.splitlines() if line.startswith("| ")} - {"contestant"}


def test_a_tiny_run_in_mixed_precision_gives_a_row_for_each_contestant(few_peers):
    keras.config.set_dtype_policy("mixed_bfloat16")
    try:
        tables = train_step.report("encoder", encoders, TINY, [0], rounds=1, warm_up=0)
    finally:
        keras.config.set_dtype_policy("float32")
    assert "encoder, mixed_bfloat16, training step" in tables
    assert {"keras_tfm", "products alone", *PEERS} <= contestants(tables)


def test_the_products_of_a_step_are_63_gflop():
    flops = sum(each.flops for each in products.of_encoder(encoders.SETTING))
    # As counted by hand: the weights of a block are 4 · D² + 2 · D · F, its scores take T · D twice.
    by_hand = 2 * 2048 * (6 * (12 * 256**2 + 2 * 128 * 256) + 17 * 256)
    assert flops == by_hand
    assert round(3 * flops / 1e9) == 63


@pytest.mark.skipif(keras.backend.backend() != "torch", reason="compiles many programs, of the same code")
@pytest.mark.parametrize("module", [translators, language_models], ids=["translation", "gpt"])
def test_a_tiny_run_of_the_other_models(module):
    tables = train_step.report("tiny", module, TINY, [0, 0.1], rounds=1, warm_up=0)
    assert {"keras_tfm", "keras_hub"} <= contestants(tables)
    assert "0.1 adds" in tables
    assert "nan" not in tables
