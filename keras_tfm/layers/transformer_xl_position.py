"""Transformer-XL's relative positions: projected sinusoids of the distance, and two biases in place of positions."""

import math

import keras
from keras import ops

from keras_tfm.layers.attention_position import AttentionPosition
from keras_tfm.layers.parts import clone_initializer
from keras_tfm.layers.position_checks import check_positive, check_positive_integer, check_shared_heads
from keras_tfm.ops.positions import frequencies
from keras_tfm.ops.relative_positions import sinusoid_logits


@keras.saving.register_keras_serializable(package="keras_tfm")
class TransformerXLPosition(AttentionPosition):
    """Transformer-XL's relative positions, for `MultiHeadAttention(position=...)`.

    With R the sinusoid of query position minus key position, adds `(q · W R + u · k + v · W R) / √H` to the layer's own
    `q · k / √H`.

    Args:
        dim: D, size of the sinusoids, even; `None` means N · H (made even), the width of most models.
        max_wavelength: longest wavelength, in positions over 2π. Defaults to 10,000.
        kernel_initializer: of W `[D, N, H]`. Defaults to `"glorot_uniform"`.
        bias_initializer: of u and v `[N, H]`. Defaults to `"zeros"`.
        **kwargs: `keras.layers.Layer` arguments.

    Raises:
        ValueError: `dim` is odd or not positive; layers of different numbers of heads that share one instance.

    Numerics:
        Computed in float32 whatever the policy. Sinusoids of differences are products of sinusoids, so any positions
        will do, at D multiplications a pair and no memory but that of the result.

    Reference:
        Dai et al. 2019, "Transformer-XL: Attentive Language Models beyond a Fixed-Length Context", section 3.3, terms
        b, c and d. The sinusoids have all sines, then all cosines, as in the authors' code.

    Example:

    >>> import keras, keras_tfm
    >>> layer = keras_tfm.layers.MultiHeadAttention(num_heads=2, key_dim=8, position=TransformerXLPosition())
    >>> x = keras.random.normal((1, 5, 16))
    >>> tuple(layer(x, x).shape)
    (1, 5, 16)
    """

    def __init__(
        self, dim=None, max_wavelength=10_000, kernel_initializer="glorot_uniform", bias_initializer="zeros", **kwargs
    ):
        super().__init__(**kwargs)
        check_positive("max_wavelength", max_wavelength)
        self.dim = None if dim is None else check_positive_integer("dim", dim, at_least=2)
        if dim is not None and dim % 2:
            raise ValueError(f"`dim` must be even: a sine and a cosine for each wavelength. Received: dim={dim}")
        self.max_wavelength = max_wavelength
        self.kernel_initializer = keras.initializers.get(kernel_initializer)
        self.bias_initializer = keras.initializers.get(bias_initializer)

    def build(self, query_shape, key_shape, value_shape):
        """Makes W, u and v."""
        heads = tuple(query_shape[2:])
        dim = self.dim or math.prod(heads) + math.prod(heads) % 2
        self._frequencies = frequencies(dim, self.max_wavelength)
        self.kernel = self.add_weight(
            name="kernel", shape=(dim, *heads), initializer=self.kernel_initializer, autocast=False
        )
        self.content_bias, self.position_bias = (
            self.add_weight(
                name=name, shape=heads, initializer=clone_initializer(self.bias_initializer), autocast=False
            )
            for name in ("content_bias", "position_bias")
        )

    def bias(self, query, key, query_positions, key_positions):
        """float32 `[B, N, T, S]`."""
        check_shared_heads(self, query, self.kernel.shape[1])
        query, key = ops.cast(query, "float32"), ops.cast(key, "float32")
        kernel, content_bias, position_bias = (
            ops.cast(weight, "float32") for weight in (self.kernel, self.content_bias, self.position_bias)
        )
        of_sinusoids = ops.einsum("btnh,dnh->btnd", query + position_bias, kernel)
        logits = sinusoid_logits(of_sinusoids, query_positions, key_positions, self._frequencies)
        return (logits + ops.expand_dims(_key_logits(content_bias, key), 2)) / math.sqrt(query.shape[-1])

    def get_config(self):
        """The constructor's arguments."""
        return {
            **super().get_config(),
            "dim": self.dim,
            "max_wavelength": self.max_wavelength,
            "kernel_initializer": keras.initializers.serialize(self.kernel_initializer),
            "bias_initializer": keras.initializers.serialize(self.bias_initializer),
        }


def _key_logits(content_bias, key):
    """`u · k` `[B, N, S]` of N heads' biases `[N, H]` and K heads' keys `[B, S, K, H]`."""
    heads, width = content_bias.shape
    shared = key.shape[2]
    logits = ops.einsum("kgh,bskh->bkgs", ops.reshape(content_bias, (shared, heads // shared, width)), key)
    return ops.reshape(logits, (-1, heads, ops.shape(key)[1]))
