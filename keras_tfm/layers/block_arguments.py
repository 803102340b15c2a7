"""Checks of a block's arguments: each alone, and those that may contradict each other."""

import keras

from keras_tfm.layers.deep_norm import DeepNorm
from keras_tfm.layers.feed_forward import FeedForward
from keras_tfm.layers.gated_feed_forward import GATED_ACTIVATIONS
from keras_tfm.layers.layer_scale import LayerScale
from keras_tfm.layers.re_zero import ReZero
from keras_tfm.layers.residual import Residual
from keras_tfm.layers.sublayer_connection import PLACEMENTS, feed_forward_reads

RESIDUALS = {"deepnorm": DeepNorm, "layer_scale": LayerScale, "rezero": ReZero}
FEED_FORWARDS = ("gated", *GATED_ACTIVATIONS)


def check_size(argument, value):
    """Refuses what is not a positive integer."""
    if not isinstance(value, int) or value <= 0:
        raise ValueError(f"`{argument}` must be a positive integer. Received: {argument}={value!r}")


def check_rates(**rates):
    """Refuses rates outside [0, 1); `None` passes."""
    for argument, rate in rates.items():
        if rate is not None and not 0 <= rate < 1:
            raise ValueError(f"`{argument}` must be in [0, 1). Received: {argument}={rate!r}")


def check_name(argument, value, names):
    """Refuses a string that is not among `names`."""
    if isinstance(value, str) and value not in names:
        raise ValueError(
            f"`{argument}` must be None, a layer or one of {sorted(names)}. Received: {argument}={value!r}"
        )


def resolve_placement(placement, normalize_first, residual):
    """The placement of the norms, from the argument of that name and the inherited `normalize_first`."""
    if placement not in (None, *PLACEMENTS):
        raise ValueError(f"`placement` must be None or one of {sorted(PLACEMENTS)}. Received: placement={placement!r}")
    if placement is not None and normalize_first and "input" not in PLACEMENTS[placement]:
        raise ValueError(
            "`normalize_first=True` contradicts a `placement` without a norm on the input. "
            f"Received: placement={placement!r}, normalize_first=True"
        )
    inherited = "pre" if normalize_first else "post"
    resolved = inherited if placement is None else placement
    is_deep_norm = residual == "deepnorm" if isinstance(residual, str) else isinstance(residual, DeepNorm)
    if is_deep_norm and resolved != "post":
        raise ValueError(
            "`residual='deepnorm'` needs the placement 'post'. "
            f"Received: residual={residual!r}, placement={placement!r}, normalize_first={normalize_first}"
        )
    return resolved


def check_decoder_placement(placement, has_encoder):
    """Refuses cross attention where attention and feed-forward network stand side by side."""
    if has_encoder and feed_forward_reads(placement) != "stream":
        raise ValueError(
            "A parallel `placement` has no place for cross attention: call the layer without `encoder_sequence`. "
            f"Received: placement={placement!r}"
        )


def check_residual(residual):
    """Refuses what is neither `None`, a name nor a `Residual`."""
    check_name("residual", residual, RESIDUALS)
    if not (residual is None or isinstance(residual, (str, Residual))):
        raise ValueError(
            f"`residual` must be None, a `Residual` layer or one of {sorted(RESIDUALS)}. "
            f"Received: residual={residual!r}"
        )


def check_attention(attention, **given):
    """Refuses arguments that a given attention layer settles itself.

    Args:
        attention: the layer, or `None`.
        **given: `num_heads`, which may agree with the layer, and the arguments that must then be `None`.
    """
    if attention is None:
        return
    if not isinstance(attention, keras.layers.Layer):
        raise ValueError(f"`attention` must be None or a layer to copy. Received: attention={attention!r}")
    settled = {"num_heads": getattr(attention, "num_heads", None), "position": getattr(attention, "position", None)}
    for argument, value in given.items():
        own = settled.get(argument)
        agrees = argument == "num_heads" and value == own
        may_be_added = argument == "position" and own is None
        if value is not None and not agrees and not may_be_added:
            raise ValueError(
                f"`{argument}` and `attention` say the same thing twice: leave `{argument}` to the attention layer. "
                f"Received: {argument}={value!r}, attention with {argument}={getattr(attention, argument, None)!r}"
            )


def check_feed_forward(feed_forward, intermediate_dim, activation, activation_dropout):
    """Refuses arguments that a given feed-forward network, or its name, settles itself."""
    check_name("feed_forward", feed_forward, FEED_FORWARDS)
    is_default = activation is keras.activations.relu
    if isinstance(feed_forward, str):
        named = keras.activations.get(GATED_ACTIVATIONS.get(feed_forward, activation))
        if not is_default and activation is not named:
            raise ValueError(
                f"`feed_forward={feed_forward!r}` has an activation of its own; 'gated' takes any. "
                f"Received: feed_forward={feed_forward!r}, activation={_name(activation)!r}"
            )
    if not isinstance(feed_forward, keras.layers.Layer):
        return
    size = getattr(feed_forward, "intermediate_dim", intermediate_dim)
    own = getattr(feed_forward, "activation", activation)
    for argument, value, is_fine in (
        ("intermediate_dim", intermediate_dim, intermediate_dim in (None, size)),
        ("activation", _name(activation), is_default or activation is own),
        ("activation_dropout", activation_dropout, not activation_dropout),
    ):
        if not is_fine:
            raise ValueError(
                f"`{argument}` and `feed_forward` contradict each other: leave `{argument}` to the layer. "
                f"Received: {argument}={value!r}, feed_forward={feed_forward!r}"
            )


def check_skip_padding(skip_padding, normalization, feed_forward, stochastic_depth):
    """Refuses parts that may not treat each token by itself, where padding is left out."""
    if not isinstance(skip_padding, bool):
        raise ValueError(f"`skip_padding` must be True or False. Received: skip_padding={skip_padding!r}")
    if not skip_padding:
        return
    for argument, value, is_fine in (
        ("normalization", normalization, isinstance(normalization, str)),
        ("feed_forward", feed_forward, feed_forward is None or isinstance(feed_forward, (str, FeedForward))),
        ("stochastic_depth", stochastic_depth, not stochastic_depth),
    ):
        if not is_fine:
            raise ValueError(
                "`skip_padding=True` needs parts that treat each token by itself: the name of a norm, `FeedForward` or "
                "`GatedFeedForward`, and no stochastic depth. "
                f"Received: skip_padding=True, {argument}={value!r}"
            )


def check_memory(cross_attention, encoder_sequence, self_cache, cross_cache):
    """Refuses calls of a decoder that do not fit the inputs it was built for; `cross_attention` is its layer."""
    has_memory = encoder_sequence is not None or cross_cache is not None
    if (cross_attention is not None) != has_memory:
        built, called = ("without", "with") if cross_attention is None else ("with", "without")
        raise ValueError(
            f"This layer was built {built} cross attention and is called {called} `encoder_sequence`: "
            f"the inputs of a `TransformerDecoder` must not change. Received: encoder_sequence={encoder_sequence}"
        )
    if cross_attention is not None and (self_cache is None) != (cross_cache is None):
        raise ValueError(
            "`self_attention_cache` and `cross_attention_cache` must both be given or both be `None`. Received: "
            f"self_attention_cache={type(self_cache).__name__}, cross_attention_cache={type(cross_cache).__name__}"
        )


def _name(activation):
    return getattr(activation, "__name__", activation)
