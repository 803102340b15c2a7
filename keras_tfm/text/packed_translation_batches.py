"""Batches of rows that hold several sentence pairs each."""

from keras_tfm.text.packed_batches import PackedSequences
from keras_tfm.text.ragged import RaggedArray


class PackedTranslationBatches(PackedSequences):
    """Packs sentence pairs into full rows, for a `Seq2SeqTransformer` that was made `packed=True`.

    A pair lies in one row: its source in the row of sources, its target in that of targets, under the same segment.
    A batch is `(inputs, labels [B, T])`, where `inputs` are `"source_ids"`, `"source_segment_ids"`,
    `"source_positions"` `[B, S]` and `"target_ids"`, `"target_segment_ids"`, `"target_positions"` `[B, T]`, all int32.
    Segments count 1, 2, ... in each row, 0 is padding; positions begin with 0 in each segment. Each target begins with
    `start_id`, its labels are the same tokens one step ahead and end with `end_id`, as in `TranslationBatches`. All
    batches have one shape.

    Args:
        sources: list of lists of ints, the source sentences, as the encoder is to see them.
        targets: list of lists of ints, the target sentences, without start and end.
        source_length: int, S; no source may be longer.
        target_length: int, T; no target with its start or end may be longer. `None` (default) means `source_length`.
        start_id: int. Defaults to `1`.
        end_id: int. Defaults to `2`.
        vocabulary_size: int or `None`, size of the vocabulary, of the source's where there are two.
        target_vocabulary_size: int or `None`, size of the target's vocabulary if it is another.
        tokens_per_batch: int, the most tokens of a batch on either side, B times the longer row. Defaults to `4096`.
        pad_id: int. Defaults to `0`.
        shuffle: bool; `False` gives every epoch the same order. Defaults to `True`.
        seed: int. Defaults to `0`.

    Raises:
        ValueError: as `PackedBatches`, sides of different size, or a target that holds `start_id` or `end_id`.

    Example:

    >>> from keras_tfm.text import PackedTranslationBatches
    >>> batches = PackedTranslationBatches([[5, 6], [7]], [[8, 9], [6]], source_length=4, target_length=5)
    >>> inputs, labels = batches[0]
    >>> inputs["source_ids"], inputs["source_segment_ids"]
    (array([[5, 6, 7, 0]], dtype=int32), array([[1, 1, 2, 0]], dtype=int32))
    >>> inputs["target_ids"], labels
    (array([[1, 8, 9, 1, 6]], dtype=int32), array([[8, 9, 2, 6, 2]], dtype=int32))
    """

    def __init__(
        self,
        sources,
        targets,
        *,
        source_length,
        target_length=None,
        start_id=1,
        end_id=2,
        vocabulary_size=None,
        target_vocabulary_size=None,
        tokens_per_batch=4096,
        pad_id=0,
        shuffle=True,
        seed=0,
    ):
        if len(sources) != len(targets):
            raise ValueError(
                "`sources` and `targets` must be of the same number of sentences. "
                f"Received: {len(sources)} sources, {len(targets)} targets"
            )
        source_ids, plain = RaggedArray(sources, "source_ids"), RaggedArray(targets, "target_ids")
        source_ids.check(pad_id, vocabulary_size)
        plain.check(pad_id, target_vocabulary_size or vocabulary_size)
        for name, index in (("start_id", start_id), ("end_id", end_id)):
            sentence = plain.find(index)
            if sentence is not None:
                raise ValueError(f"`targets` must not hold {name}={index}, it is added. Received: sentence {sentence}")
        target_ids = RaggedArray([[start_id, *target] for target in targets], "target_ids")
        labels = RaggedArray([[*target, end_id] for target in targets], "labels")
        super().__init__(
            {"source_": {"source_ids": source_ids}, "target_": {"target_ids": target_ids, "labels": labels}},
            [source_length, source_length if target_length is None else target_length],
            tokens_per_batch=tokens_per_batch,
            pad_id=pad_id,
            shuffle=shuffle,
            seed=seed,
        )

    def make_batch(self, item):
        """Cuts one batch; see `ResumableDataset.make_batch`."""
        inputs = self.arrays(item)
        return inputs, inputs.pop("labels")
