"""The additive score v · tanh(W_q q + W_k k)."""

import keras
from keras import ops

from keras_tfm.layers.attention_score import AttentionScore
from keras_tfm.layers.parts import clone_initializer


@keras.saving.register_keras_serializable(package="keras_tfm")
class AdditiveScore(AttentionScore):
    """Bahdanau's additive score `vᵀ tanh(W_q q + W_k k)`, for each head its own W_q, W_k and v.

    Args:
        units: A, the size of the hidden layer; `None` means H.
        kernel_initializer: of all weights. Defaults to `"glorot_uniform"`.
        **kwargs: `keras.layers.Layer` arguments.

    Numerics:
        The sum over the hidden units is computed in float32. The hidden layer `[B, T, S, N, A]` is held in memory:
        this score is for sentences, not for documents.

    Reference:
        Bahdanau et al. 2015, "Neural Machine Translation by Jointly Learning to Align and Translate", appendix A.1.2.

    Example:

    >>> import keras, keras_tfm
    >>> layer = keras_tfm.layers.MultiHeadAttention(num_heads=2, key_dim=8, score=AdditiveScore())
    >>> x = keras.random.normal((1, 5, 16))
    >>> tuple(layer(x, x).shape)
    (1, 5, 16)
    """

    def __init__(self, units=None, kernel_initializer="glorot_uniform", **kwargs):
        super().__init__(scale=1.0, **kwargs)
        if units is not None and (not isinstance(units, int) or units <= 0):
            raise ValueError(f"`units` must be a positive integer or None. Received: units={units!r}")
        self.units = units
        self.kernel_initializer = keras.initializers.get(kernel_initializer)

    def build(self, query_shape, key_shape):
        """Makes W_q `[N, H, A]`, W_k `[K, H, A]` and v `[N, A]`."""
        units = query_shape[-1] if self.units is None else self.units
        self.query_dense = self._make_dense("query_dense", query_shape, units)
        self.key_dense = self._make_dense("key_dense", key_shape, units)
        self._add_vector(query_shape[-2], units)

    def _make_dense(self, name, shape, units):
        dense = keras.layers.EinsumDense(
            "abcd,cde->abce",
            output_shape=(None, shape[-2], units),
            kernel_initializer=clone_initializer(self.kernel_initializer),
            dtype=self.dtype_policy,
            name=name,
        )
        dense.supports_masking = True
        dense.build(shape)
        return dense

    def _add_vector(self, num_heads, units):
        self.vector = self.add_weight(
            name="vector", shape=(num_heads, units), initializer=clone_initializer(self.kernel_initializer)
        )

    def logits(self, query, key):
        """`[B, N, T, S]` from heads `[B, T, N, H]` and `[B, S, K, H]`."""
        return additive_logits(self.query_dense(query), self.key_dense(key), self.vector)

    def get_config(self):
        """The constructor's arguments."""
        config = super().get_config()
        del config["scale"]
        return {
            **config,
            "units": self.units,
            "kernel_initializer": keras.initializers.serialize(self.kernel_initializer),
        }


def additive_logits(query, key, vector):
    """`v · tanh(q + k)`: float32 `[B, N, T, S]` from `[B, T, N, A]`, `[B, S, K, A]` and `[N, A]`."""
    repeats = query.shape[2] // key.shape[2]
    key = key if repeats == 1 else ops.repeat(key, repeats, axis=2)
    hidden = ops.tanh(ops.expand_dims(query, 2) + ops.expand_dims(key, 1))
    weighted = ops.cast(hidden, "float32") * ops.cast(vector, "float32")
    return ops.transpose(ops.sum(weighted, axis=-1), (0, 3, 1, 2))
