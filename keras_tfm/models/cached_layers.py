"""How each kind of layer reads tokens one after the other: through a cache, by positions, or token by token."""

import keras
from keras import ops

from keras_tfm import layers
from keras_tfm.layers.decoder_cache import DecoderCache
from keras_tfm.layers.reversible_projection import ReversibleProjection
from keras_tfm.layers.sublayer_calls import project_memory

_POSITIONAL = (
    layers.PositionalEmbedding,
    layers.TokenAndPositionEmbedding,
    layers.PositionEmbedding,
    layers.SinePositionEncoding,
)
_TOKEN_WISE = (
    *(keras.layers.Dense, keras.layers.Embedding, keras.layers.ReversibleEmbedding, keras.layers.Identity),
    *(keras.layers.LayerNormalization, keras.layers.RMSNormalization, keras.layers.Dropout, keras.layers.Activation),
    *(keras.layers.Add, keras.layers.Subtract, keras.layers.Multiply, keras.layers.Average, keras.layers.Maximum),
    *(keras.layers.Minimum, keras.layers.Rescaling, keras.layers.ReLU, keras.layers.LeakyReLU, keras.layers.PReLU),
    *(layers.FeedForward, layers.GatedFeedForward, ReversibleProjection, layers.Residual, layers.TokenDropout),
    *(layers.ReZero, layers.LayerScale, layers.DeepNorm, layers.StochasticDepth, layers.MaskedLMHead),
)
_TOKEN_WISE_OPERATIONS = {
    *("Add", "Subtract", "Multiply", "Divide", "TrueDivide", "Negative", "Maximum", "Minimum", "Power", "Square"),
    *("Sqrt", "Rsqrt", "Exp", "Log", "Tanh", "Sigmoid", "Relu", "Gelu", "Silu", "Softplus", "Elu", "Cast", "Clip"),
    *("NotEqual", "Equal", "Greater", "GreaterEqual", "Less", "LessEqual", "LogicalAnd", "LogicalOr", "LogicalNot"),
}


class TokenWise:
    """A layer that treats each token by itself, or a layer that adds positions."""

    def __init__(self, call):
        self.call = call

    @staticmethod
    def fits(call, of_source):
        """Whether the call is of this kind; `of_source` are the numbers of slots that no target token changes."""
        layer = call.layer
        if isinstance(layer, _POSITIONAL):
            return True
        if any(slot.number in of_source for slot in call.slots):
            return False
        if not isinstance(layer, keras.layers.Layer):
            return type(layer).__name__ in _TOKEN_WISE_OPERATIONS
        return isinstance(layer, _TOKEN_WISE) or getattr(layer, "is_token_wise", False) is True

    def create_cache(self, batch_size, length, kind):
        """Nothing."""
        return ()

    def project(self, values):
        """Nothing."""
        return ()

    def run(self, values, cache, index, positions, padding_mask, memory):
        """Puts the outputs for the new tokens into `values`; returns the cache."""
        args, kwargs = self.call.arguments(values)
        if isinstance(self.call.layer, _POSITIONAL) and not kwargs.get("reverse"):
            kwargs = {**kwargs, "positions": positions}
        self.call.store(values, self.call.layer(*args, **_at_inference(self.call.layer, kwargs)))
        return cache


