"""Our models under KerasHub's samplers: their greedy search is ours."""

import functools
import re

import numpy as np
import pytest

from keras_tfm import models
from keras_tfm.interop.keras_hub_samplers import KerasHubSampler, generate_with_keras_hub_sampler
from tests.numerics import randomize

keras_hub = pytest.importorskip("keras_hub", reason="keras_hub is an extra")

V, END = 13, 2
PROMPTS = [[5, 6, 7, 3, 4], [8, 9], [9, 10, 3]]


@functools.cache
def language_model(position="learned", **options):
    model = models.CausalLM(V, 2, 12, 17, 3, position=position, sequence_length=40, end_id=END, **options)
    return randomize(model, scale=0.7)


def test_greedy_is_ours_for_prompts_of_any_lengths():
    model = language_model()
    sampler = KerasHubSampler(model, "greedy")
    for prompts in (PROMPTS, [[8], [9]]):
        expected = model.generate(prompts, max_length=6)
        received = sampler.generate(prompts, max_length=6)
        np.testing.assert_array_equal(received.sequences, expected.sequences)
        np.testing.assert_array_equal(received.lengths, expected.lengths)


def test_new_weights_are_seen():
    model = models.CausalLM(V, 1, 12, 17, 3, end_id=END)
    sampler = KerasHubSampler(model)
    for seed in (1, 2):
        randomize(model, seed, scale=0.7)
        expected = model.generate([[5, 6]], max_length=5).sequences
        np.testing.assert_array_equal(sampler.generate([[5, 6]], max_length=5).sequences, expected)


def test_beams_take_their_caches_and_attend_to_their_source():
    # Without END their beam search is ours: there is nothing that it could extend beyond its end.
    model = randomize(models.Seq2SeqTransformer(V, 1, 12, 17, 3), scale=0.7)
    sources = np.array([[5, 6, 7, 3, 0, 0, 0, 0], [8, 9, 0, 0, 0, 0, 0, 0]])
    expected = model.generate(sources, max_length=5, strategy="beam", num_beams=3, end_id=()).sequences[:, 0]
    beams = keras_hub.samplers.BeamSampler(num_beams=3)
    sampled = KerasHubSampler(model, beams, end_id=()).generate([[1], [1]], max_length=5, source=(sources,))
    np.testing.assert_array_equal(sampled.sequences, expected)


def test_seeds_move_on_and_are_reproduced():
    model = language_model()
    sampler = KerasHubSampler(model, keras_hub.samplers.TopPSampler(p=0.95, seed=3), end_id=())
    draws = [sampler.generate(PROMPTS, max_length=9).sequences for _ in range(2)]
    assert (draws[0] != draws[1]).any()
    again = keras_hub.samplers.TopPSampler(p=0.95, seed=3)
    sequences = generate_with_keras_hub_sampler(model, PROMPTS, again, max_length=9, end_id=()).sequences
    np.testing.assert_array_equal(sequences, draws[0])


def test_sequences_end_with_the_first_end_and_the_pad_may_be_it():
    sampled = generate_with_keras_hub_sampler(language_model(), PROMPTS, max_length=6, end_id=[END, 4], pad_id=END)
    expected = language_model().generate(PROMPTS, max_length=6, end_id=[END, 4], pad_id=END)
    np.testing.assert_array_equal(sampled.sequences, expected.sequences)
    np.testing.assert_array_equal(sampled.lengths, expected.lengths)


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        (dict(sampler="contrastive"), "`sampler` must need nothing but logits"),
        (dict(prompts=[[]]), "`prompts` must hold at least one prompt, and none may be empty"),
        (dict(prompts=[[99]]), "Ids of `prompts` must be in [0, vocabulary_size)"),
        (dict(max_length=0), "`max_length` must be an integer of at least 1. Received: max_length=0"),
        (dict(pad_id=-1), "`pad_id` must be an integer of at least 0. Received: pad_id=-1"),
        (dict(end_id=-1), "`end_id` must be an integer of at least 0. Received: end_id=-1"),
    ],
)
def test_a_wrong_argument_is_named(changes, message):
    arguments = dict(prompts=[[3]], sampler="greedy", max_length=4) | changes
    with pytest.raises(ValueError, match=re.escape(message)):
        generate_with_keras_hub_sampler(language_model(), **arguments)


def test_what_cannot_work_is_named():
    beams = keras_hub.samplers.BeamSampler(return_all_beams=True)
    with pytest.raises(ValueError, match="must return one text for a prompt. Received: return_all_beams=True"):
        KerasHubSampler(language_model(), beams)
    with pytest.raises(ValueError, match="within the 40 learned positions.*max_length=41"):
        KerasHubSampler(language_model()).generate([[3]], max_length=41)
