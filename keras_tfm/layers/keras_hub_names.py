"""The names under which a block's parts stand in files of weights: those of `keras_hub`'s blocks."""

_PARTS = {
    *("self_attention", "self_attention_norm", "self_attention_dropout"),
    *("cross_attention", "cross_attention_norm", "cross_attention_dropout"),
    *("feed_forward", "feed_forward_norm", "feed_forward_dropout"),
}


class KerasHubNames:
    """Mixin of blocks: files of theirs and of `keras_hub`'s load into the other.

    Files of weights are named after what `dir` lists. It lists the parts under the names that `keras_hub`'s blocks give
    them; what only ours have comes after them.
    """

    def __dir__(self):
        return [name for name in super().__dir__() if name not in _PARTS]

    _self_attention_layer = property(lambda self: self.self_attention)
    _self_attention_layer_norm = property(lambda self: self.self_attention_norm)
    _self_attention_dropout = property(lambda self: self.self_attention_dropout)
    _feedforward_intermediate_dense = property(lambda self: self.feed_forward.intermediate_dense)
    _feedforward_output_dense = property(lambda self: self.feed_forward.output_dense)
    _feedforward_layer_norm = property(lambda self: self.feed_forward_norm)
    _feedforward_dropout = property(lambda self: self.feed_forward_dropout)
    _feedforward_parts = property(lambda self: self.feed_forward)
    _cross_attention_layer = property(lambda self: self.cross_attention)
    _cross_attention_layer_norm = property(lambda self: self.cross_attention_norm)
    _cross_attention_dropout = property(lambda self: self.cross_attention_dropout)
