"""Batches of sentences with one label each."""

import numpy as np

from keras_tfm.text.batches import SequenceBatches
from keras_tfm.text.checks import check_token_ids


class ClassificationBatches(SequenceBatches):
    """Cuts sentences with one label each into batches for a `SequenceClassifier`.

    A batch is `({"token_ids": [B, T]}, labels [B], sample_weight [B])`, int32, int32 and float32. The weight is 0 for
    the rows of padding that fill up the last batch, so compile the model with `weighted_metrics`.

    Args:
        token_ids: list of lists of ints, the tokens of each sentence.
        labels: list of ints, the label of each sentence.
        num_classes: int or `None`; labels outside `[0, num_classes)` are refused.
        **options: see `SequenceBatches`.

    Raises:
        ValueError: as `SequenceBatches`, and if the labels do not fit.

    Example:

    >>> from keras_tfm.text import ClassificationBatches
    >>> batches = ClassificationBatches([[5, 6], [7], [4]], [1, 0, 1], tokens_per_batch=16, shuffle=False)
    >>> inputs, labels, weights = batches[0]
    >>> labels, weights
    (array([1, 0, 1, 0], dtype=int32), array([1., 1., 1., 0.], dtype=float32))
    """

    def __init__(self, token_ids, labels, *, num_classes=None, **options):
        super().__init__({"token_ids": token_ids}, **options)
        labels = np.asarray(labels)
        if labels.shape != (len(token_ids),):
            raise ValueError(f"`labels` must be one int a sentence, {len(token_ids)}. Received: shape {labels.shape}")
        check_token_ids(labels, np.iinfo(np.int32).max if num_classes is None else num_classes, name="labels")
        self._labels = labels.astype(np.int32)

    def make_batch(self, item):
        """Cuts one batch; see `ResumableDataset.make_batch`."""
        (inputs,) = super().make_batch(item)
        sentences = self._sentences(item[1])
        is_real = sentences >= 0
        return inputs, np.where(is_real, self._labels[sentences], np.int32(0)), is_real.astype(np.float32)
