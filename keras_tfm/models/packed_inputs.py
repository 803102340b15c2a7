"""What a model reads besides ids where rows hold several sequences each: segments and positions."""

import keras


class PackedInputs:
    """Two more inputs of a Functional model, or none.

    Args:
        packed: whether rows hold several sequences.
        prefix: of the names, such as `"source_"`.

    Example:

    >>> from keras_tfm.models.packed_inputs import PackedInputs
    >>> sorted(PackedInputs(True, "source_").named)
    ['source_positions', 'source_segment_ids']
    >>> PackedInputs(False).named
    {}
    """

    def __init__(self, packed, prefix=""):
        names = [f"{prefix}segment_ids", f"{prefix}positions"] if packed else []
        self.named = {name: keras.Input((None,), dtype="int32", name=name) for name in names}
        self._both = tuple(self.named.values()) or (None, None)

    @property
    def segment_ids(self):
        """int `[B, T]`, or `None`: tokens attend within their segment."""
        return self._both[0]

    @property
    def positions(self):
        """int `[B, T]`, or `None` for those by index: where each token stands in its sequence."""
        return self._both[1]

    def positions_of_attention(self, position):
        """What attention is to be told: nothing if it has no relative `position`, for it knows the order by index."""
        return None if position is None else self.positions
