"""Batches of sentences with hidden tokens."""

import numpy as np

from keras_tfm.text.batches import SequenceBatches
from keras_tfm.text.masked_language import TokenMasking
from keras_tfm.text.ragged import RaggedArray


class MaskedLanguageBatches(SequenceBatches):
    """Cuts sentences into batches with hidden tokens, for a `MaskedLM`.

    A batch is `({"token_ids": [B, T]}, targets [B, T])`, int32: targets are the tokens at the hidden places and
    `pad_id` elsewhere, which `TokenCrossEntropy` ignores. With `mask_positions` it is `({"token_ids": [B, T],
    "mask_positions": [B, P]}, targets [B, P])`, with P the same in all batches of one width; places that a row does
    not need are 0 with the target `pad_id`.

    Args:
        token_ids: list of lists of ints, one list a sentence.
        masking: a `TokenMasking`; its `vocabulary_size` bounds the ids.
        word_ids: list of lists of ints that are not negative, the number of the word of each token, for whole words
            and spans; `None`: each token is a word.
        dynamic: bool; `True` (default) hides other tokens in each epoch, `False` the same in all. Both depend on
            `seed` alone, and on the epoch: a resumed run sees what the interrupted one would have.
        mask_positions: bool, whether to give the places, for `MaskedLM(mask_positions=True)`. Defaults to `False`.
        **options: see `SequenceBatches`.

    Raises:
        ValueError: as `SequenceBatches`; `word_ids` that do not fit the tokens; another `pad_id` than the masking's.

    Reference:
        Devlin et al. 2019, "BERT", section 3.1; Liu et al. 2019, "RoBERTa", section 4.1 (static and dynamic).

    Example:

    >>> import numpy as np
    >>> from keras_tfm.text import MaskedLanguageBatches, TokenMasking
    >>> sentences = [[5, 6, 7], [8, 9, 4]]
    >>> batches = MaskedLanguageBatches(sentences, TokenMasking(30, mask_id=29), row_multiple=1, shuffle=False)
    >>> inputs, targets = batches[0]
    >>> np.where(targets > 0, targets, inputs["token_ids"])
    array([[5, 6, 7, 0],
           [8, 9, 4, 0]], dtype=int32)
    """

    def __init__(self, token_ids, masking, *, word_ids=None, dynamic=True, mask_positions=False, **options):
        if not isinstance(masking, TokenMasking):
            raise ValueError(f"`masking` must be a TokenMasking. Received: masking={masking!r}")
        super().__init__({"token_ids": token_ids}, **{"vocabulary_size": masking.vocabulary_size, **options})
        if masking.pad_id != self.pad_id:
            raise ValueError(f"`pad_id` must be that of `masking`, {masking.pad_id}. Received: pad_id={self.pad_id}")
        self._masking, self._mask_positions = masking, mask_positions
        self._words = None if word_ids is None else self._check_words(RaggedArray(word_ids, "word_ids"))
        self._longest_word = 1 if word_ids is None else _longest_run(self._words)
        self._static = None if dynamic else self._mask_once()

    def make_batch(self, item):
        """Cuts one batch; see `ResumableDataset.make_batch`."""
        sentences, width = self._sentences(item[1]), int(self._buckets.widths[item[0]][0])
        if self._static is not None:
            masked_ids, targets = (stream.pad(sentences, width, self.pad_id) for stream in self._static)
        else:
            # The first sentence tells the batches of an epoch apart.
            masked_ids, targets = self._mask(sentences, width, [self._seed, 1 + self.epoch, int(sentences[0])])
        if not self._mask_positions:
            return {"token_ids": masked_ids}, targets
        positions = self._places(targets, self._masking.most(width, self._longest_word))
        targets = np.where(positions < 0, self.pad_id, np.take_along_axis(targets, np.maximum(positions, 0), axis=1))
        inputs = {"token_ids": masked_ids, "mask_positions": np.maximum(positions, 0).astype(np.int32)}
        return inputs, targets.astype(np.int32)

    def _mask(self, sentences, width, seed):
        ids = self._streams["token_ids"].pad(sentences, width, self.pad_id)
        words = None if self._words is None else self._words.pad(sentences, width, -1)
        return self._masking(ids, np.random.default_rng(seed), words)

    def _places(self, targets, num):
        """int `[B, P]`: where tokens are hidden, from left to right, -1 where there are no more."""
        order = np.argsort(targets == self.pad_id, axis=1, kind="stable")[:, :num]
        return np.where(np.take_along_axis(targets, order, axis=1) == self.pad_id, -1, order)

    def _mask_once(self):
        """The masked ids and the targets of all sentences, as two `RaggedArray`s."""
        stream = self._streams["token_ids"]
        flat = [np.full_like(stream.values, self.pad_id) for _ in range(2)]
        for bucket, rows in self._buckets.deal(None):
            sentences, width = self._sentences(rows), int(self._buckets.widths[bucket][0])
            places, is_real = stream.places(sentences, width)
            for values, masked in zip(
                flat, self._mask(sentences, width, [self._seed, 0, int(sentences[0])]), strict=True
            ):
                values[places[is_real]] = masked[is_real]
        ends = np.cumsum(stream.lengths)[:-1]
        return [RaggedArray(np.split(values[:-1], ends)) for values in flat]

    def _check_words(self, words):
        words.check(pad_id=-1)
        lengths = self._streams["token_ids"].lengths
        if not np.array_equal(words.lengths, lengths):
            raise ValueError(
                "`word_ids` must have one entry a token. "
                f"Received: {words.lengths[:5].tolist()} ... entries for {lengths[:5].tolist()} ... tokens"
            )
        return words


def _longest_run(words):
    """The most neighbours with the same number within a sequence."""
    values, is_start = words.values[:-1], np.zeros(len(words.values) - 1, bool)
    is_start[words.starts] = True
    is_start[1:] |= values[1:] != values[:-1]
    return int(np.diff(np.append(np.flatnonzero(is_start), len(values))).max())
