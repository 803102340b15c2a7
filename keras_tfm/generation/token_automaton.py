"""TokenAutomaton: a finite automaton that says which tokens may come next."""

import dataclasses
from typing import Any

import numpy as np
from keras import ops

from keras_tfm.generation.automaton_tables import distances_to_accepting, lift, merge_columns, minimise, trie
from keras_tfm.generation.logit_rule import LogitRule
from keras_tfm.generation.regular_automaton import RegularAutomaton
from keras_tfm.generation.step_protocol import check_ids, check_integer
from keras_tfm.generation.token_history import ids_mask


@dataclasses.dataclass(frozen=True, eq=False)
class TokenAutomaton(LogitRule):
    """Allows the tokens that a finite automaton allows: every result is a text that it accepts.

    The automaton reads decoded tokens only, neither the prompt nor the start token. END may come in accepting states
    only. A token may come only if an accepting state can still be reached before `max_length`, so that no text is cut
    off in the middle; if there is no such token, all are forbidden and the score is -inf.

    Args:
        table: int `[S, V]`, the next state by state and token, -1 where the token is forbidden. What it says of END is
            not looked at.
        accepting: the states in which a text may end.
        end_id: Python integer, or several; `None` if nothing ends a text but `max_length`. Default `None`.
        start_state: Python integer. Default 0.

    Numerics:
        Tokens that the automaton never tells apart share a column: what is kept, and what compiled programs hold, is
        int32 `[V]` and int32 `[S + 2, C]`, with C columns that differ.

    Raises:
        ValueError: if `table` is no int matrix of states from -1 to S - 1, if `accepting` or `start_state` is none of
            its states, or if an END is not in its vocabulary; at the first step, if V is not the vocabulary size.

    Example:

    >>> rule = TokenAutomaton([[1, -1, -1], [1, -1, 0]], accepting=[0], end_id=1)  # 2 after every run of 0
    >>> start = ops.convert_to_tensor([0])
    >>> memory = rule.start(start, 9, ops.zeros((1, 0), "int32"))
    >>> logits, memory = rule(ops.ones((1, 3)), start, ops.convert_to_tensor(0), memory)
    >>> print(ops.convert_to_numpy(logits))
    [[  1.   1. -inf]]
    >>> logits, memory = rule(ops.ones((1, 3)), ops.convert_to_tensor([0]), ops.convert_to_tensor(1), memory)
    >>> print(ops.convert_to_numpy(logits))
    [[  1. -inf   1.]]
    """

    table: dataclasses.InitVar[Any]
    accepting: tuple
    end_id: int | tuple | None = None
    start_state: int = 0
    columns: Any = dataclasses.field(init=False, repr=False)  # int32 [V], the column of each token
    transitions: Any = dataclasses.field(init=False, repr=False)  # int32 [S + 2, C]; S is the end, S + 1 a dead end
    needed: Any = dataclasses.field(init=False, repr=False)  # int32 [S + 2, C], tokens from there to a text's end

    def __post_init__(self, table):
        """Checks the settings and makes the table small."""
        table = _checked_table(table)
        states, vocabulary_size = table.shape
        accepting = tuple(sorted({check_integer("accepting", each, minimum=0) for each in self.accepting}))
        end_ids = check_ids("end_id", self.end_id)
        check_integer("start_state", self.start_state, minimum=0)
        for name, values in (("accepting", accepting), ("start_state", (self.start_state,))):
            if any(each >= states for each in values):
                raise ValueError(f"`{name}` must be states of the table, below {states}. Received: {name}={values}")
        full = np.full((states + 2, vocabulary_size), states + 1, "int32")
        full[:states] = np.where(table < 0, states + 1, table)
        is_end = ids_mask("end_id", end_ids, vocabulary_size)
        full[:, is_end] = states + 1
        full[np.ix_([*accepting, states], is_end)] = states
        columns, transitions = merge_columns(full)
        settings = dict(accepting=accepting, end_id=end_ids, columns=columns, transitions=transitions)
        settings["needed"] = distances_to_accepting(transitions, [*accepting, states])[transitions]
        for name, value in settings.items():
            object.__setattr__(self, name, value)

    @classmethod
    def from_sequences(cls, sequences, vocabulary_size, end_id=None):
        """The automaton that accepts given texts and no others.

        Args:
            sequences: sequences of token ids, without END.
            vocabulary_size: V, Python integer.
            end_id: as in `TokenAutomaton`.

        Raises:
            ValueError: if there is no sequence, or on an id that is not in the vocabulary.

        Example:

        >>> TokenAutomaton.from_sequences([[2, 3], [4, 3], [2]], vocabulary_size=5, end_id=1)
        TokenAutomaton(accepting=(1, 3), end_id=(1,), start_state=0)
        """
        vocabulary_size = check_integer("vocabulary_size", vocabulary_size, minimum=1)
        sequences = [tuple(check_integer("sequences", each, minimum=0) for each in tokens) for tokens in sequences]
        if not sequences:
            raise ValueError("`sequences` must hold a sequence of token ids. Received: sequences=[]")
        used = {each for tokens in sequences for each in tokens}
        ids_mask("sequences", tuple(sorted(used)), vocabulary_size)
        if used.intersection(check_ids("end_id", end_id)):
            raise ValueError(f"`sequences` must not hold END. Received: end_id={end_id}")
        return cls(*minimise(*trie(sequences, vocabulary_size)), end_id=end_id)

    @classmethod
    def from_pattern(cls, pattern, vocabulary, end_id=None):
        """The automaton that accepts the texts that match a regular expression.

        Args:
            pattern: string, see `keras_tfm.generation.regular_syntax.parse`; the whole text has to match.
            vocabulary: list of V strings, what each token writes. Tokens that write nothing never come.
            end_id: as in `TokenAutomaton`.

        Raises:
            ValueError: if the pattern is none, or if no text of these tokens matches it.

        Example:

        >>> rule = TokenAutomaton.from_pattern(r"-?\\d+", ["", "", "-", "1", "23", "x"], end_id=1)
        >>> rule.transitions.shape
        (5, 4)
        """
        automaton = RegularAutomaton.compile(pattern)
        ends = check_ids("end_id", end_id)
        texts = ["" if token in ends else text for token, text in enumerate(vocabulary)]
        table, accepting = minimise(*lift(automaton, texts))
        if not accepting:
            raise ValueError(f"`pattern` must match a text of the vocabulary. Received: pattern={pattern!r}")
        return cls(table, accepting, end_id)

    def start(self, tokens, max_length, prompt):
        """See `LogitRule`."""
        state = ops.zeros_like(tokens) + self.start_state
        return state, ops.zeros_like(tokens) + max_length

    def __call__(self, logits, tokens, index, memory):
        """See `LogitRule`."""
        if logits.shape[-1] != len(self.columns):
            raise ValueError(
                f"`table` must have a column for each of the {logits.shape[-1]} tokens. "
                f"Received: table with {len(self.columns)} columns"
            )
        state, left = memory
        columns, is_start = ops.convert_to_tensor(self.columns), ops.equal(index, 0)
        # The start token need not be in the vocabulary.
        read = ops.take(columns, ops.where(is_start, 0, tokens))
        read = ops.take(self.transitions.reshape(-1), state * self.transitions.shape[1] + read)
        state, left = ops.where(is_start, state, read), left - 1
        # By column, and then by token: the automaton has far fewer columns than there are tokens.
        is_allowed = ops.take(self.needed, state, axis=0) <= ops.expand_dims(left, 1)
        return ops.where(ops.take(is_allowed, columns, axis=1), logits, -np.inf), (state, left)

    def __eq__(self, other):
        """Whether both allow the same by the same states."""
        return type(other) is type(self) and other._contents() == self._contents()

    def __hash__(self):
        """As `__eq__` has it."""
        return hash(self._contents())

    def _contents(self):
        return (self.accepting, self.end_id, self.start_state, self.columns.tobytes(), self.transitions.tobytes())


def _checked_table(table):
    table = np.asarray(table)
    is_matrix = table.ndim == 2 and table.size and np.issubdtype(table.dtype, np.integer)
    if not is_matrix or table.min() < -1 or table.max() >= len(table):
        received = f"of shape {table.shape} and dtype {table.dtype}"
        received += f", from {table.min()} to {table.max()}" if is_matrix else ""
        raise ValueError(f"`table` must be an int matrix [S, V] of states from -1 to S - 1. Received: table {received}")
    return table
