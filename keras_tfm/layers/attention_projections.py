"""The projections of multi-head attention."""

import keras
from keras import ops


def make_projection(layer, name, shape, heads, activation=None):
    """A built dense layer from `shape (B, *axes, D)` to `(B, *axes, *heads)`, configured as `layer` is."""
    free = "abcdefgh"[: len(shape) - 1]
    make = keras.layers.EinsumDense
    if heads[-1] == 1:
        free, make = "a", _OneFeatureHeads
    dense = make(
        f"{free}x,xyz->{free}yz",
        output_shape=(*(None for _ in free[1:]), *heads),
        bias_axes="yz" if layer.use_bias else None,
        activation=activation,
        name=name,
        **layer._get_common_kwargs_for_sublayer(),
    )
    dense.supports_masking = True
    dense.build(shape)
    return dense


class _OneFeatureHeads(keras.layers.EinsumDense):
    """Projects to heads of one feature, tokens in one axis.

    Keras 3.15 on TensorFlow takes a bias `[N, 1]` for one of channels, and adds it along the tokens where T = N.
    """

    def build(self, input_shape):
        super().build((None, input_shape[-1]))
        self.input_spec = None

    def call(self, inputs, training=None):
        return self._by_token(super().call, inputs)

    def quantized_call(self, inputs, *args, **kwargs):
        return self._by_token(super().quantized_call, inputs)

    def _by_token(self, call, inputs):
        outputs = call(ops.reshape(inputs, (-1, inputs.shape[-1])))
        return ops.reshape(outputs, (*ops.shape(inputs)[:-1], *outputs.shape[1:]))
