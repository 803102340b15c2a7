"""The promises of the penalties."""

import numpy as np
import pytest

from keras_tfm.generation.penalties import FrequencyPenalty, RepetitionPenalty
from tests.generation.rule_oracle import (
    SIZE,
    check_against_transformers,
    check_along_tokens,
    check_in_beams,
    trace,
    transformers_processors,
)


def counts(include_prompt, prompt, start, decoded):
    return np.bincount([*prompt, start, *decoded] if include_prompt else decoded, minlength=SIZE)


def repetition(penalty, include_prompt):
    def oracle(logits, *text):
        was = counts(include_prompt, *text) > 0
        return np.where(was, np.where(logits > 0, logits / penalty, logits * penalty), logits)

    return oracle


def frequency(amount, presence, include_prompt):
    def oracle(logits, *text):
        count = counts(include_prompt, *text)
        return logits - amount * count - presence * (count > 0)

    return oracle


RULES = {
    "repetition": (RepetitionPenalty(1.7), repetition(1.7, True)),
    "repetition below 1": (RepetitionPenalty(0.5), repetition(0.5, True)),
    "repetition without prompt": (RepetitionPenalty(2, include_prompt=False), repetition(2, False)),
    "frequency": (FrequencyPenalty(0.7), frequency(0.7, 0, False)),
    "presence": (FrequencyPenalty(presence=-1.3), frequency(0, -1.3, False)),
    "both with prompt": (FrequencyPenalty(0.4, 0.6, include_prompt=True), frequency(0.4, 0.6, True)),
}
each_rule = pytest.mark.parametrize(("rule", "oracle"), RULES.values(), ids=RULES)


@each_rule
def test_it_is_the_plain_function_along_given_tokens(rule, oracle):
    for seed in range(3):
        check_along_tokens(rule, oracle, seed)


@each_rule
def test_it_follows_the_hypotheses_of_a_beam_search(rule, oracle):
    check_in_beams(rule, oracle)


@pytest.mark.parametrize("penalty", [0.5, 1.0, 1.7])
def test_repetition_is_the_processor_of_transformers(penalty):
    processor = transformers_processors().RepetitionPenaltyLogitsProcessor(penalty)
    check_against_transformers(RepetitionPenalty(penalty), processor)
    check_against_transformers(RepetitionPenalty(penalty), processor, prompt=())


def test_logits_of_any_size_stay_finite_or_forbidden():
    tokens = np.full((3, 5), 2, "int32")
    logits = np.zeros((3, 5, SIZE), "float32")
    logits[..., 2] = 3e38
    logits[..., 3] = -np.inf
    ruled = trace(RepetitionPenalty(0.01), logits, tokens[:, 0], tokens)
    assert np.isfinite(ruled[..., 2]).all() and (ruled[..., 3] == -np.inf).all()


@pytest.mark.parametrize(
    ("create", "message"),
    [
        (lambda: RepetitionPenalty(0), "`penalty` must be a finite number greater than 0. Received: penalty=0"),
        (lambda: RepetitionPenalty(None), "`penalty` must be a finite number greater than 0. Received: penalty=None"),
        (lambda: FrequencyPenalty("a"), "`frequency` must be a finite number. Received: frequency='a'"),
        (lambda: FrequencyPenalty(0, float("nan")), "`presence` must be a finite number. Received: presence=nan"),
    ],
)
def test_a_wrong_setting_is_named(create, message):
    with pytest.raises(ValueError, match=message):
        create()
