"""The promises of the tables of automata: they accept the same texts, and are small."""

import itertools

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from keras_tfm.generation.automaton_tables import FAR, distances_to_accepting, lift, merge_columns, minimise, trie
from keras_tfm.generation.regular_automaton import RegularAutomaton

TEXTS = st.lists(st.lists(st.integers(0, 2), max_size=4).map(tuple), min_size=1, max_size=6)
ALL = [text for length in range(5) for text in itertools.product(range(3), repeat=length)]


def accepts(table, accepting, text):
    state = 0
    for token in text:
        state = table[state, token]
        if state < 0:
            return False
    return state in accepting


@given(texts=TEXTS)
def test_a_trie_accepts_its_texts_and_no_other(texts):
    table, accepting = trie(texts, 3)
    assert {text for text in ALL if accepts(table, accepting, text)} == set(texts)


@given(texts=TEXTS)
def test_the_smallest_table_accepts_the_same(texts):
    table, accepting = trie(texts, 3)
    small, small_accepting = minimise(table, accepting)
    assert small.dtype == "int32" and len(small) <= len(table)
    assert {text for text in ALL if accepts(small, small_accepting, text)} == set(texts)
    again, _ = minimise(small, small_accepting)
    assert len(again) == len(small)
    # As many states as there are different sets of endings (Myhill and Nerode), but for the empty set.
    endings = {frozenset(t[len(start) :] for t in texts if t[: len(start)] == start) for start in ALL} - {frozenset()}
    assert len(small) == len(endings)


def test_dead_ends_and_what_is_never_reached_go():
    table = np.array([[1, 2], [1, 1], [3, -1], [2, -1], [0, 3]])  # 1 is a trap, 4 is never reached, 3 accepts
    small, accepting = minimise(table, [3])
    np.testing.assert_array_equal(small, [[-1, 1], [2, -1], [1, -1]])
    assert accepting == [2]
    nothing, accepting = minimise(table, [4])
    assert (nothing == -1).all() and accepting == []


@given(data=st.data())
def test_merged_columns_are_the_same_table(data):
    table = np.array(data.draw(st.lists(st.lists(st.integers(-1, 1), min_size=5, max_size=5), min_size=1, max_size=3)))
    columns, small = merge_columns(table)
    np.testing.assert_array_equal(small[:, columns], table)
    assert len(np.unique(small, axis=1).T) == small.shape[1]


def test_distances_are_those_of_the_shortest_texts():
    transitions = np.array([[1, 2], [2, 3], [4, 4], [3, 3], [2, 5]])
    np.testing.assert_array_equal(distances_to_accepting(transitions, [4]), [2, 2, 1, FAR, 0, FAR])
    np.testing.assert_array_equal(distances_to_accepting(transitions, []), [FAR] * 6)


VOCABULARY = ["", "a", "b", "ab", "ba", "abb", "x", "é"]


@pytest.mark.parametrize("pattern", ["(ab)*", "a|bb", "(a|b)*abb", "[^a]*", "x?(ba)+"])
def test_lifted_tokens_write_what_the_pattern_matches(pattern):
    automaton = RegularAutomaton.compile(pattern)
    for table, accepting in (lift(automaton, VOCABULARY), minimise(*lift(automaton, VOCABULARY))):
        for text in (each for length in range(4) for each in itertools.product(range(8), repeat=length)):
            expected = automaton.matches("".join(VOCABULARY[token] for token in text)) and 0 not in text
            assert accepts(table, accepting, text) == expected


@pytest.mark.parametrize("vocabulary", [[], ["a", None], [b"a"]])
def test_a_wrong_vocabulary_is_named(vocabulary):
    with pytest.raises(ValueError, match="`vocabulary` must be strings, one a token. Received: "):
        lift(RegularAutomaton.compile("a"), vocabulary)
