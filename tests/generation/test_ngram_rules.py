"""The promises of the rule against repeated n-grams."""

import numpy as np
import pytest

from keras_tfm.generation.greedy import greedy_search
from keras_tfm.generation.ngram_rules import NoRepeatNgram
from tests.generation.prefix_model import PrefixModel, run
from tests.generation.rule_oracle import (
    SIZE,
    check_against_transformers,
    check_along_tokens,
    check_in_beams,
    compiled,
    forbid,
    transformers_processors,
)


def no_repeat(size, include_prompt):
    def oracle(logits, prompt, start, decoded):
        read = [*prompt, start, *decoded] if include_prompt else decoded
        newest = read[len(read) - size + 1 :] if size > 1 else []
        if len(read) < size - 1:
            return logits
        return forbid(
            logits, [read[i + size - 1] for i in range(len(read) - size + 1) if read[i : i + size - 1] == newest]
        )

    return oracle


@pytest.mark.parametrize("size", [1, 2, 3, 9])
@pytest.mark.parametrize("include_prompt", [True, False])
def test_it_is_the_plain_function_along_given_tokens(size, include_prompt):
    for seed in range(3):
        check_along_tokens(NoRepeatNgram(size, include_prompt), no_repeat(size, include_prompt), seed)


@pytest.mark.parametrize("size", [1, 2, 3])
def test_it_is_the_processor_of_transformers(size):
    theirs = transformers_processors()
    for prompt in ((), ((2, 3, 2, 4),) * 3):
        check_against_transformers(NoRepeatNgram(size), theirs.NoRepeatNGramLogitsProcessor(size), prompt=prompt)


@pytest.mark.parametrize("include_prompt", [True, False])
def test_it_follows_the_hypotheses_of_a_beam_search(include_prompt):
    check_in_beams(NoRepeatNgram(1, include_prompt), no_repeat(1, include_prompt))
    check_in_beams(NoRepeatNgram(2, include_prompt), no_repeat(2, include_prompt))


def test_ids_of_the_prompt_may_be_none_of_the_vocabulary():
    prompt = ((99, 2, 3, 2), (99, 98, 98, 99), (2, 2, 2, 2))

    def oracle(logits, before, start, decoded):
        return no_repeat(1, True)(logits, [each for each in before if each < SIZE], start, decoded)

    check_along_tokens(NoRepeatNgram(1), oracle, prompt=prompt)


def test_no_ngram_comes_twice():
    model = PrefixModel.random(5, 11, batch_size=7)
    sequences, scores, _ = run(greedy_search, model, mode=compiled, max_length=19, rules=(NoRepeatNgram(2, False),))
    assert np.isfinite(scores).all()
    for tokens in sequences.tolist():
        pairs = list(zip(tokens[:-1], tokens[1:], strict=True))
        assert len(set(pairs)) == len(pairs)


@pytest.mark.parametrize("size", [0, 1.5, None])
def test_a_wrong_setting_is_named(size):
    with pytest.raises(ValueError, match=f"`ngram_size` must be an integer of at least 1. Received: ngram_size={size}"):
        NoRepeatNgram(size)
