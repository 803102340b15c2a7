"""The promises of token automata: what a search finds is a text that the automaton accepts."""

import json
import re

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from keras import ops

from keras_tfm.generation.greedy import greedy_search
from keras_tfm.generation.sampling import sample_search
from keras_tfm.generation.token_automaton import TokenAutomaton
from tests.generation.prefix_model import MODES, PrefixModel, run
from tests.generation.rule_oracle import LENGTH, SIZE, check_along_tokens, check_in_beams, compiled, ruled_beam_search

TEXTS = ((2, 3), (2, 3, 4, 4), (5,), (2, 4), (3, 3, 3, 3, 3, 3))


def only_texts(texts, logits, decoded):
    """Allows the tokens that begin the rest of a text that fits into LENGTH tokens, and END after a text."""
    decoded = tuple(decoded)
    if 1 in decoded:
        place = decoded.index(1)
        is_over = set(decoded[place:]) == {1} and decoded[:place] in texts
        allowed = {1} if is_over else set()
    else:
        fitting = [text for text in texts if len(text) <= LENGTH and text[: len(decoded)] == decoded]
        allowed = {text[len(decoded)] for text in fitting if len(text) > len(decoded)} | (
            {1} if decoded in texts else set()
        )
    return np.where(np.isin(np.arange(SIZE), list(allowed)), logits, -np.inf)


def texts_oracle(texts):
    return lambda logits, prompt, start, decoded: only_texts(texts, logits, decoded)


@pytest.mark.parametrize("texts", [TEXTS, ((3, 3, 3), (3, 4, 2, 2), (4,)), ((),)])
def test_it_is_the_plain_function_along_given_tokens(texts):
    rule = TokenAutomaton.from_sequences(texts, SIZE, end_id=1)
    for seed in range(3):
        check_along_tokens(rule, texts_oracle(texts), seed)


@pytest.mark.parametrize("texts", [TEXTS, ((3, 3, 3), (3, 4, 2, 2), (4,))])
def test_its_state_follows_the_hypotheses_of_a_beam_search(texts):
    check_in_beams(TokenAutomaton.from_sequences(texts, SIZE, end_id=1), texts_oracle(texts), num_beams=4)


def test_wide_beams_find_every_text_of_a_known_vocabulary():
    model = PrefixModel.random(3, SIZE, batch_size=2)
    rules = (TokenAutomaton.from_sequences(TEXTS, SIZE, end_id=1),)
    options = dict(mode=compiled, num_beams=7, max_length=8, end_id=1, rules=rules)
    sequences, scores, lengths = run(ruled_beam_search, model, **options)
    for found, score, length in zip(sequences, scores, lengths, strict=True):
        assert {tuple(t[: n - 1].tolist()) for t, n in zip(found, length, strict=True) if n} == set(TEXTS)
        assert np.isfinite(score).sum() == len(TEXTS)


VOCABULARY = [
    "",
    "",
    "-",
    "0",
    "1",
    "23",
    ".",
    ".5",
    "e",
    "a",
    '"',
    '"a',
    ":",
    ",",
    "{",
    "}",
    '":',
    "tr",
    "ue",
    "[",
    "]",
]
JSON_VALUE = r'(-?(0|[1-9]\d*)(\.\d+)?|true|"[a-z]*")'
JSON_OBJECT = rf'\{{("[a-z]+":{JSON_VALUE}(,"[a-z]+":{JSON_VALUE})*)?\}}'
SEARCHES = {
    "greedy": (greedy_search, {}),
    "beam": (ruled_beam_search, dict(num_beams=3)),
    "sampling": (sample_search, dict(num_samples=5, temperature=1.5)),
}


def written(tokens, end_id=1):
    tokens = tokens.tolist()
    return "".join(VOCABULARY[token] for token in tokens[: tokens.index(end_id) if end_id in tokens else None])


@pytest.mark.parametrize("name", SEARCHES)
@pytest.mark.parametrize("pattern", [r"-?\d+(\.\d)?", JSON_OBJECT, "(a|e)*", r'\[(\d,)*\d\]|"a"'])
@pytest.mark.parametrize("max_length", [3, 17])
@given(seed=st.integers(0, 2**31))
def test_every_result_matches_the_pattern(name, pattern, max_length, seed):
    search, options = SEARCHES[name]
    model = PrefixModel.random(seed, len(VOCABULARY), batch_size=3)
    rules = (automaton_of(pattern),)
    options = dict(mode=compiled, max_length=max_length, end_id=1, rules=rules, **options)
    sequences, scores, lengths = run(search, model, **options)
    found = sequences[scores > -np.inf]
    assert len(found) >= 3
    for tokens in found:
        assert re.fullmatch(pattern, written(tokens)), written(tokens)
        if pattern == JSON_OBJECT:
            assert isinstance(json.loads(written(tokens)), dict)


def automaton_of(pattern):
    return TokenAutomaton.from_pattern(pattern, VOCABULARY, end_id=1)


