"""The promises of stop sequences."""

import numpy as np
import pytest

from keras_tfm.generation.greedy import greedy_search
from keras_tfm.generation.stop_sequences import StopSequences
from tests.generation.prefix_model import PrefixModel, run
from tests.generation.rule_oracle import SIZE, check_along_tokens, check_in_beams, compiled, force

STOPS = ((3, 4), (2,), (4, 4, 3))


def stopped(logits, prompt, start, decoded, stops=STOPS):
    return force(logits, 1) if any(decoded[-len(each) :] == list(each) for each in stops) else logits


@pytest.mark.parametrize("stops", [STOPS, STOPS[:1], ((5, 6),)])
def test_it_is_the_plain_function_along_given_tokens(stops):
    def oracle(*row):
        return stopped(*row, stops=stops)

    for seed in range(3):
        check_along_tokens(StopSequences(stops, 1), oracle, seed)


def test_no_sequence_stops_nothing():
    check_along_tokens(StopSequences((), 1), lambda logits, *_: logits)


def test_it_follows_the_hypotheses_of_a_beam_search():
    check_in_beams(StopSequences(STOPS, 1), stopped)


def test_end_follows_at_once_with_log_probability_zero():
    model = PrefixModel.random(5, 5, batch_size=7, end_bias=-99.0)
    options = dict(mode=compiled, max_length=23, end_id=1)
    free, _, _ = run(greedy_search, model, **options)
    sequences, scores, lengths = run(greedy_search, model, rules=(StopSequences(((2, 3), (4, 4)), 1),), **options)
    assert (lengths < 23).any()
    for row, before, tokens, score, length in zip(model.rows(), free, sequences, scores, lengths, strict=True):
        pairs = list(zip(before[:-1].tolist(), before[1:].tolist(), strict=True))
        found = [place for place, pair in enumerate(pairs) if pair in ((2, 3), (4, 4))]
        expected = found[0] + 2 if found else 23
        np.testing.assert_array_equal(tokens[:expected], before[:expected])
        np.testing.assert_allclose(score, row.score(before[:expected].tolist()), rtol=1e-5)
        assert length == min(expected + 1, 23)


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (([()], 1), r"`sequences` must hold no empty sequence. Received: sequences=\[\(\)\]"),
        (([(-1,)], 1), "`sequences` must be an integer of at least 0. Received: sequences=-1"),
        (([(1,)], None), "`end_id` must be an integer of at least 0. Received: end_id=None"),
    ],
)
def test_a_wrong_setting_is_named(arguments, message):
    with pytest.raises(ValueError, match=message):
        StopSequences(*arguments)


def test_its_end_is_in_the_vocabulary():
    with pytest.raises(ValueError, match="`end_id` must be smaller than the vocabulary size 7. Received: end_id=9"):
        run(greedy_search, PrefixModel.random(5, SIZE), max_length=3, rules=(StopSequences(((2,),), 9),))
