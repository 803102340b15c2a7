"""Whole words and spans of words that are hidden together, drawn for all rows of a batch at once."""

from typing import NamedTuple

import numpy as np


class Words(NamedTuple):
    """The words of each row, of the tokens that may be hidden.

    Args:
        index: int `[B, T]`, the number of the word from 1 in each row, 0 for a token that must stay.
        is_start: bool `[B, T]`, the first token of a word.
        size: int `[B, T]`, the number of tokens of the word.
        stretch: int `[B, T]`, alike for words with nothing between them that must stay.
    """

    index: np.ndarray
    is_start: np.ndarray
    size: np.ndarray
    stretch: np.ndarray


def find_words(may_hide, word_ids=None):
    """Finds the words.

    Args:
        may_hide: bool `[B, T]`.
        word_ids: int `[B, T]`, neighbours with the same number are one word; `None`: each token is a word.

    Returns:
        `Words`.
    """
    is_new = np.ones_like(may_hide)
    if word_ids is not None:
        is_new[:, 1:] = (word_ids[:, 1:] != word_ids[:, :-1]) | ~may_hide[:, :-1]
    is_start = may_hide & is_new
    index = np.where(may_hide, np.cumsum(is_start, axis=1), 0)
    num_rows, length = may_hide.shape
    flat = index + np.arange(num_rows)[:, None] * (length + 1)
    sizes = np.bincount(flat.ravel(), minlength=num_rows * (length + 1))
    return Words(index, is_start, sizes[flat], np.cumsum(~may_hide, axis=1))


def span_lengths(num, rng, probability, longest):
    """Draws numbers of words: geometric, with what is longer than `longest` drawn again.

    Args:
        num: int, how many to draw.
        rng: `numpy.random.Generator`.
        probability: float in (0, 1), p.
        longest: int.

    Returns:
        An int array `[num]` of numbers from 1 to `longest`.

    Reference:
        Joshi et al. 2020, "SpanBERT", section 3.1 (with p = 0.2 and 10 words the mean is 3.8).

    Example:

    >>> import numpy as np
    >>> float(span_lengths(100_000, np.random.default_rng(0), 0.2, 10).mean().round(1))
    3.8
    """
    shares = probability * (1 - probability) ** np.arange(longest)
    return 1 + np.searchsorted(np.cumsum(shares)[:-1] / shares.sum(), rng.random(num), side="right")


def hide_words(words, counts, rng, draw_lengths=None):
    """Chooses words, or spans of words, until so many tokens are hidden.

    Args:
        words: `Words` of B rows.
        counts: int array `[B]`, the tokens to hide in each row.
        rng: `numpy.random.Generator`.
        draw_lengths: function from B to the numbers of words of B spans; the last span of a row is cut. `None` for
            single words, which are never cut: those that fit into what remains, or the shortest alone.

    Returns:
        int `[B, T]`: the number of the word or span from 1 in the order of drawing, 0 for what stays.
    """
    chosen = np.zeros_like(words.index)
    shortest = np.where(words.is_start, words.size, np.inf).min(axis=1)
    lengths = np.ones(len(counts), int)
    for number in range(1, 1 + chosen.shape[1]):
        room = counts - (chosen > 0).sum(1)
        if draw_lengths is None:
            room = np.maximum(room, np.where((chosen > 0).any(1) | (counts == 0), 0, shortest))
        else:
            lengths = draw_lengths(len(counts))
        needed = words.size if draw_lengths is None else np.ones_like(words.size)
        candidates = words.is_start & (chosen == 0) & (needed <= room[:, None])
        if not candidates.any():
            break
        new = _span(words, candidates, lengths, rng) & (chosen == 0)
        chosen[new & (np.cumsum(new, axis=1) <= room[:, None])] = number
    return chosen


def _span(words, candidates, lengths, rng):
    """bool `[B, T]`: so many words from one of the candidates on, in rows that have any."""
    start = np.where(candidates, rng.random(candidates.shape), -1.0).argmax(axis=1)[:, None]
    first, stretch = (np.take_along_axis(each, start, axis=1) for each in (words.index, words.stretch))
    inside = (words.index >= first) & (words.index < first + lengths[:, None])
    return inside & (words.stretch == stretch) & candidates.any(axis=1)[:, None]