@pytest.mark.parametrize("mode", MODES)
def test_where_nothing_is_allowed_the_score_is_minus_infinity(mode):
    dead_end = TokenAutomaton(np.full((2, SIZE), -1), accepting=[1], end_id=1)
    model = PrefixModel.random(3, SIZE)
    options = dict(mode=mode, max_length=4, end_id=1)
    _, scores, _ = run(greedy_search, model, rules=(dead_end,), **options)
    assert (scores == -np.inf).all()
    _, scores, lengths = run(ruled_beam_search, model, rules=(dead_end,), num_beams=2, **options)
    assert (scores == -np.inf).all() and (lengths == 0).all()
    too_long = TokenAutomaton.from_sequences([[2] * 5], SIZE, end_id=1)
    assert (run(sample_search, model, rules=(too_long,), **options)[1] == -np.inf).all()


def test_a_text_as_long_as_the_limit_needs_no_end():
    model = PrefixModel.random(3, SIZE)
    rules = (TokenAutomaton.from_sequences([[2, 3, 4]], SIZE, end_id=1),)
    for max_length, expected in ((3, [2, 3, 4]), (4, [2, 3, 4, 1])):
        sequences, scores, _ = run(greedy_search, model, max_length=max_length, end_id=1, rules=rules)
        np.testing.assert_array_equal(sequences, [expected] * 5)
        assert (scores <= 0).all() and np.isfinite(scores).all()


def test_it_may_run_without_an_end():
    rules = (TokenAutomaton([[-1, -1, 1, -1, -1, -1, -1], [-1, -1, -1, 0, -1, -1, -1]], accepting=[0]),)
    sequences, _, _ = run(greedy_search, PrefixModel.random(3, SIZE), max_length=4, rules=rules)
    np.testing.assert_array_equal(sequences, [[2, 3, 2, 3]] * 5)
    assert (run(greedy_search, PrefixModel.random(3, SIZE), max_length=3, rules=rules)[1] == -np.inf).all()


def test_the_start_token_need_not_be_in_the_vocabulary():
    rule = TokenAutomaton.from_sequences([[2]], SIZE, end_id=1)
    for start in (-1, 99):
        starts = ops.convert_to_tensor([start], "int32")
        logits, _ = rule(ops.zeros((1, SIZE)), starts, ops.convert_to_tensor(0), rule.start(starts, 3, None))
        np.testing.assert_array_equal(np.isfinite(ops.convert_to_numpy(logits))[0], np.arange(SIZE) == 2)


def test_a_large_vocabulary_costs_one_column_for_each_kind_of_token():
    texts = ["", *(str(number) for number in range(20_000))]
    rule = TokenAutomaton.from_pattern(r"\d{1,3}", texts, end_id=0)
    assert rule.columns.shape == (20_001,) and rule.transitions.shape == (6, 5)


def test_automata_that_allow_the_same_are_one_setting():
    first, again = automaton_of("a|e"), automaton_of("[ea]")
    assert first == again and hash(first) == hash(again)
    assert first != automaton_of("a|e|0") and first != TokenAutomaton.from_pattern("a|e", VOCABULARY, end_id=0)


TABLE = np.zeros((2, 5), "int32")


@pytest.mark.parametrize(
    ("create", "message"),
    [
        (lambda: TokenAutomaton([0, 1], [0]), r"`table` must be an int matrix .* shape \(2,\) and dtype int64"),
        (lambda: TokenAutomaton([[0.5]], [0]), "`table` must be an int matrix .* dtype float64"),
        (lambda: TokenAutomaton([[1]], [0]), r"`table` must be an int matrix .* from 1 to 1"),
        (lambda: TokenAutomaton([[-2]], [0]), r"`table` must be an int matrix .* from -2 to -2"),
        (lambda: TokenAutomaton(TABLE, [2]), r"`accepting` must be states of the table, below 2. Received: .*\(2,\)"),
        (lambda: TokenAutomaton(TABLE, [-1]), "`accepting` must be an integer of at least 0. Received: accepting=-1"),
        (lambda: TokenAutomaton(TABLE, [0], 1, 2), r"`start_state` must be states of the table.*\(2,\)"),
        (
            lambda: TokenAutomaton(TABLE, [0], 5),
            "`end_id` must be smaller than the vocabulary size 5. Received: end_id=5",
        ),
        (lambda: TokenAutomaton.from_sequences([], 5), r"`sequences` must hold a sequence .* Received: sequences=\[\]"),
        (lambda: TokenAutomaton.from_sequences([[5]], 5), "`sequences` must be smaller than the vocabulary size 5"),
        (lambda: TokenAutomaton.from_sequences([[1]], 5, 1), "`sequences` must not hold END. Received: end_id=1"),
        (lambda: automaton_of("b"), "`pattern` must match a text of the vocabulary. Received: pattern='b'"),
        (
            lambda: TokenAutomaton(TABLE, [0])(ops.zeros((2, 7)), None, 0, None),
            "`table` must have a column for each of the 7 tokens. Received: table with 5 columns",
        ),
    ],
)
def test_a_wrong_setting_is_named(create, message):
    with pytest.raises(ValueError, match=message):
        create()