class Decoder:
    """A `TransformerDecoder` or a stack of them."""

    def __init__(self, call):
        self.call, self.layer = call, call.layer
        names = ("decoder_sequence", "encoder_sequence")
        self.arguments = {**dict(zip(names, call.args, strict=False)), **call.kwargs}
        self.source = self.arguments.pop("encoder_sequence", None)
        self.source_padding = self.arguments.pop("encoder_padding_mask", None)

    @staticmethod
    def fits(call, of_source):
        """Whether the call is of a causal decoder, given nothing that a cache would have to know."""
        if not isinstance(call.layer, (layers.TransformerDecoder, layers.TransformerDecoderStack)):
            return False
        known = {"decoder_sequence", "encoder_sequence", "encoder_padding_mask", "mask", "training"}
        known |= {"decoder_sequence_mask", "encoder_sequence_mask", "use_causal_mask"}
        given = {name for name, value in call.kwargs.items() if value is not None and value is not False}
        is_causal = call.kwargs.get("use_causal_mask", True) is True
        return is_causal and len(call.args) <= 2 and given <= known

    @property
    def _blocks(self):
        return self.layer.passes if isinstance(self.layer, layers.TransformerDecoderStack) else [self.layer]

    def create_cache(self, batch_size, length, kind):
        """One cache for each pass through a block."""
        options = {} if kind is None else {"kind": kind}
        return tuple(block.self_attention.create_cache(batch_size, length, **options) for block in self._blocks)

    def project(self, values):
        """Keys and values of the source for each pass through a block, and where it is real: `()` for all of it."""
        if self.source is None:
            return ()
        source = values[self.source.number]
        mask = _implicit_mask(source)
        if self.source_padding is not None:
            given = values[self.source_padding.number]
            mask = given if mask is None else ops.logical_and(mask, given)
        caches = tuple(project_memory(block.cross_attention, source, mask) for block in self._blocks)
        return caches, (() if mask is None else mask)

    def run(self, values, cache, index, positions, padding_mask, memory):
        """Puts the output for the new tokens into `values`; returns the cache."""
        cross_caches, source_mask = memory or ((), ())
        x = values[self.arguments["decoder_sequence"].number]
        options = {"decoder_padding_mask": padding_mask, "training": False}
        options["encoder_padding_mask"] = None if isinstance(source_mask, tuple) else source_mask
        if isinstance(self.layer, layers.TransformerDecoderStack):
            caches = DecoderCache(cache, cross_caches)
            x, caches = self.layer(x, cache=caches, cache_update_index=index, **options)
            cache = caches.self_attention
        else:
            x, own, *_ = self.layer(
                x,
                self_attention_cache=cache[0],
                self_attention_cache_update_index=index,
                cross_attention_cache=cross_caches[0] if cross_caches else None,
                **options,
            )
            cache = (own,)
        self.call.store(values, x)
        return cache


class SelfAttention:
    """A causal attention layer with caches of its own, from a sequence to itself."""

    def __init__(self, call):
        self.call, self.layer = call, call.layer

    @staticmethod
    def fits(call, of_source):
        """Whether the call is causal, of one sequence, and given nothing that a cache would have to know."""
        slots = [slot for slot in call.args if slot is not None]
        if not hasattr(call.layer, "create_cache") or isinstance(call.layer, layers.TransformerDecoderStack):
            return False
        given = {name for name, value in call.kwargs.items() if value is not None and value is not False}
        known = {"use_causal_mask", "training", "query_mask", "value_mask", "key_mask", "mask"}
        known |= {name for name in ("value", "key") if call.kwargs.get(name) is slots[0]}
        is_causal = call.kwargs.get("use_causal_mask") is True
        return is_causal and len({slot.number for slot in slots}) == 1 and given <= known

    def create_cache(self, batch_size, length, kind):
        """The layer's cache."""
        return self.layer.create_cache(batch_size, length, **({} if kind is None else {"kind": kind}))

    def project(self, values):
        """Nothing."""
        return ()

    def run(self, values, cache, index, positions, padding_mask, memory):
        """Puts the output for the new tokens into `values`; returns the cache."""
        x = values[self.call.args[0].number]
        options = {} if padding_mask is None else {"padding_mask": padding_mask}
        x, cache = self.layer(
            x, x, use_causal_mask=True, cache=cache, cache_update_index=index, training=False, **options
        )
        self.call.store(values, x)
        return cache


KINDS = (Decoder, SelfAttention, TokenWise)


def decoding_of(call, of_source):
    """How a call decodes: an instance of one of `KINDS`, or `None` where it cannot."""
    for kind in KINDS:
        if kind.fits(call, of_source):
            return kind(call)
    return None


class _MaskReader(keras.layers.Layer):
    """Keeps the implicit mask that Keras hands to it; tracers of some backends hold none as an attribute."""

    def __init__(self):
        super().__init__(name="mask_reader", dtype="float32", autocast=False)
        self.supports_masking = True
        self.mask = None

    def call(self, inputs, mask=None):
        self.mask = mask
        return inputs


def _implicit_mask(tensor):
    reader = _MaskReader()
    reader(tensor)
    return reader.mask


def _at_inference(layer, kwargs):
    return {**kwargs, "training": False} if "training" in kwargs else kwargs
