"""The promises of regular automata: the `re` of Python says the same."""

import re
import string

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from keras_tfm.generation.regular_automaton import RegularAutomaton
from keras_tfm.generation.regular_syntax import Characters, Choice, Repetition, Sequence, complement, parse, union

NUMBER = r"-?(0|[1-9]\d*)(\.\d+)?([eE][+-]?\d+)?"
PATTERNS = (
    *("", "a", "ab|c", "a*", "(ab)+c?", "(a|b)*abb", "a{3}", "a{2,}", "a{,2}", "(ab|b){1,3}", "(a*)*b", "(a?){3}"),
    *("((a|)b)*", "()", "(|a)+", "a{0}b", "(a{2}){2}", "[^ab]c", "[a-c]+", "[]a]", "[^]a]", "[a-]", r"[\d-]+"),
    *(".b.", r"a\.b", r"\(a\)", r"[\]\\]", r"\x61\u0062", r"\n\t", r"\w+\s\W?\D\S", NUMBER, r'"([^"\\]|\\["\\nt])*"'),
)
TEXTS = st.text("abc", max_size=6) | st.text('ab01-.eE+"\\nt \n_]', max_size=8) | st.text(max_size=4)


@pytest.mark.parametrize("pattern", PATTERNS)
@given(data=st.data())
def test_it_matches_what_the_regular_expressions_of_python_match(pattern, data):
    automaton, expected = RegularAutomaton.compile(pattern), re.compile(pattern, re.ASCII)
    texts = [
        data.draw(TEXTS),
        data.draw(st.from_regex(expected, fullmatch=True)),
        "".join(data.draw(st.permutations("abbc"))),
    ]
    for text in texts:
        assert automaton.matches(text) == bool(expected.fullmatch(text)), text


@st.composite
def patterns(draw, depth=3):
    if not depth or draw(st.integers(0, 3)) == 0:
        return draw(st.sampled_from(["a", "b", "c", "[ab]", "[^a]", "."]))
    kind = draw(st.sampled_from(["sequence", "choice", "repeat"]))
    if kind == "repeat":
        return f"({draw(patterns(depth - 1))})" + draw(st.sampled_from(["*", "+", "?", "{2}", "{1,2}", "{2,}", "{,1}"]))
    parts = [draw(patterns(depth - 1)) for _ in range(2)]
    return "".join(parts) if kind == "sequence" else f"({'|'.join(parts)})"


@given(pattern=patterns(), texts=st.lists(st.text("abc", max_size=5), min_size=20, max_size=20))
def test_any_pattern_matches_what_python_matches(pattern, texts):
    automaton, expected = RegularAutomaton.compile(pattern), re.compile(pattern)
    assert [automaton.matches(text) for text in texts] == [bool(expected.fullmatch(text)) for text in texts]


def test_the_classes_are_those_of_python():
    for name in "dswDSW":
        automaton = RegularAutomaton.compile("\\" + name)
        for character in [*string.printable, "é", "\x85", "\U0010ffff", "\0"]:
            expected = re.fullmatch("\\" + name, character, re.ASCII)
            assert automaton.matches(character) == bool(expected), (name, character)


def test_characters_that_no_part_tells_apart_share_a_class():
    automaton = RegularAutomaton.compile("[a-z]+|[0-9]")
    assert len(automaton.firsts) == 5
    np.testing.assert_array_equal(automaton.classes("az09~"), [3, 3, 1, 1, 4])


def test_the_tree_is_that_of_the_grammar():
    a, b = (Characters(((ord(each), ord(each)),)) for each in "ab")
    assert parse("ab|b*") == Choice((Sequence((a, b)), Repetition(b, 0, None)))
    assert parse("(?:a|b){2,3}") == Repetition(Choice((a, b)), 2, 3)
    assert parse("a?{2}") == Repetition(Repetition(a, 0, 1), 2, 2)
    assert parse("[^\\x01-\\u1234]") == Characters(((0, 0), (0x1235, 0x10FFFF)))


def test_ranges_are_joined_and_turned_around():
    assert union([(5, 7), (1, 2), (3, 3), (6, 9)]) == ((1, 3), (5, 9))
    assert complement(((0, 4), (6, 0x10FFFF))) == ((5, 5),)
    assert complement(()) == ((0, 0x10FFFF),)


@pytest.mark.parametrize(
    ("pattern", "message"),
    [
        ("(a", "missing ) at character 2"),
        ("a)", "unmatched ) at character 1"),
        ("*a", "nothing to repeat at character 0"),
        ("a|+", "nothing to repeat at character 2"),
        ("a{x}", "{ without m, n or m,n at character 1"),
        ("a{3,2}", "{3,2} counts down at character 1"),
        ("[a", "unexpected end at character 2"),
        ("[b-a]", "not a range at character 4"),
        (r"[\d-a]", "not a range at character 5"),
        ("a\\", "unexpected end at character 2"),
        (r"\q", r"\q is not known at character 2"),
        (r"\x1", "2 hexadecimal digits are missing at character 2"),
        ("^a", "anchors are not needed, the whole text has to match at character 0"),
        ("(?=a)", "only ( ) and (?: ) group at character 1"),
    ],
)
def test_a_wrong_pattern_says_where(pattern, message):
    whole = f"`pattern` must be a regular expression: {message}. Received: pattern={pattern!r}"
    with pytest.raises(ValueError, match=re.escape(whole)):
        RegularAutomaton.compile(pattern)


def test_a_pattern_is_a_string_and_not_too_large():
    with pytest.raises(ValueError, match="`pattern` must be a string. Received: pattern=3"):
        RegularAutomaton.compile(3)
    for pattern in ("(a|b)*a(a|b){15}", "((a{999}){999}){9}"):
        with pytest.raises(ValueError, match="`pattern` must take at most 20000 states. Received: pattern="):
            RegularAutomaton.compile(pattern)
