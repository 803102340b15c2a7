"""Models hand `layer_loop` and `rematerialization` to their stacks: same file, same numbers, and in the config."""

import numpy as np
import pytest

from keras_tfm import models
from tests.numerics import assert_close, randomize

SIZES = dict(num_layers=2, hidden_dim=12, intermediate_dim=14, num_heads=2)
LOOP = dict(layer_loop="scan", rematerialization="full")
IDS = np.array([[5, 6, 7, 3, 9], [9, 4, 2, 0, 0]], "int32")
MODELS = {  # name: (class, arguments, inputs)
    "tagger": (models.SequenceTagger, dict(num_classes=5, vocabulary_size=11), IDS),
    "classifier": (models.SequenceClassifier, dict(num_classes=3, vocabulary_size=11), IDS),
    "language model": (models.CausalLM, dict(vocabulary_size=11), IDS),
    "translator": (models.Seq2SeqTransformer, dict(vocabulary_size=11), dict(source_ids=IDS, target_ids=IDS[:, :4])),
}


def stacks_of(model):
    return [getattr(model, name) for name in ("encoder", "decoder") if hasattr(model, name)]


@pytest.mark.parametrize("name", MODELS)
def test_blocks_in_a_loop_give_the_numbers_of_the_same_file(name, tmp_path):
    model_class, arguments, inputs = MODELS[name]
    plain = randomize(model_class(**arguments, **SIZES))
    looped = model_class.from_config(model_class(**arguments, **SIZES, **LOOP).get_config())
    assert {name: looped.get_config()[name] for name in LOOP} == LOOP
    assert stacks_of(looped)
    for stack in stacks_of(looped):
        assert (stack.layer_loop, stack.rematerialization) == ("scan", "full")
    plain.save_weights(tmp_path / "model.weights.h5")
    looped.load_weights(tmp_path / "model.weights.h5")
    assert_close(looped.predict_on_batch(inputs), plain(inputs), factor=3)


@pytest.mark.parametrize("name", MODELS)
def test_a_loop_that_there_is_not_is_refused(name):
    model_class, arguments, _ = MODELS[name]
    with pytest.raises(ValueError, match="`layer_loop` must be.*Received: layer_loop='rolled'"):
        model_class(**arguments, **SIZES, layer_loop="rolled")
