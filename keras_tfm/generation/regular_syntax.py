"""Regular expressions over characters, read into a tree of four kinds of nodes."""

import re
from typing import NamedTuple

LARGEST = 0x10FFFF  # the last code point of Unicode
_DIGITS, _SPACES = ((48, 57),), ((9, 13), (32, 32))
_WORD = ((48, 57), (65, 90), (95, 95), (97, 122))
_CLASSES = {"d": _DIGITS, "s": _SPACES, "w": _WORD}
_CONTROLS = {"n": "\n", "r": "\r", "t": "\t", "f": "\f", "v": "\v", "0": "\0"}
_COUNT = re.compile(r"\{(\d*)(,?)(\d*)\}")


class Characters(NamedTuple):
    """One character out of `ranges`, pairs of a first and a last code point, in order and apart."""

    ranges: tuple


class Sequence(NamedTuple):
    """The nodes one after the other; none is the empty text."""

    nodes: tuple


class Choice(NamedTuple):
    """Any one of the nodes."""

    nodes: tuple


class Repetition(NamedTuple):
    """The node at least `minimum` and at most `maximum` times; `None` for as often as you like."""

    node: tuple
    minimum: int
    maximum: int | None


def parse(pattern):
    """Read a regular expression.

    Characters stand for themselves, `.` for all but a line feed; `[a-z]` and `[^a-z]` are classes; `\\d \\s \\w` and
    `\\D \\S \\W` are the ASCII ones, also inside a class; `\\n \\r \\t \\f \\v \\0 \\xhh \\uhhhh` are characters, and
    `\\` before punctuation takes its meaning away. `( )` and `(?: )` group, `|` chooses, `* + ? {m} {m,} {,n} {m,n}`
    repeat. There are no anchors, back references or looks around: the whole text has to match.

    Args:
        pattern: string.

    Returns:
        `Characters`, `Sequence`, `Choice` or `Repetition`.

    Raises:
        ValueError: if the pattern is none; the message says where.

    Example:

    >>> parse("a|b?")
    Choice(nodes=(Characters(ranges=((97, 97),)),
                  Repetition(node=Characters(ranges=((98, 98),)), minimum=0, maximum=1)))
    """
    if not isinstance(pattern, str):
        raise ValueError(f"`pattern` must be a string. Received: pattern={pattern!r}")
    reader = _Reader(pattern)
    node = reader.choice()
    if reader.place < len(pattern):
        raise reader.error("unmatched )")
    return node


class _Reader:
    """Recursive descent, one method a rule of the grammar."""

    def __init__(self, pattern):
        self.pattern, self.place = pattern, 0

    def error(self, what):
        return ValueError(
            f"`pattern` must be a regular expression: {what} at character {self.place}. "
            f"Received: pattern={self.pattern!r}"
        )

    @property
    def following(self):
        return self.pattern[self.place : self.place + 1]

    def take(self):
        character = self.following
        if not character:
            raise self.error("unexpected end")
        self.place += 1
        return character

    def accept(self, text):
        found = self.pattern.startswith(text, self.place)
        self.place += len(text) * found
        return found

    def choice(self):
        nodes = [self.sequence()]
        while self.accept("|"):
            nodes.append(self.sequence())
        return nodes[0] if len(nodes) == 1 else Choice(tuple(nodes))

    def sequence(self):
        nodes = []
        while self.following and self.following not in "|)":
            nodes.append(self.repetition())
        return nodes[0] if len(nodes) == 1 else Sequence(tuple(nodes))

    def repetition(self):
        node = self.atom()
        while (bounds := self.bounds()) is not None:
            node = Repetition(node, *bounds)
        return node

    def bounds(self):
        simple = {"*": (0, None), "+": (1, None), "?": (0, 1)}
        if self.following and self.following in simple:
            return simple[self.take()]
        if self.following != "{":
            return None
        found = _COUNT.match(self.pattern, self.place)
        if not found or not (found[1] or found[3]):
            raise self.error("{ without m, n or m,n")
        minimum = int(found[1] or 0)
        maximum = minimum if not found[2] else int(found[3]) if found[3] else None
        if maximum is not None and maximum < minimum:
            raise self.error(f"{found[0]} counts down")
        self.place = found.end()
        return minimum, maximum

    def atom(self):
        if self.following in ("*", "+", "?", "{"):
            raise self.error("nothing to repeat")
        if self.following in ("^", "$"):
            raise self.error("anchors are not needed, the whole text has to match")
        character = self.take()
        if character == "(":
            return self.group()
        if character == "[":
            return Characters(self.character_class())
        if character == ".":
            return Characters(complement(((10, 10),)))
        if character == "\\":
            return Characters(self.escape())
        return Characters(((ord(character), ord(character)),))

    def group(self):
        if not self.accept("?:") and self.following == "?":
            raise self.error("only ( ) and (?: ) group")
        node = self.choice()
        if not self.accept(")"):
            raise self.error("missing )")
        return node

    def character_class(self):
        is_complement, ranges = self.accept("^"), []
        while not ranges or self.following != "]":
            ranges += self.class_member()
        self.take()
        return complement(ranges) if is_complement else union(ranges)

    def class_member(self):
        first = self.class_character()
        is_range = self.following == "-" and self.pattern[self.place + 1 : self.place + 2] not in ("]", "")
        if not is_range:
            return first
        self.take()
        last = self.class_character()
        if not (_is_single(first) and _is_single(last) and first[0][0] <= last[0][0]):
            raise self.error("not a range")
        return ((first[0][0], last[0][0]),)

    def class_character(self):
        character = self.take()
        return self.escape() if character == "\\" else ((ord(character), ord(character)),)

    def escape(self):
        character = self.take()
        if character.lower() in _CLASSES:
            ranges = _CLASSES[character.lower()]
            return ranges if character.islower() else complement(ranges)
        if character in "xu":
            code = self.hexadecimal(2 if character == "x" else 4)
        elif character in _CONTROLS:
            code = ord(_CONTROLS[character])
        elif character.isalnum():
            raise self.error(f"\\{character} is not known")
        else:
            code = ord(character)
        return ((code, code),)

    def hexadecimal(self, count):
        digits = self.pattern[self.place : self.place + count]
        if not re.fullmatch(f"[0-9a-fA-F]{{{count}}}", digits):
            raise self.error(f"{count} hexadecimal digits are missing")
        self.place += count
        return int(digits, 16)


def _is_single(ranges):
    return len(ranges) == 1 and ranges[0][0] == ranges[0][1]


def union(ranges):
    """The same code points as `ranges`, in order and apart."""
    merged = []
    for first, last in sorted(ranges):
        if merged and first <= merged[-1][1] + 1:
            merged[-1] = (merged[-1][0], max(last, merged[-1][1]))
        else:
            merged.append((first, last))
    return tuple(merged)


def complement(ranges):
    """All other code points."""
    edges = [0]
    for first, last in union(ranges):
        edges += [first - 1, last + 1]
    edges.append(LARGEST)
    pairs = zip(edges[::2], edges[1::2], strict=True)
    return tuple((first, last) for first, last in pairs if first <= last)
