"""The projections of multi-head attention."""

from keras import ops

from keras_tfm.layers.token_dense import TokenEinsumDense


def make_projection(layer, name, shape, heads, activation=None):
    """A built dense layer from `shape (B, *axes, D)` to `(B, *axes, *heads)`, configured as `layer` is."""
    free = "abcdefgh"[: len(shape) - 1]
    make = TokenEinsumDense
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


def make_output_projection(layer, rank, sizes, name, **options):
    """A dense layer from `(B, *axes, N, H)`, of `rank` + 1 axes, to `(B, *axes, *sizes)`, not yet built."""
    free, outputs = "abcdefgh"[: rank - 1], "rstuvw"[: len(sizes)]
    return TokenEinsumDense(
        f"{free}yz,yz{outputs}->{free}{outputs}",
        output_shape=(*(None for _ in free[1:]), *sizes),
        bias_axes=outputs if layer.use_bias else None,
        name=name,
        **options,
    )


class _OneFeatureHeads(TokenEinsumDense):
    """Projects to heads of one feature, tokens in one axis also where it is quantized.

    Keras 3.15 on TensorFlow takes a bias `[N, 1]` for one of channels, and adds it along the tokens where T = N.
    """

    def build(self, input_shape):
        super().build((None, input_shape[-1]))
        self.input_spec = None

    def quantized_call(self, inputs, *args, **kwargs):
        outputs = super().quantized_call(ops.reshape(inputs, (-1, inputs.shape[-1])), *args, **kwargs)
        return ops.reshape(outputs, (*ops.shape(inputs)[:-1], *outputs.shape[1:]))
