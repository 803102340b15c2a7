"""English sentences whose words have several parts of speech, with the right tag of every word: no download needed.

    >>> words, tags = make_sentences(1, seed=0)[0]
    >>> len(words) == len(tags)
    True

A small grammar draws a row of word classes first, then the words; so the tags are known. Most words stand in several
classes ("we can can the fish", "he saw the saw", "time flies like this bear"), and what decides is often far away: the
beginning ("they can play , fish and light ." or "they have a play , fish and light .") or the end ("the bear records in
the park ." or "the bear records in the park are old ."). The whole sentence always decides: none has two readings.
"""

import random
from collections import Counter

BOTH = "saw can fly duck bear light watch play train park book record present fish"
PLURAL = "saws cans flies ducks bears lights watches plays trains parks books records presents"

# Word class: its tag and its words.
CLASSES = {
    "thing": ("NOUN", f"{BOTH} will dog"),
    "kind": ("NOUN", "saw can fly duck bear watch play train park book record fish dog"),  # no ADJ
    "things": ("NOUN", f"{PLURAL} fish dogs"),
    "stuff": ("NOUN", "time news life"),
    "sort": ("NOUN", "fruit sand horse"),
    "do": ("VERB", f"{BOTH} like find"),
    "act": ("VERB", "saw fly duck bear light watch play train park book record present fish"),  # no "can like the bear"
    "does": ("VERB", f"{PLURAL} likes finds"),
    "did": ("VERB", "saw found liked"),
    "have": ("VERB", "have need want"),
    "know": ("VERB", "know see"),
    "enjoy": ("VERB", "like"),
    "can": ("AUX", "can will must"),
    "is": ("AUX", "is was"),
    "are": ("AUX", "are were"),
    "old": ("ADJ", "light present old new"),
    "a": ("DET", "the a this that"),
    "these": ("DET", "the these those"),
    "which": ("DET", "that"),
    "who": ("PRON", "that"),
    "they": ("PRON", "they we you I"),
    "he": ("PRON", "he she it"),
    "if": ("SCONJ", "that"),
    "to": ("PART", "to"),
    "in": ("ADP", "in by near"),
    "as": ("ADP", "like"),
    "and": ("CCONJ", "and or"),
    ",": ("PUNCT", ","),
    ".": ("PUNCT", "."),
    "?": ("PUNCT", "?"),
}

# What a name stands for: alternatives, each a row of names and word classes; `_` is nothing.
RULES = {
    "sentence": """
        they do object where . | he does object where . | they did object where . | he did object where . |
        they can do object where . | they can act manner . | he can act manner . | they act manner . |
        a thing is old . | these things are old . | a thing does object . | these things do object . |
        do object where . | stuff does as a thing . | sort things enjoy a thing . | can a thing where do object ? |
        can they do object where ? | is a thing where old ? | can a thing do place ? | can a kind thing place do ? |
        can a kind thing place do object ? | a thing does place . | a kind things place are old . |
        these old things place are old . | these old things place do object . | a kind things place do object . |
        these things who do place do object . | they can do , do verbs where . |
        they have a thing , thing nouns where . | do , do verbs object . | thing , thing nouns are old . |
        to do , do verbs is old . | a thing , thing nouns are old . | thing , thing nouns do object . |
        they know which thing place . | they know if things place do . | they know if things place do object .
    """,
    "object": "a thing | these things",
    "manner": "_ | as a thing | as these things",
    "place": "in object | in object in object",
    "where": "_ | place",
    "verbs": "and do | , do and do | , do , do and do",
    "nouns": "and thing | , thing and thing | , thing , thing and thing",
}


def shapes(names="sentence"):
    """Yields every row of word classes that a row of names can become; the grammar has no recursion."""
    head, *rest = names.split()
    rows = [[head] * (head != "_")]
    if head in RULES:
        rows = [row for way in RULES[head].split("|") for row in shapes(way)]
    tails = list(shapes(" ".join(rest))) if rest else [[]]
    yield from ([*row, *tail] for row in rows for tail in tails)


def draw_shape(draw, names="sentence"):
    """Draws one row of word classes."""
    row = []
    for name in names.split():
        if name in RULES:
            row += draw_shape(draw, draw.choice(RULES[name].split("|")))
        elif name != "_":
            row.append(name)
    return row


def make_sentences(num, seed=0):
    """Draws `num` different sentences as (words, tags); the same seed gives the same sentences."""
    draw, sentences = random.Random(seed), {}
    while len(sentences) < num:
        shape = draw_shape(draw)
        words = tuple(draw.choice(CLASSES[name][1].split()) for name in shape)
        sentences[words] = tuple(CLASSES[name][0] for name in shape)
    return list(sentences.items())


def ceiling(sentences, radius=0):
    """The best share of right tags that any function of a word and its `radius` neighbours can have on these sentences.

    That function gives each window the tag that it has most often here; windows seen once make the bound loose.
    """
    tags_of = {}
    for words, tags in sentences:
        padded = ("",) * radius + words + ("",) * radius
        for index, tag in enumerate(tags):
            tags_of.setdefault(padded[index : index + 2 * radius + 1], Counter())[tag] += 1
    right = sum(max(tags.values()) for tags in tags_of.values())
    return right / sum(sum(tags.values()) for tags in tags_of.values())
