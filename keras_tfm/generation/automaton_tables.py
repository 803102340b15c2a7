"""Tables of finite automata in numpy: built from texts and patterns, and made small.

A table is int32 `[S, V]`, the next state by state and token, -1 for none; state 0 is the first. With it goes
`accepting`, the list of the states in which a text may end.
"""

import numpy as np

FAR = 2**30  # tokens to an accepting state that is never reached; int32 bears one more


def trie(sequences, vocabulary_size):
    """The table of the tree of all beginnings of `sequences`, and the accepting states.

    Example:

    >>> table, accepting = trie([(1,), (1, 0)], 2)
    >>> print(table, accepting)
    [[-1  1]
     [ 2 -1]
     [-1 -1]] [1, 2]
    """
    children, accepting = [{}], set()
    for sequence in sequences:
        state = 0
        for token in sequence:
            if token not in children[state]:
                children[state][token] = len(children)
                children.append({})
            state = children[state][token]
        accepting.add(state)
    table = np.full((len(children), vocabulary_size), -1, "int32")
    for state, following in enumerate(children):
        table[state, list(following.keys())] = list(following.values())
    return table, sorted(accepting)


def lift(automaton, vocabulary):
    """The table of a `RegularAutomaton` over tokens that write several characters, and the accepting states.

    Args:
        automaton: `RegularAutomaton` over characters.
        vocabulary: V strings; what writes nothing is forbidden.

    Raises:
        ValueError: if `vocabulary` is no sequence of strings.
    """
    texts = list(vocabulary)
    wrong = [text for text in texts if not isinstance(text, str)]
    if wrong or not texts:
        raise ValueError(f"`vocabulary` must be strings, one a token. Received: {wrong[0] if wrong else texts!r}")
    dead = len(automaton.transitions)
    transitions = np.vstack([automaton.transitions, np.full_like(automaton.transitions[:1], dead)])
    transitions[transitions < 0] = dead
    table = np.repeat(np.arange(dead, dtype="int32")[:, None], len(texts), axis=1)
    lengths = np.array([len(text) for text in texts])
    for place in range(lengths.max()):
        tokens = np.flatnonzero(lengths > place)
        classes = automaton.classes([texts[token][place] for token in tokens])
        table[:, tokens] = transitions[table[:, tokens], classes]
    table[:, lengths == 0] = dead
    return np.where(table == dead, -1, table), np.flatnonzero(automaton.accepting).tolist()


def minimise(table, accepting):
    """The smallest table that accepts the same texts, without dead ends, and its accepting states.

    Reference:
        Moore 1956, Gedanken-experiments on sequential machines: states that no text tells apart become one.

    Example:

    >>> table, accepting = minimise(*trie([(0, 1), (1, 1)], 2))
    >>> print(table, accepting)
    [[ 1  1]
     [-1  2]
     [-1 -1]] [2]
    """
    columns, small = merge_columns(np.asarray(table))
    far = distances_to_accepting(np.where(small < 0, len(small), small), accepting) >= FAR
    small = np.where((small < 0) | far[small], -1, small)
    blocks = _blocks(small, accepting)
    reached = _reached(small)
    order = list(dict.fromkeys(blocks[reached].tolist()))
    numbers = np.full(blocks.max() + 2, -1, "int32")  # the last place is for the state -1
    numbers[order] = np.arange(len(order))
    members = [reached[int(np.flatnonzero(blocks[reached] == block)[0])] for block in order]
    following = small[members]
    table = np.where(following < 0, -1, numbers[blocks[following]])
    is_accepting = np.isin(members, accepting)
    return table[:, columns].astype("int32"), np.flatnonzero(is_accepting).tolist()


def _blocks(table, accepting):
    """int `[S]`, the same number for states that no text tells apart."""
    blocks, count = np.isin(np.arange(len(table)), accepting).astype("int64"), 0
    while count < (count := blocks.max() + 1):
        signature = np.column_stack([blocks, np.where(table < 0, -1, blocks[table])])
        blocks = np.unique(signature, axis=0, return_inverse=True)[1].ravel()
    return blocks


def _reached(table):
    """The states that are reached from state 0, which is the first of them."""
    reached = {0: None}
    for state in (waiting := [0]):  # it grows
        new = [each for each in np.unique(table[state]).tolist() if each >= 0 and each not in reached]
        reached |= dict.fromkeys(new)
        waiting += new
    return np.array(list(reached))


def merge_columns(table):
    """Columns that are equal become one.

    Returns:
        int32 `[V]`, the column of each token, and int32 `[S, C]`, the columns that differ.

    Example:

    >>> columns, small = merge_columns(np.array([[1, 0, 1], [-1, 1, -1]]))
    >>> print(columns, small)
    [1 0 1] [[ 0  1]
     [ 1 -1]]
    """
    small, columns = np.unique(table, axis=1, return_inverse=True)
    return columns.ravel().astype("int32"), small.astype("int32")


def distances_to_accepting(transitions, accepting):
    """int32 `[S + 1]`, how few tokens lead to an accepting state; at least 2 ** 30 if none does.

    Args:
        transitions: int `[S, C]`; a state of S, or of the last row, which leads nowhere, is a dead end.
        accepting: list of states.

    Example:

    >>> print(distances_to_accepting(np.array([[1, 2], [2, 1], [3, 3]]), [2]))
    [         1          1          0 1073741824]
    """
    distances = np.full(len(transitions) + 1, FAR, "int32")
    distances[accepting] = 0
    while True:
        shorter = distances.copy()
        shorter[:-1] = np.minimum(distances[:-1], distances[transitions].min(axis=1) + 1)
        shorter = np.minimum(shorter, FAR)
        if (shorter == distances).all():
            return distances
        distances = shorter
