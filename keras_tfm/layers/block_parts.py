"""Makes the parts of a block: attention, feed-forward network, and what its kernels start with."""

import functools

from keras_tfm.layers.attention_hook import overrides_attention, parts_of_scores
from keras_tfm.layers.feed_forward import FeedForward
from keras_tfm.layers.gated_feed_forward import GATED_ACTIVATIONS, GatedFeedForward
from keras_tfm.layers.multi_head_attention import MultiHeadAttention
from keras_tfm.layers.parts import clone_initializer, clone_part, get_part
from keras_tfm.layers.scaled_initializer import ScaledInitializer


def make_feed_forward(value, activation, dtype, name, **options):
    """A feed-forward network for `None`, a name, or a layer to copy.

    Args:
        value: `None` for `FeedForward`, `"gated"` for `GatedFeedForward` with the activation, a name from
            `GATED_ACTIVATIONS`, or a layer.
        activation: for `None` and `"gated"`.
        dtype: dtype policy.
        name: name of the layer.
        **options: the other arguments of `FeedForward`, for those named.
    """
    activations = {"gated": activation, **GATED_ACTIVATIONS}
    parts = {
        kind: functools.partial(GatedFeedForward, activation=gate, dtype=dtype, name=name, **options)
        for kind, gate in activations.items()
    }
    layer = get_part("feed_forward", value, parts)
    if layer is None:
        return FeedForward(activation=activation, dtype=dtype, name=name, **options)
    return clone_part(layer, dtype=dtype, name=name) if layer is value else layer


def make_attention(num_heads, width, gain, **options):
    """`MultiHeadAttention` whose heads have together the width of the inputs; `gain` is of its initial kernels."""
    if width is None or num_heads is None or width % num_heads:
        raise ValueError(
            f"`num_heads` must divide the width of the inputs. Received: num_heads={num_heads}, inputs of width {width}"
        )
    make = MultiHeadAttention if gain == 1 else functools.partial(_GainedAttention, gain)
    return make(num_heads, width // num_heads, **options)


def copy_attention(attention, position, **options):
    """A copy of a given attention layer, with a position method if that is not `None`."""
    if position is not None:
        options["position"] = position
    return clone_part(attention, **options)


def make_initializer(initializer, gain):
    """A fresh initializer of the same kind, its values times `gain`."""
    initializer = clone_initializer(initializer)
    return initializer if gain == 1 else ScaledInitializer(initializer, gain)


class _GainedAttention(MultiHeadAttention):
    """Attention whose value and output kernels start `gain` times as large: DeepNorm's initialization."""

    def __init__(self, gain, *args, **kwargs):
        super().__init__(*args, **kwargs)
        self._gain = gain

    def _make_projection(self, name, *args, **kwargs):
        initializer = self._kernel_initializer
        if name == "value":
            self._kernel_initializer = make_initializer(initializer, self._gain)
        projection = super()._make_projection(name, *args, **kwargs)
        self._kernel_initializer = initializer
        return projection

    def _make_output_dense(self, query_shape, common_kwargs, name=None):
        initializer = make_initializer(common_kwargs["kernel_initializer"], self._gain)
        return super()._make_output_dense(query_shape, {**common_kwargs, "kernel_initializer": initializer}, name)


_FEWEST_SCORES = 1 << 16  # of a sequence; below, calls for each cost more than they save


def attends_in_runs(layer, length):
    """Whether a kernel gives an attention layer's scores for sequences in one row at less cost than for rows.

    Others would compute, and hold, the scores of all pairs of the row. `length` is that of a sequence, padded.
    """
    if not isinstance(layer, MultiHeadAttention) or type(layer).call is not MultiHeadAttention.call:
        return False
    parts = *parts_of_scores(layer).values(), layer.attention_pattern, layer.sliding_window
    is_plain = all(part is None for part in parts) and not overrides_attention(layer)
    is_long = layer.num_heads * length**2 >= _FEWEST_SCORES
    return is_plain and is_long and (layer.compute_dtype == "float32" or not layer.dropout)
