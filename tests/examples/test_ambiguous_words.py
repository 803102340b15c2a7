import doctest
from collections import defaultdict
from itertools import combinations

import ambiguous_words
import pytest
from ambiguous_words import CLASSES, ceiling, make_sentences, shapes


def tag_row(shape):
    return [CLASSES[name][0] for name in shape]


def test_no_sentence_of_the_grammar_has_two_readings():
    """Two rows of classes share a sentence when they share a word in every place: then their tags must be the same."""
    words = {name: set(text.split()) for name, (_, text) in CLASSES.items()}
    meet = {(one, other) for one in words for other in words if words[one] & words[other]}
    of_length = defaultdict(list)
    for shape in shapes():
        of_length[len(shape)].append(shape)
    assert sum(map(len, of_length.values())) > 300
    for group in of_length.values():
        for one, other in combinations(group, 2):
            if all(pair in meet for pair in zip(one, other, strict=True)):
                assert tag_row(one) == tag_row(other)


def readings(words):
    """Every row of tags that the grammar gives to the words: brute force over all rows of classes."""
    fitting = (shape for shape in shapes() if len(shape) == len(words))
    return {
        tuple(tag_row(shape))
        for shape in fitting
        if all(word in CLASSES[name][1].split() for word, name in zip(words, shape, strict=True))
    }


def test_drawn_tags_are_the_one_reading_of_the_words():
    for words, tags in make_sentences(200, seed=1):
        assert readings(words) == {tags}


@pytest.mark.parametrize(
    ("sentence", "tags"),
    [
        ("I saw a saw .", "PRON VERB DET NOUN PUNCT"),
        ("they can fish .", "PRON AUX VERB PUNCT"),
        ("the can is old .", "DET NOUN AUX ADJ PUNCT"),
        ("we can can the fish .", "PRON AUX VERB DET NOUN PUNCT"),
        ("time flies like this bear .", "NOUN VERB ADP DET NOUN PUNCT"),
        ("fruit flies like this bear .", "NOUN NOUN VERB DET NOUN PUNCT"),
        ("the bear records in the park .", "DET NOUN VERB ADP DET NOUN PUNCT"),
        ("the bear records in the park are old .", "DET NOUN NOUN ADP DET NOUN AUX ADJ PUNCT"),
        ("can the fish in the park .", "VERB DET NOUN ADP DET NOUN PUNCT"),
        ("can the fish in the park watch the play ?", "AUX DET NOUN ADP DET NOUN VERB DET NOUN PUNCT"),
        ("we must play , fish and light .", "PRON AUX VERB PUNCT VERB CCONJ VERB PUNCT"),
        ("we have a play , fish and light .", "PRON VERB DET NOUN PUNCT NOUN CCONJ NOUN PUNCT"),
    ],
)
def test_famous_sentences_have_the_reading_of_the_whole(sentence, tags):
    assert readings(sentence.split()) == {tuple(tags.split())}


def test_sentences_are_unique_and_decided_by_the_seed():
    sentences = make_sentences(3000, seed=4)
    assert len({words for words, _ in sentences}) == 3000
    assert make_sentences(3000, seed=4) == sentences
    assert make_sentences(3000, seed=5) != sentences


def test_the_famous_words_have_two_tags_each():
    tags_of = defaultdict(set)
    for words, tags in make_sentences(5000):
        for word, tag in zip(words, tags, strict=True):
            tags_of[word].add(tag)
    several = {word for word, tags in tags_of.items() if len(tags) > 1}
    assert several >= set("saw can fish fly flies like duck bear light watch play".split())
    assert several >= set("train park book record present".split())
    assert tags_of["can"] == {"AUX", "NOUN", "VERB"} and tags_of["light"] == {"ADJ", "NOUN", "VERB"}
    assert tags_of["that"] == {"DET", "PRON", "SCONJ"}


def test_ceiling_is_what_the_best_table_of_words_reaches():
    sentences = [(("I", "saw", "a", "saw"), ("PRON", "VERB", "DET", "NOUN")), (("a", "saw"), ("DET", "NOUN"))]
    assert ceiling(sentences) == 5 / 6
    assert ceiling(sentences, radius=1) == 1.0


def test_single_words_do_not_decide_and_neighbours_do_not_either():
    sentences = make_sentences(40000)
    assert 0.75 < ceiling(sentences) < 0.88
    assert ceiling(sentences, radius=1) < 0.97
    assert ceiling(sentences, radius=2) < 0.99


def test_the_documented_example_is_true():
    assert doctest.testmod(ambiguous_words).failed == 0
