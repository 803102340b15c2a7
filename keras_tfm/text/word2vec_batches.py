"""Rows of words with their windows and negative samples: what Word2Vec is trained on."""

import numpy as np

from keras_tfm.text.ragged import RaggedArray
from keras_tfm.text.resumable import ResumableDataset


class Word2VecBatches(ResumableDataset):
    """Cuts a corpus into rows of words with windows and negative samples, for skip-gram and for CBOW.

    A batch is `({"token_ids": [B, T], "segment_ids": [B, T], "radii": [B, T], "negative_ids": [B, M]},)`, all int32:
    rows of running text, in which word i and word j of the same sentence are a pair if `0 < |i - j| <= radii[i]`. So
    each vector is looked up once a row and not once a pair, and all scores are products of matrices. In an epoch

    1. each occurrence of a word is kept with the probability of `keep_probabilities`; those left out are no neighbours
       either, so that windows reach farther (as word2vec.c and gensim do it);
    2. each word that is left draws the radius of its window from 1 .. W, each equally likely;
    3. the text is cut evenly into rows, which are dealt into batches of one shape in random order. W words on both
       sides of a row are those of the next rows, with radius 0: they are neighbours only. So every word is in the
       middle once, and no window is cut short;
    4. each row draws M negative words from `negative_probabilities`, which all its pairs share.

    All of this is a function of `seed` and the epoch. See `ResumableDataset` for the order of batches.

    Args:
        token_ids: list of lists of ints, one list a sentence; id 0 is padding and must not occur.
        vocabulary_size: V; ids outside are refused.
        window: W, the largest radius. Defaults to `5`.
        row_length: T, words of a row with those at its sides; more than 2 W. Defaults to `64`.
        tokens_per_batch: int, the most words of a batch, B times T. Defaults to `2048`.
        subsampling: float, the frequency above which words are thinned out; `0` keeps all. Defaults to `1e-3`.
        negatives_per_row: M; with `0` there are no `"negative_ids"`, as the full softmax needs none. Defaults to `64`.
        negative_exponent: float, power of the counts that negatives are drawn by. Defaults to `0.75`.
        counts: int array `[V]`, how often each word occurs, where `token_ids` are a part of the corpus. `None`
            (default) counts them.
        shuffle: bool; `False` gives every epoch the same rows in the order of the text. Defaults to `True`.
        seed: int. Defaults to `0`.

    Raises:
        ValueError: no sentence, an empty one, ids outside the vocabulary, counts that do not fit, sizes that do not
            fit, or a `subsampling` below 0.

    Reference:
        Mikolov et al. 2013b, "Distributed Representations of Words and Phrases and their Compositionality", section
        2.2 (negative samples) and equation 5 (subsampling). A word of frequency f is kept with the probability
        `sqrt(t / f) + t / f` of word2vec.c and gensim; the equation itself has `sqrt(t / f)`.

    Example:

    >>> from keras_tfm.text import Word2VecBatches
    >>> corpus = [[1, 2, 3], [4, 5]]
    >>> batches = Word2VecBatches(corpus, vocabulary_size=6, window=1, row_length=8, subsampling=0, shuffle=False)
    >>> (inputs,) = batches[0]
    >>> inputs["token_ids"].tolist()
    [[0, 1, 2, 3, 4, 5, 0, 0]]
    >>> inputs["segment_ids"].tolist()
    [[0, 1, 1, 1, 2, 2, 0, 0]]
    >>> inputs["radii"].tolist(), inputs["negative_ids"].shape
    ([[0, 1, 1, 1, 1, 1, 0, 0]], (1, 64))
    """

    def __init__(
        self,
        token_ids,
        *,
        vocabulary_size,
        window=5,
        row_length=64,
        tokens_per_batch=2048,
        subsampling=1e-3,
        negatives_per_row=64,
        negative_exponent=0.75,
        counts=None,
        shuffle=True,
        seed=0,
    ):
        _check_sizes(1, vocabulary_size=vocabulary_size, window=window)
        _check_sizes(2 * window + 1, row_length=row_length)
        _check_sizes(row_length, tokens_per_batch=tokens_per_batch)
        _check_sizes(0, negatives_per_row=negatives_per_row)
        if not subsampling >= 0:
            raise ValueError(f"`subsampling` must be at least 0. Received: subsampling={subsampling}")
        sentences = RaggedArray(token_ids, "token_ids")
        sentences.check(0, vocabulary_size)
        if not len(sentences):
            raise ValueError("`token_ids` must hold at least one sentence. Received: 0")
        self._words = sentences.values[:-1]
        self._sentence_of = np.repeat(np.arange(len(sentences), dtype=np.int32), sentences.lengths)
        self._counts = _check_counts(counts, self._words, vocabulary_size)
        self._keep = _keep_probabilities(self._counts, subsampling)
        weights = self._counts.astype(np.float64) ** negative_exponent * (self._counts > 0)
        self._negatives = weights / weights.sum()
        self._window, self._row_length, self._num_negatives = window, row_length, negatives_per_row
        num_rows = _rows_that_hold(self._keep[self._words], row_length - 2 * window)
        self._batch_size = min(tokens_per_batch // row_length, num_rows)
        self._num_rows = num_rows + -num_rows % self._batch_size
        super().__init__(shuffle=shuffle, seed=seed)

    @property
    def num_words(self):
        """The words of the corpus: an epoch reads so many, kept or not."""
        return len(self._words)

    @property
    def counts(self):
        """How often each word occurs, int array `[V]`."""
        return self._counts

    @property
    def keep_probabilities(self):
        """The probability with which an occurrence of each word is kept, float array `[V]`."""
        return self._keep

    @property
    def negative_probabilities(self):
        """The distribution of negative samples, float array `[V]`."""
        return self._negatives

    def pairs_per_batch(self, architecture="skip_gram"):
        """The mean number of pairs of a batch, counted in the epoch that runs or will begin next.

        Args:
            architecture: `"skip_gram"` (default) or `"cbow"`, for which a word and all its context are one pair.

        Returns:
            float.

        Raises:
            ValueError: another architecture.
        """
        if architecture not in ("skip_gram", "cbow"):
            raise ValueError(f"`architecture` must be 'skip_gram' or 'cbow'. Received: architecture={architecture!r}")
        text, *_ = self.item(0)
        pairs = text.num_pairs() if architecture == "skip_gram" else text.num_centers()
        return pairs * self._batch_size / self._num_rows

    def plan(self, rng):
        """Draws what an epoch is made of; see `ResumableDataset.plan`."""
        draw = np.random.default_rng(self._seed) if rng is None else rng
        kept = _with_neighbours(self._sentence_of, draw.random(len(self._words), np.float32) < self._keep[self._words])
        kept = kept[: self._num_rows * (self._row_length - 2 * self._window)]
        radii = draw.integers(1, self._window + 1, len(kept), np.int32)
        text = _Text(self._words[kept], self._sentence_of[kept], radii, self._window)
        ends = np.linspace(0, len(kept), self._num_rows + 1).astype(np.int64)
        order = np.arange(self._num_rows) if rng is None else draw.permutation(self._num_rows)
        negatives = self._draw_negatives(draw)
        batches = order.reshape(-1, self._batch_size)
        return [(text, ends[rows], ends[rows + 1], negatives[rows]) for rows in batches]

    def make_batch(self, item):
        """Looks up one batch; see `ResumableDataset.make_batch`."""
        text, starts, ends, negatives = item
        inputs = text.rows(starts, ends, self._row_length)
        if self._num_negatives:
            inputs["negative_ids"] = negatives
        return (inputs,)

    def _draw_negatives(self, draw):
        """int32 `[rows, M]`, by inversion of the cumulative distribution."""
        cumulative = np.cumsum(self._negatives)
        drawn = draw.random((self._num_rows, self._num_negatives)) * cumulative[-1]
        return np.searchsorted(cumulative, drawn, side="right").astype(np.int32)


class _Text:
    """The words that an epoch keeps, one after another, with W places of padding on both sides."""

    def __init__(self, words, sentence_of, radii, window):
        self._words, self._radii = np.pad(words, window), np.pad(radii, window)
        self._sentence_of = np.pad(sentence_of, window, constant_values=-1)
        self._window = window

    def num_centers(self):
        return np.count_nonzero(self._radii)

    def num_pairs(self):
        """Of each word and its neighbours on both sides, one distance after another."""
        count = 0
        for distance in range(1, self._window + 1):
            is_same = self._sentence_of[distance:] == self._sentence_of[:-distance]
            for radii in (self._radii[distance:], self._radii[:-distance]):
                count += np.count_nonzero(is_same & (radii >= distance))
        return count

    def rows(self, starts, ends, row_length):
        """The arrays of rows whose words in the middle go from `starts` to `ends`."""
        places = starts[:, None] + np.arange(row_length)
        is_inside = places < ends[:, None] + 2 * self._window
        places = np.where(is_inside, places, 0)  # place 0 is padding
        sentences = self._sentence_of[places]
        is_word = sentences >= 0
        first = np.min(np.where(is_word, sentences, np.iinfo(np.int32).max), axis=1, keepdims=True)
        is_center = (places >= starts[:, None] + self._window) & (places < ends[:, None] + self._window)
        return {
            "token_ids": self._words[places],
            "segment_ids": np.where(is_word, sentences - first + 1, 0),
            "radii": self._radii[places] * is_center,
        }


def _with_neighbours(sentence_of, is_kept):
    """The places of the words that are kept, without those that are alone in their sentence then."""
    places = np.flatnonzero(is_kept)
    is_like_next = np.diff(sentence_of[places]) == 0
    edge = np.zeros(min(len(places), 1), bool)
    return places[np.append(is_like_next, edge) | np.append(edge, is_like_next)]


def _keep_probabilities(counts, subsampling):
    """sqrt(t / f) + t / f, at most 1."""
    if not subsampling:
        return np.ones(len(counts))
    ratio = subsampling * counts.sum() / np.maximum(counts, 1)
    return np.minimum(np.sqrt(ratio) + ratio, 1.0)


def _rows_that_hold(keep, words_per_row):
    """The number of rows for all words that are kept: their mean and four standard deviations.

    Every epoch must have the same number. One that keeps more, about one in 30,000, leaves the surplus out.
    """
    most = keep.sum() + 4 * np.sqrt((keep * (1 - keep)).sum())
    return max(-(-min(int(np.ceil(most)), len(keep)) // words_per_row), 1)


def _check_counts(counts, words, vocabulary_size):
    if counts is None:
        return np.bincount(words, minlength=vocabulary_size)
    counts = np.asarray(counts)
    if counts.shape != (vocabulary_size,) or not np.issubdtype(counts.dtype, np.integer) or (counts < 0).any():
        raise ValueError(
            f"`counts` must be an int array of shape ({vocabulary_size},), none negative. "
            f"Received: counts of shape {counts.shape}, dtype {counts.dtype}"
        )
    if not counts[words].all():
        word = int(words[counts[words] == 0][0])
        raise ValueError(f"`counts` must be positive for every word of `token_ids`. Received: counts[{word}]=0")
    return counts


def _check_sizes(least, **sizes):
    for name, size in sizes.items():
        if isinstance(size, bool) or not isinstance(size, int) or size < least:
            raise ValueError(f"`{name}` must be an integer of at least {least}. Received: {name}={size!r}")
