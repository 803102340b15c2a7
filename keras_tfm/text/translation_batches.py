"""Batches of sentence pairs."""

import numpy as np

from keras_tfm.text.batches import SequenceBatches


class TranslationBatches(SequenceBatches):
    """Cuts sentence pairs into batches for an encoder and decoder.

    A batch is `({"source_ids": [B, S], "target_ids": [B, T]}, labels [B, T])`, all int32. `target_ids` begin with
    `start_id`, `labels` are the same tokens one step ahead and end with `end_id`; both have padding in the same
    places, and a loss that ignores `pad_id` counts every token and every end once.

    Args:
        sources: list of lists of ints, the source sentences, as the encoder is to see them.
        targets: list of lists of ints, the target sentences, without start and end.
        start_id: int. Defaults to `1`.
        end_id: int. Defaults to `2`.
        vocabulary_size: int or `None`, size of the vocabulary, of the source's where there are two.
        target_vocabulary_size: int or `None`, size of the target's vocabulary if it is another.
        **options: see `SequenceBatches`; lengths count the start or end of a target.

    Raises:
        ValueError: as `SequenceBatches`, and if a target holds `start_id` or `end_id`.

    Example:

    >>> from keras_tfm.text import TranslationBatches
    >>> batches = TranslationBatches([[5, 6], [7]], [[8, 9, 4], [6, 5]], tokens_per_batch=8)
    >>> inputs, labels = batches[0]
    >>> sorted(inputs), inputs["target_ids"][:, 0], inputs["target_ids"].shape == labels.shape
    (['source_ids', 'target_ids'], array([1, 1], dtype=int32), True)
    """

    def __init__(
        self,
        sources,
        targets,
        *,
        start_id=1,
        end_id=2,
        vocabulary_size=None,
        target_vocabulary_size=None,
        **options,
    ):
        self.start_id, self.end_id = start_id, end_id
        sizes = {"source_ids": vocabulary_size, "target_ids": target_vocabulary_size or vocabulary_size}
        super().__init__({"source_ids": sources, "target_ids": targets}, vocabulary_size=sizes, **options)
        for name, index in (("start_id", start_id), ("end_id", end_id)):
            sentence = self._streams["target_ids"].find(index)
            if sentence is not None:
                raise ValueError(f"`targets` must not hold {name}={index}, it is added. Received: sentence {sentence}")

    def make_batch(self, item):
        """Cuts one batch; see `ResumableDataset.make_batch`."""
        (inputs,) = super().make_batch(item)
        targets = inputs["target_ids"]
        lengths = np.count_nonzero(targets != self.pad_id, axis=1)
        is_real = np.flatnonzero(lengths)
        labels = targets.copy()
        labels[is_real, lengths[is_real]] = self.end_id
        shifted = np.full_like(targets, self.pad_id)
        shifted[:, 1:] = targets[:, :-1]
        shifted[is_real, 0] = self.start_id
        return inputs | {"target_ids": shifted}, labels

    def _padded_lengths(self):
        return super()._padded_lengths() + np.array([0, 1])
