"""RegularAutomaton: a regular expression as a deterministic finite automaton over characters."""

from typing import Any, NamedTuple

import numpy as np

from keras_tfm.generation.regular_syntax import Characters, Choice, Sequence, parse

MAX_STATES = 20_000


class RegularAutomaton(NamedTuple):
    """A finite automaton over classes of characters that no part of the pattern tells apart.

    Args:
        firsts: int `[C]`, ascending from 0: class c has the code points from `firsts[c]` to before `firsts[c + 1]`.
        transitions: int32 `[S, C]`, the next state, -1 for none. State 0 is the first.
        accepting: bool `[S]`.

    Example:

    >>> automaton = RegularAutomaton.compile("[ab]c{2,}")
    >>> automaton.matches("accc"), automaton.matches("ac")
    (True, False)
    """

    firsts: Any
    transitions: Any
    accepting: Any

    @classmethod
    def compile(cls, pattern):
        """The automaton of a regular expression, see `parse` for what it may hold.

        Raises:
            ValueError: if the pattern is none, or if it takes more than 20,000 states.
        """
        edges = _Edges(parse(pattern))
        starts = {0}.union(*((first, last + 1) for ranges, *_ in edges.moves for first, last in ranges))
        firsts = np.array(sorted(starts))
        return cls(firsts, *_determinise(edges, firsts, pattern))

    def classes(self, text):
        """int `[len(text)]`, the classes of its characters."""
        codes = np.array([ord(character) for character in text], "int64")
        return np.searchsorted(self.firsts, codes, side="right") - 1

    def matches(self, text):
        """Whether the whole text matches."""
        state = 0
        for each in self.classes(text):
            state = self.transitions[state, each]
            if state < 0:
                return False
        return bool(self.accepting[state])


class _Edges:
    """The nondeterministic automaton of a node, by Thompson's construction; it goes from state 0 to state `last`."""

    def __init__(self, node):
        self.count, self.silent, self.moves = 1, [], []
        self.last = self.add(node, 0)

    def state(self):
        self.count += 1
        if self.count > 20 * MAX_STATES:
            raise _too_large()
        return self.count - 1

    def join(self, first, second):
        self.silent.append((first, second))

    def add(self, node, origin):
        """The state in which `node` ends that begins in `origin`; nothing of it comes back to `origin`."""
        if isinstance(node, Characters):
            self.moves.append((node.ranges, origin, self.state()))
            return self.count - 1
        if isinstance(node, Sequence):
            for each in node.nodes:
                origin = self.add(each, origin)
            return origin
        if isinstance(node, Choice):
            end = self.state()
            for each in node.nodes:
                self.join(self.add(each, origin), end)
            return end
        return self.repeat(node, origin)

    def repeat(self, node, origin):
        for _ in range(node.minimum):
            origin = self.add(node.node, origin)
        if node.maximum is None:
            first = self.state()
            self.join(origin, first)
            self.join(self.add(node.node, first), first)
            end = self.state()
            self.join(first, end)
            return end
        end = self.state()
        for _ in range(node.maximum - node.minimum):
            self.join(origin, end)
            origin = self.add(node.node, origin)
        self.join(origin, end)
        return end


def _determinise(edges, firsts, pattern):
    """Transitions int32 `[S, C]` and accepting bool `[S]`, by the subset construction."""
    silent, moves = {}, {}
    for origin, target in edges.silent:
        silent.setdefault(origin, []).append(target)
    for ranges, origin, target in edges.moves:
        spans = [np.searchsorted(firsts, (first, last + 1)) for first, last in ranges]
        moves.setdefault(origin, []).append((np.concatenate([np.arange(*span) for span in spans] or [[]]), target))

    start = _closure([0], silent)
    numbers, rows, open_sets = {start: 0}, [], [start]
    for states in open_sets:  # it grows
        targets = [set() for _ in firsts]
        for state in states:
            for classes, target in moves.get(state, ()):
                for each in classes:
                    targets[int(each)].add(target)
        rows.append([_number(each, numbers, open_sets, silent, pattern) for each in targets])
    accepting = np.array([edges.last in states for states in open_sets])
    return np.array(rows, "int32").reshape(len(open_sets), len(firsts)), accepting


def _number(targets, numbers, open_sets, silent, pattern):
    if not targets:
        return -1
    states = _closure(targets, silent)
    if states not in numbers:
        if len(numbers) == MAX_STATES:
            raise _too_large(pattern)
        numbers[states] = len(numbers)
        open_sets.append(states)
    return numbers[states]


def _closure(states, silent):
    """All that is reached from `states` without reading, as a frozen set."""
    found, waiting = set(states), list(states)
    while waiting:
        for each in silent.get(waiting.pop(), ()):
            if each not in found:
                found.add(each)
                waiting.append(each)
    return frozenset(found)


def _too_large(pattern=None):
    return ValueError(f"`pattern` must take at most {MAX_STATES} states. Received: pattern={pattern!r}")
