"""Masked language modelling: which tokens of a text are hidden, and what stands there instead."""

import numbers
from functools import partial

import numpy as np

from keras_tfm.text.checks import check_token_ids
from keras_tfm.text.masked_spans import find_words, hide_words, span_lengths

UNITS = ("token", "whole_word", "span")


class TokenMasking:
    """Hides a share of the tokens of each row; what a model is to predict are the tokens that were there.

    Of N tokens that may be hidden `max(1, round(rate N))` are. A unit of them becomes the mask with probability
    `mask_share`, a random token with `random_share`, and stays as it is else, so that the model must expect anything
    anywhere.

    Args:
        vocabulary_size: int, V, that of the model; random tokens come from it.
        mask_id: int, the id that hides a token.
        unit: `"token"` (default): each token alone. `"whole_word"`: all tokens of a word, as many words as fit into
            the number; if the shortest does not, it alone. `"span"`: words in a row, whose number is drawn from a
            geometric distribution up to `max_span`; the last span is cut where the number is reached, and a span is
            masked, replaced or kept as one.
        rate: float in (0, 1], the share of tokens to hide. Defaults to 0.15.
        mask_share: float in [0, 1]. Defaults to 0.8.
        random_share: float in [0, 1]; both shares together are at most 1. Defaults to 0.1.
        special_ids: ints that are never hidden and never drawn, besides `pad_id` and `mask_id`. Defaults to
            `(0, 1, 2, 3)`, the special tokens of `Vocabulary`.
        pad_id: int, id of the padding, which marks in the targets what does not count. Defaults to 0.
        span_probability: float in (0, 1), p of the geometric distribution. Defaults to 0.2; with `max_span=10` the
            mean is 3.8 words.
        max_span: int, the most words of a span. Defaults to 10.

    Call arguments:
        token_ids: int `[B, T]`.
        rng: `numpy.random.Generator`.
        word_ids: int `[B, T]`, neighbours with the same number are one word; `None`: each token is a word.

    Returns:
        `(masked_ids, targets)`, int32 `[B, T]`: targets are the tokens at the hidden places, and `pad_id` elsewhere.

    Masking:
        Padding and special tokens are never hidden, and no word or span reaches across them. A row without other
        tokens stays as it is.

    Raises:
        ValueError: an argument is out of its range, or arrays do not fit.

    Reference:
        Devlin et al. 2019, "BERT", section 3.1 and appendix A.1 (shares); Cui et al. 2021, "Pre-Training with Whole
        Word Masking for Chinese BERT", section 3.1; Joshi et al. 2020, "SpanBERT", section 3.1.

    Example:

    >>> import numpy as np
    >>> masking = TokenMasking(vocabulary_size=30, mask_id=29, unit="whole_word", mask_share=1, random_share=0)
    >>> masked_ids, targets = masking([[5, 6, 7, 8, 0]], np.random.default_rng(1), word_ids=[[0, 0, 1, 1, 1]])
    >>> np.where(targets == 0, masked_ids, targets).tolist()
    [[5, 6, 7, 8, 0]]
    >>> (masked_ids == 29).sum(), masking.most(4, longest_word=2)
    (np.int64(2), 2)
    """

    def __init__(
        self,
        vocabulary_size,
        mask_id,
        *,
        unit="token",
        rate=0.15,
        mask_share=0.8,
        random_share=0.1,
        special_ids=(0, 1, 2, 3),
        pad_id=0,
        span_probability=0.2,
        max_span=10,
    ):
        _check_arguments(unit, rate, mask_share, random_share, span_probability, max_span)
        if not isinstance(mask_id, numbers.Integral) or not 0 <= mask_id < vocabulary_size or mask_id == pad_id:
            raise ValueError(
                "`mask_id` must be an id of the vocabulary, and not the padding. "
                f"Received: mask_id={mask_id!r}, vocabulary_size={vocabulary_size}, pad_id={pad_id}"
            )
        self.vocabulary_size, self.mask_id, self.pad_id = vocabulary_size, mask_id, pad_id
        self.unit, self.rate, self.mask_share, self.random_share = unit, rate, mask_share, random_share
        self._specials = np.unique([*special_ids, pad_id, mask_id])
        self._drawable = np.setdiff1d(np.arange(vocabulary_size), self._specials)
        if not len(self._drawable):
            raise ValueError(
                "`vocabulary_size` must leave ids that are not special. "
                f"Received: vocabulary_size={vocabulary_size}, special ids {self._specials.tolist()}"
            )
        self._span_probability, self._max_span = span_probability, max_span

    def __call__(self, token_ids, rng, word_ids=None):
        """Hides tokens; see the class for arguments."""
        token_ids, word_ids = _check_arrays(token_ids, word_ids, self.vocabulary_size)
        may_hide = ~np.isin(token_ids, self._specials)
        units = self._choose(may_hide, self.count(may_hide.sum(1)), word_ids, rng)
        hidden = units > 0
        shown = np.where(hidden, self._replace(token_ids, units, rng), token_ids)
        return shown.astype(np.int32), np.where(hidden, token_ids, self.pad_id).astype(np.int32)

    def count(self, num_tokens):
        """How many of so many tokens are hidden; int, or an int array."""
        return np.where(np.asarray(num_tokens) > 0, np.maximum(np.rint(self.rate * num_tokens), 1), 0).astype(int)

    def most(self, length, longest_word=1):
        """The most tokens that are hidden in a row of `length`, where no word has more tokens than `longest_word`."""
        return max(int(self.count(length)), min(longest_word, length) if self.unit == "whole_word" else 0)

    def _choose(self, may_hide, counts, word_ids, rng):
        """int `[B, T]`: the number of the unit from 1, 0 for what stays."""
        if self.unit == "token" or (self.unit == "whole_word" and word_ids is None):
            ranks = np.where(may_hide, rng.random(may_hide.shape), 2.0).argsort(1).argsort(1)
            return np.where(ranks < counts[:, None], ranks + 1, 0)
        words = find_words(may_hide, word_ids)
        lengths = partial(span_lengths, rng=rng, probability=self._span_probability, longest=self._max_span)
        return hide_words(words, counts, rng, lengths if self.unit == "span" else None)

    def _replace(self, token_ids, units, rng):
        """What stands at each place if it is hidden."""
        fates = rng.random(token_ids.shape)
        if self.unit == "span":  # all tokens of a span have the fate at the column of the span's number
            fates = np.take_along_axis(fates, np.maximum(units - 1, 0), axis=1)
        drawn = self._drawable[rng.integers(len(self._drawable), size=token_ids.shape)]
        others = np.where(fates < self.mask_share + self.random_share, drawn, token_ids)
        return np.where(fates < self.mask_share, self.mask_id, others)


