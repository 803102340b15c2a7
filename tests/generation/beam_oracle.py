"""Beam searches with all settings in plain numpy float64, and how a strategy is run on a random model."""

import numpy as np

from keras_tfm.generation.strategy import search

PENALTIES = {
    "wu": lambda length, alpha: ((5 + length) / 6) ** alpha,
    "average": lambda length, alpha: length**alpha,
}


def decode(step, state, start_tokens, *, strategy, **options):
    """`search`, with the strategy as an option that is part of the key of a compiled program."""
    return search(strategy, step, state, start_tokens, **options)


def settings_oracle(
    model,
    *,
    num_beams,
    max_length,
    ends=(1,),
    penalty="wu",
    alpha=0.6,
    early_stopping="exact",
    coverage=lambda tokens: 0.0,
):
    """The pool of row 0, `(score, tokens)` best first, and the steps it took.

    `coverage` gives a number at most 0 for the tokens whose attention is summed: a hypothesis but for its last token.
    """

    def rank(one, length=None):
        length = len(one[1]) if length is None else length
        return one[0] / PENALTIES[penalty](length, alpha) + coverage(one[1][:-1])

    alive, pool = [(0.0, ())], []
    for length in range(1, max_length + 1):
        candidates = sorted(continuations(model, alive), reverse=True)
        pool += [one for one in candidates[:num_beams] if one[1][-1] in ends or length == max_length]
        pool = sorted(pool, key=rank, reverse=True)[:num_beams]
        alive = [one for one in candidates if one[1][-1] not in ends][:num_beams]
        if not alive:
            return pool, length
        if len(pool) < num_beams:
            continue
        if early_stopping == "first":
            return pool, length
        reachable = range(length + 1, max_length + 1) if early_stopping == "exact" else [length]
        best = [one[0] / PENALTIES[penalty](later, alpha) for one in alive for later in reachable]
        if early_stopping == "heuristic":
            best = [rank(one) for one in alive]
        if not best or max(best) <= rank(pool[-1]):
            return pool, length
    return pool, max_length


def continuations(model, alive):
    """Every `(score, tokens)` one token longer, but those of no probability."""
    return [
        (score + gain, (*tokens, token))
        for score, tokens in alive
        for token, gain in enumerate(model.log_probabilities(tokens))
        if score + gain > -np.inf
    ]


def check_results(results, pools, max_length, num_results, pad_id=0):
    """Each row of `results` is the pool of its sentence, best first, then empty places."""
    for sequences, scores, lengths, pool in zip(*results, pools, strict=True):
        pool = pool[:num_results]
        empty = num_results - len(pool)
        padded = [[*tokens, *[pad_id] * (max_length - len(tokens))] for _, tokens in pool]
        np.testing.assert_array_equal(sequences, padded + [[pad_id] * max_length] * empty)
        np.testing.assert_array_equal(lengths, [len(tokens) for _, tokens in pool] + [0] * empty)
        np.testing.assert_allclose(scores, [score for score, _ in pool] + [-np.inf] * empty, rtol=1e-5, atol=1e-5)
