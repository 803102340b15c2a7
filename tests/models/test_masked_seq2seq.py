"""The masked model learns to reverse, and decodes each sentence alike alone, in a batch and by its whole passes."""

import functools
import re

import keras
import numpy as np
import pytest
from keras import ops

from keras_tfm.models.masked_seq2seq import MaskedSeq2Seq
from tests.numerics import randomize, to_numpy

V, LONGEST = 11, 7
SOURCES = np.array([[5, 6, 7, 3, 9], [8, 9, 0, 0, 0], [4, 3, 2, 0, 0]])


@functools.cache
def model_of(position="sinusoidal"):
    options = dict(max_target_length=LONGEST, position=position, sequence_length=20)
    return randomize(MaskedSeq2Seq(V, 2, 12, 17, 3, **options), 3, scale=0.6)


def log_softmax(logits):
    logits = logits - logits.max(-1, keepdims=True)
    return logits - np.log(np.exp(logits).sum(-1, keepdims=True))


def whole(model, source, target):
    """Token and length log-probabilities of one pair, float64, padding forbidden."""
    outputs = model({"source_ids": ops.convert_to_tensor([source]), "target_ids": ops.convert_to_tensor([target])})
    tokens, length = to_numpy(outputs["tokens"])[0], to_numpy(outputs["length"])[0]
    tokens[:, 0] = -np.inf
    return log_softmax(tokens), log_softmax(length[1:])