def _check_arguments(unit, rate, mask_share, random_share, span_probability, max_span):
    if unit not in UNITS:
        raise ValueError(f"`unit` must be one of {UNITS}. Received: unit={unit!r}")
    if not 0 < rate <= 1:
        raise ValueError(f"`rate` must be in (0, 1]. Received: rate={rate}")
    if mask_share < 0 or random_share < 0 or mask_share + random_share > 1 + 1e-9:
        raise ValueError(
            "`mask_share` and `random_share` must not be negative, and together at most 1. "
            f"Received: mask_share={mask_share}, random_share={random_share}"
        )
    if not 0 < span_probability < 1:
        raise ValueError(f"`span_probability` must be in (0, 1). Received: span_probability={span_probability}")
    if not isinstance(max_span, numbers.Integral) or max_span < 1:
        raise ValueError(f"`max_span` must be a positive integer. Received: max_span={max_span!r}")


def _check_arrays(token_ids, word_ids, vocabulary_size):
    token_ids = np.asarray(token_ids)
    if token_ids.ndim != 2:
        raise ValueError(f"`token_ids` must be ints [B, T]. Received: token_ids of shape {token_ids.shape}")
    check_token_ids(token_ids, vocabulary_size, name="token_ids")
    if word_ids is not None:
        word_ids = np.asarray(word_ids)
        if word_ids.shape != token_ids.shape:
            raise ValueError(
                "`word_ids` must have the shape of `token_ids`. "
                f"Received: word_ids of shape {word_ids.shape}, token_ids of shape {token_ids.shape}"
            )
    return token_ids, word_ids
