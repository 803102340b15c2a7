"""Dense layers from features to heads and back, configured as the layer they belong to."""

from keras_tfm.layers.parts import clone_initializer
from keras_tfm.layers.token_dense import TokenEinsumDense


def make_head_projection(layer, name, shape, heads, use_bias=False):
    """A built dense layer from `shape (B, T, D)` to `(B, T, *heads)`.

    Args:
        layer: whose initializers and dtype policy apply.
        name: name of the new layer.
        shape: `(B, T, D)`; B and T may be `None`.
        heads: `(N, H)`.
        use_bias: whether it has a bias.
    """
    return _make_dense(layer, name, shape, "abc,cde->abde", heads, "de" if use_bias else None)


def make_head_merge(layer, name, shape, width, use_bias=False):
    """A built dense layer from heads `shape (B, T, N, H)` to `(B, T, width)`; arguments as above."""
    return _make_dense(layer, name, shape, "abcd,cde->abe", (width,), "e" if use_bias else None)


def _make_dense(layer, name, shape, equation, sizes, bias_axes):
    dense = TokenEinsumDense(
        equation,
        output_shape=(None, *sizes),
        bias_axes=bias_axes,
        kernel_initializer=clone_initializer(layer.kernel_initializer),
        bias_initializer=clone_initializer(layer.bias_initializer),
        dtype=layer.dtype_policy,
        name=name,
    )
    dense.supports_masking = True
    dense.build(shape)
    return dense
