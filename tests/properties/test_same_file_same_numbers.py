"""Laws 7 and 10: a saved model is the same model, in a fresh process, in safe mode, and on another backend.

Each backend writes files that a fresh process on the next one reads: JAX, TensorFlow, PyTorch, and round to JAX.
"""

import importlib.util
import os
import subprocess
import sys

import keras
import numpy as np
import pytest

import keras_tfm
from tests.numerics import randomize, to_numpy

NEXT = {"jax": "tensorflow", "tensorflow": "torch", "torch": "jax"}
IDS = np.array([[5, 6, 7, 8, 9], [9, 4, 2, 0, 0]], "int32")

# What both processes run, so that there is one way to ask a model for its numbers.
ANSWERS = """
import numpy as np

def answers(models, to_numpy):
    ids = np.array([[5, 6, 7, 8, 9], [9, 4, 2, 0, 0]], "int32")
    seq2seq, tagger, classifier = models
    sequences, scores, lengths = seq2seq.decode(ids, max_length=6, num_beams=1)
    beams, beam_scores, _ = seq2seq.decode(ids, max_length=6, num_beams=3)
    frames = np.linspace(-1, 1, 2 * 4 * 3).reshape(2, 4, 3).astype("float32")
    real = np.array([[True] * 4, [True, True, False, False]])
    return {
        "logits": to_numpy(seq2seq({"source_ids": ids, "target_ids": ids[:, :4]})),
        "cross": seq2seq.cross_attention_scores(ids, ids[:, :3]),
        "greedy": sequences, "greedy_scores": scores, "lengths": lengths, "beams": beams, "beam_scores": beam_scores,
        "tags": to_numpy(tagger({"token_ids": ids, "character_ids": ids[..., None] + np.zeros(3, "int32")})),
        "class": to_numpy(classifier({"features": frames, "padding_mask": real})),
    }
"""
READER = (
    ANSWERS
    + """
import sys
import keras
import keras_tfm
from tests.numerics import to_numpy

folder, backend = sys.argv[1:]
if keras.backend.backend() != backend:
    sys.exit("the wrong backend")
models = [keras.saving.load_model(f"{folder}/{i}.keras", safe_mode=True) for i in range(3)]
np.savez(f"{folder}/{backend}.npz", **answers(models, to_numpy))
"""
)


def make_models():
    size = dict(num_layers=2, hidden_dim=12, intermediate_dim=20, num_heads=2)
    models = [
        keras_tfm.models.Seq2SeqTransformer(11, **size, normalize_first=True, activation="gelu"),
        keras_tfm.models.SequenceTagger(
            5, **size, vocabulary_size=11, character_vocabulary_size=12, position="rope", token_dropout=0.1
        ),
        keras_tfm.models.SequenceClassifier(3, **size, feature_dim=3, position="learned", normalization="rms"),
    ]
    return [randomize(model, seed, scale=0.4) for seed, model in enumerate(models)]


def answers(models):
    namespace = {}
    exec(ANSWERS, namespace)
    return namespace["answers"](models, to_numpy)


@pytest.fixture(scope="module")
def saved(tmp_path_factory):
    """The folder of the saved models, and their answers before saving."""
    folder = tmp_path_factory.mktemp("models")
    models = make_models()
    for i, model in enumerate(models):
        model.save(folder / f"{i}.keras")
    return folder, models, answers(models)


def read_in_fresh_process(folder, backend):
    root = os.path.dirname(os.path.dirname(os.path.dirname(os.path.abspath(__file__))))
    environment = {**os.environ, "KERAS_BACKEND": backend, "PYTHONPATH": root, "TF_CPP_MIN_LOG_LEVEL": "3"}
    command = [sys.executable, "-c", READER, str(folder), backend]
    result = subprocess.run(command, env=environment, capture_output=True, text=True)
    assert result.returncode == 0, result.stderr[-3000:]
    return dict(np.load(folder / f"{backend}.npz"))


def assert_same(received, expected):
    assert set(received) == set(expected)
    for name, value in expected.items():
        np.testing.assert_allclose(received[name], value, rtol=0, atol=1e-5, err_msg=name)
    assert np.abs(expected["logits"]).max() > 0.1


def test_another_backend_reads_the_same_numbers_from_the_same_file(saved):
    folder, _, expected = saved
    backend = NEXT[keras.backend.backend()]
    if importlib.util.find_spec(backend) is None:
        pytest.skip(f"{backend} is not installed: files were not carried to it")
    assert_same(read_in_fresh_process(folder, backend), expected)


def test_a_fresh_process_reads_the_same_numbers_in_safe_mode(saved):
    folder, _, expected = saved
    assert_same(read_in_fresh_process(folder, keras.backend.backend()), expected)


def test_config_and_weights_file_make_the_same_model(saved, tmp_path):
    _, models, expected = saved
    copies = []
    for i, model in enumerate(models):
        model.save_weights(tmp_path / f"{i}.weights.h5")
        copies.append(type(model).from_config(model.get_config()))
        copies[-1].load_weights(tmp_path / f"{i}.weights.h5")
    assert_same(answers(copies), expected)


def test_a_truncated_file_is_refused_and_names_no_other_error(saved, tmp_path):
    folder, _, _ = saved
    content = (folder / "0.keras").read_bytes()
    (tmp_path / "cut.keras").write_bytes(content[: len(content) // 2])
    with pytest.raises(ValueError, match="cut.keras|zip"):
        keras.saving.load_model(tmp_path / "cut.keras")
