"""Batches of labelled sentences."""

from itertools import chain

import numpy as np

from keras_tfm.text.batches import SequenceBatches
from keras_tfm.text.ragged import RaggedArray


class TaggingBatches(SequenceBatches):
    """Cuts sentences with a label a token into batches for a `SequenceTagger`.

    A batch is `({"token_ids": [B, T], "character_ids": [B, T, C]}, labels [B, T])`, all int32; without
    `character_ids` the first has `token_ids` alone, without `labels` it is `(inputs,)` for `predict`.

    Args:
        token_ids: list of lists of ints, the words of each sentence.
        labels: list of lists of ints, the label of each word, or `None`. `pad_id` is not a label: it marks what the
            loss ignores.
        character_ids: list of lists of lists of ints, the characters of each word of each sentence, or `None`.
        character_length: int, C; of a longer word the first characters are taken. Defaults to `16`.
        num_classes: int or `None`; labels outside `[0, num_classes)` are refused.
        character_vocabulary_size: int or `None`; characters outside are refused.
        **options: see `SequenceBatches`; `vocabulary_size` is that of the words.

    Raises:
        ValueError: as `SequenceBatches`, and if labels or characters do not fit the words.

    Example:

    >>> from keras_tfm.text import TaggingBatches
    >>> batches = TaggingBatches([[5, 6], [7]], [[1, 2], [2]], tokens_per_batch=8, row_multiple=2, shuffle=False)
    >>> inputs, labels = batches[0]
    >>> labels
    array([[1, 2, 0, 0],
           [2, 0, 0, 0]], dtype=int32)
    """

    def __init__(
        self,
        token_ids,
        labels=None,
        *,
        character_ids=None,
        character_length=16,
        num_classes=None,
        character_vocabulary_size=None,
        **options,
    ):
        super().__init__({"token_ids": token_ids}, **options)
        self._labels = self._characters = None
        if labels is not None:
            self._labels = RaggedArray(labels, "labels")
            self._labels.check(self.pad_id, num_classes)
            self._check_fit("labels", self._labels.lengths)
        if character_ids is not None:
            self._check_fit("character_ids", np.array([len(words) for words in character_ids]))
            words = RaggedArray(list(chain.from_iterable(character_ids)), "character_ids")
            words.check(self.pad_id, character_vocabulary_size)
            # The last row is padding: where `places` points for what is no word.
            self._characters = words.pad(np.append(np.arange(len(words)), -1), character_length, self.pad_id)

    def make_batch(self, item):
        """Cuts one batch; see `ResumableDataset.make_batch`."""
        (inputs,) = super().make_batch(item)
        sentences, width = self._sentences(item[1]), inputs["token_ids"].shape[1]
        if self._characters is not None:
            places, _ = self._streams["token_ids"].places(sentences, width)
            inputs["character_ids"] = self._characters[places]
        if self._labels is None:
            return (inputs,)
        return inputs, self._labels.pad(sentences, width, self.pad_id)

    def _check_fit(self, name, lengths):
        words = self._streams["token_ids"].lengths
        if len(lengths) != len(words):
            raise ValueError(f"`{name}` must have one entry a sentence, {len(words)}. Received: {len(lengths)}")
        if (lengths != words).any():
            sentence = int((lengths != words).argmax())
            raise ValueError(
                f"`{name}` must have one entry a word. Received: sentence {sentence} with {words[sentence]} words "
                f"and {lengths[sentence]} of `{name}`"
            )