def decode(model, source, num_iterations, num_candidates):
    """Mask-predict in plain numpy over whole passes, targets padded to `LONGEST`."""
    best = None
    lengths = np.argsort(-whole(model, source, [model.mask_id] * LONGEST)[1], kind="stable")[:num_candidates] + 1
    for length in lengths:
        tokens, gains = np.zeros(LONGEST, "int32"), np.zeros(LONGEST)
        for t in range(num_iterations):
            masked = np.argsort(gains[:length], kind="stable")[: length * (num_iterations - t) // num_iterations]
            tokens[masked] = model.mask_id
            scores, _ = whole(model, source, tokens.tolist())
            tokens[masked], gains[masked] = scores.argmax(-1)[masked], scores.max(-1)[masked]
        found = (gains[:length].mean(), tokens)
        best = found if best is None or found[0] > best[0] else best
    return best


@pytest.mark.parametrize("position", ["sinusoidal", "learned"])
def test_it_decodes_by_its_own_whole_passes(position):
    model = model_of(position)
    sequences, scores, lengths = model.generate(SOURCES, num_iterations=3, num_length_candidates=2)
    for source, sequence, score, length in zip(SOURCES.tolist(), sequences, scores, lengths, strict=True):
        expected_score, expected = decode(model, source, 3, 2)
        np.testing.assert_array_equal(sequence, expected)
        np.testing.assert_allclose(score, expected_score, rtol=1e-4, atol=1e-4)
        assert length == (expected > 0).sum()


def test_a_batch_is_its_rows_whatever_the_padding():
    model = model_of()
    together = model.generate(SOURCES, num_iterations=3, num_length_candidates=2)
    ragged = model.generate([row[row > 0].tolist() for row in SOURCES], num_iterations=3, num_length_candidates=2)
    wide = model.generate(np.pad(SOURCES, ((0, 0), (0, 5))), num_iterations=3, num_length_candidates=2)
    for other in (ragged, wide):
        np.testing.assert_array_equal(other.sequences, together.sequences)
        np.testing.assert_allclose(other.scores, together.scores, rtol=1e-4, atol=1e-5)
    for row, source in enumerate(SOURCES):
        alone = model.generate([source], num_iterations=3, num_length_candidates=2)
        np.testing.assert_array_equal(alone.sequences[0], together.sequences[row])
        np.testing.assert_allclose(alone.scores[0], together.scores[row], rtol=1e-4, atol=1e-5)


def test_every_token_of_the_target_is_seen_by_every_other():
    model, source, target = model_of(), SOURCES[0].tolist(), [3, 4, 5, 6]
    before = whole(model, source, target)[0]
    after = whole(model, source, [*target[:3], 7])[0]
    assert (np.abs(after[:, 1:] - before[:, 1:]).max(-1) > 1e-4).all()


def copies_and_reversals(rng, size):
    """Sentences of 4 or 5 tokens, and each either as it is or reversed: two answers, of which no mixture is right."""
    sources, targets = np.zeros((size, 5), "int32"), np.zeros((size, 5), "int32")
    for source, target in zip(sources, targets, strict=True):
        tokens = rng.integers(1, V, rng.integers(4, 6))
        source[: len(tokens)], target[: len(tokens)] = tokens, tokens[:: rng.choice([1, -1])]
    return sources, targets


def is_answer(source, sequence):
    tokens = source[source > 0]
    return sequence[sequence > 0].tolist() in (tokens.tolist(), tokens[::-1].tolist())


def test_iterations_make_tokens_agree_that_one_pass_cannot():
    rng = np.random.default_rng(0)
    model = MaskedSeq2Seq(V, 1, 32, 64, 4, max_target_length=LONGEST, dropout=0.0, normalize_first=True)
    model.compile(keras.optimizers.Adam(4e-3), loss=model.losses_of_outputs())
    sources, targets = copies_and_reversals(rng, 6400)
    for _ in range(5):
        inputs, outputs, weights = model.training_batch(sources, targets, rng)
        model.fit(inputs, outputs, sample_weight=weights, batch_size=64, verbose=0)
    sources, _ = copies_and_reversals(rng, 128)
    right = {}
    for num_iterations in (1, 5):
        sequences = model.generate(sources, num_iterations=num_iterations, num_length_candidates=1).sequences
        right[num_iterations] = np.mean([is_answer(*pair) for pair in zip(sources, sequences, strict=True)])
    assert right[5] > right[1] + 0.1 and right[5] > 0.5, right


def test_only_hidden_tokens_are_learned_and_lengths_are_those_of_the_targets():
    model = model_of()
    inputs, targets, weights = model.training_batch(SOURCES, SOURCES, np.random.default_rng(0), length_weight=0.3)
    np.testing.assert_array_equal(weights["tokens"], inputs["target_ids"] == model.mask_id)
    np.testing.assert_array_equal(targets["tokens"], SOURCES)
    np.testing.assert_array_equal(targets["length"], [5, 2, 3])
    np.testing.assert_array_equal(weights["length"], np.full(3, np.float32(0.3)))
    outputs = {name: to_numpy(x) for name, x in model(inputs).items()}
    losses = model.losses_of_outputs()
    picked = np.take_along_axis(log_softmax(outputs["tokens"]), SOURCES[..., None], -1)[..., 0]
    received = losses["tokens"](targets["tokens"], outputs["tokens"], weights["tokens"])
    np.testing.assert_allclose(float(received), -picked[weights["tokens"] > 0].mean(), rtol=1e-4)


def test_saved_and_loaded_it_is_the_same(tmp_path):
    model = model_of("learned")
    model.save(tmp_path / "model.keras")
    loaded = keras.saving.load_model(tmp_path / "model.keras")
    for received, expected in zip(loaded.generate(SOURCES), model.generate(SOURCES), strict=True):
        np.testing.assert_allclose(received, expected, rtol=1e-5)


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        (dict(num_iterations=0), "`num_iterations` must be an integer of at least 1. Received: num_iterations=0"),
        (dict(num_length_candidates=0), "`num_length_candidates` must be an integer of at least 1"),
        (dict(num_length_candidates=8), "must be at most `max_target_length` = 7. Received: num_length_candidates=8"),
        (dict(source_ids=[[V]]), "Ids of `source_ids` must be in [0, vocabulary_size)"),
        (dict(source_ids=[[3] * 20]), "within the 20 learned positions. Received: a source of 20 tokens"),
    ],
)
def test_a_wrong_argument_is_named(changes, message):
    with pytest.raises(ValueError, match=re.escape(message)):
        model_of("learned").generate(**{"source_ids": SOURCES, **changes})


def test_wrong_settings_and_targets_are_named():
    with pytest.raises(ValueError, match="`position` must be 'sinusoidal' or 'learned'. Received: position='rope"):
        MaskedSeq2Seq(V, 1, 12, 17, 3, position="rope")
    with pytest.raises(ValueError, match="`max_target_length` must be within the 9 learned positions"):
        MaskedSeq2Seq(V, 1, 12, 17, 3, position="learned", sequence_length=9)
    with pytest.raises(ValueError, match="at most `max_target_length` = 7 tokens. Received: one of 8"):
        model_of().training_batch(SOURCES, np.ones((3, 8), int), np.random.default_rng(0))
    with pytest.raises(ValueError, match="Ids of `target_ids` must be in"):
        model_of().training_batch(SOURCES, SOURCES + V, np.random.default_rng(0))
