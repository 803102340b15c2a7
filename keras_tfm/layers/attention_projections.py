"""The projections of multi-head attention."""

import keras


def make_projection(layer, name, shape, heads, activation=None):
    """A built dense layer from `shape (B, *axes, D)` to `(B, *axes, *heads)`, configured as `layer` is."""
    free = "abcdefgh"[: len(shape) - 1]
    dense = keras.layers.EinsumDense(
        f"{free}x,xyz->{free}yz",
        output_shape=(*(None for _ in shape[1:-1]), *heads),
        bias_axes="yz" if layer.use_bias else None,
        activation=activation,
        name=name,
        **layer._get_common_kwargs_for_sublayer(),
    )
    dense.supports_masking = True
    dense.build(shape)
    return dense
