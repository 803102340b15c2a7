"""The promises of the rules on lengths."""

import numpy as np
import pytest
from keras import ops

from keras_tfm.generation.greedy import greedy_search
from keras_tfm.generation.length_rules import Budget, MinimumLength
from keras_tfm.generation.sampling import sample_search
from tests.generation.prefix_model import PrefixModel, run
from tests.generation.rule_oracle import (
    SIZE,
    check_against_transformers,
    check_along_tokens,
    check_in_beams,
    compiled,
    forbid,
    force,
    transformers_processors,
)


def at_least(count, ends=(1,)):
    return lambda logits, prompt, start, decoded: forbid(logits, ends) if len(decoded) + 1 < count else logits


def at_most(count):
    return lambda logits, prompt, start, decoded: force(logits, 1) if len(decoded) + 1 >= count else logits


@pytest.mark.parametrize("count", [0, 1, 4])
def test_the_minimum_is_the_plain_function(count):
    check_along_tokens(MinimumLength(count, 1), at_least(count))
    check_along_tokens(MinimumLength(count, (1, 3)), at_least(count, (1, 3)))


def test_the_minimum_is_the_processor_of_transformers():
    theirs = transformers_processors()
    check_against_transformers(MinimumLength(4, 1), theirs.MinLengthLogitsProcessor(4, 1), prompt=())


@pytest.mark.parametrize("count", [1, 3])
def test_the_budget_is_the_plain_function(count):
    check_along_tokens(Budget(count, 1), at_most(count))


def test_they_follow_the_hypotheses_of_a_beam_search():
    check_in_beams(MinimumLength(3, 1), at_least(3))
    check_in_beams(Budget(3, 1), at_most(3))


def test_lengths_are_within_both():
    model = PrefixModel.random(3, SIZE, batch_size=5, end_bias=1.0)
    for search in (greedy_search, sample_search):
        rules = (MinimumLength(3, 1), Budget((3, 4, 5, 7, 20), 1))
        sequences, scores, lengths = run(search, model, mode=compiled, max_length=9, end_id=1, rules=rules)
        assert (lengths >= 3).all() and (lengths <= [3, 4, 5, 7, 9]).all()
        assert (sequences[0, 2], lengths[0]) == (1, 3) and np.isfinite(scores).all()


def test_each_row_of_a_beam_search_has_its_own_budget():
    from tests.generation.rule_oracle import ruled_beam_search

    model = PrefixModel.random(3, SIZE, batch_size=3, end_bias=-9.0)
    rules = (Budget(np.array([2, 5, 3]), 1),)
    _, _, lengths = run(ruled_beam_search, model, mode=compiled, num_beams=2, max_length=8, end_id=1, rules=rules)
    np.testing.assert_array_equal(lengths, [[2, 2], [5, 5], [3, 3]])


@pytest.mark.parametrize(
    ("create", "message"),
    [
        (lambda: MinimumLength(-1, 1), "`min_length` must be an integer of at least 0. Received: min_length=-1"),
        (lambda: MinimumLength(1, "a"), "`end_id` must be an integer of at least 0. Received: end_id='a'"),
        (lambda: Budget(0, 1), "`max_lengths` must be an integer of at least 1. Received: max_lengths=0"),
        (lambda: Budget([2, 1.5], 1), "`max_lengths` must be an integer of at least 1. Received: max_lengths=1.5"),
        (lambda: Budget(2, None), "`end_id` must be an integer of at least 0. Received: end_id=None"),
        (
            lambda: Budget([2, 3], 1).start(ops.zeros(3, "int32"), 4, None),
            "`max_lengths` must have one length for each of the 3 rows. Received: max_lengths with 2 lengths",
        ),
        (
            lambda: MinimumLength(2, 9)(ops.zeros((2, 5)), None, 0, ()),
            "`end_id` must be smaller than the vocabulary size 5. Received: end_id=9",
        ),
        (
            lambda: Budget(2, 9)(ops.zeros((2, 5)), None, 0, ops.ones(2, "int32")),
            "`end_id` must be smaller than the vocabulary size 5. Received: end_id=9",
        ),
    ],
)
def test_a_wrong_setting_is_named(create, message):
    with pytest.raises(ValueError, match=message):
        create()
