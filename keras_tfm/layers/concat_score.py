"""The concatenation score v · tanh(W [q; k])."""

import keras
from keras import ops

from keras_tfm.layers.additive_score import AdditiveScore, additive_logits
from keras_tfm.layers.parts import clone_initializer


@keras.saving.register_keras_serializable(package="keras_tfm")
class ConcatScore(AdditiveScore):
    """Luong's concat score `vᵀ tanh(W [q; k])`: one matrix over query and key together, for each head its own.

    `W [q; k] = W_q q + W_k k`, so this is the additive score with both its matrices in one weight. The concatenated
    pairs are never made.

    Args:
        units: A, the size of the hidden layer; `None` means H.
        kernel_initializer: of all weights. Defaults to `"glorot_uniform"`.
        **kwargs: `keras.layers.Layer` arguments.

    Reference:
        Luong et al. 2015, "Effective Approaches to Attention-based Neural Machine Translation", equation 8.

    Example:

    >>> import keras, keras_tfm
    >>> layer = keras_tfm.layers.MultiHeadAttention(num_heads=2, key_dim=8, score=ConcatScore(units=4))
    >>> x = keras.random.normal((1, 5, 16))
    >>> tuple(layer(x, x).shape)
    (1, 5, 16)
    """

    def build(self, query_shape, key_shape):
        """Makes W `[N, 2 H, A]` and v `[N, A]`."""
        num_heads, key_dim = query_shape[-2:]
        units = key_dim if self.units is None else self.units
        self.kernel = self.add_weight(
            name="kernel",
            shape=(num_heads, 2 * key_dim, units),
            initializer=clone_initializer(self.kernel_initializer),
        )
        self._add_vector(num_heads, units)

    def logits(self, query, key):
        """`[B, N, T, S]` from heads `[B, T, N, H]` and `[B, S, K, H]`."""
        key_dim, repeats = query.shape[-1], query.shape[2] // key.shape[2]
        kernel = ops.cast(self.kernel, query.dtype)
        key = key if repeats == 1 else ops.repeat(key, repeats, axis=2)
        query = ops.einsum("btnh,nha->btna", query, kernel[:, :key_dim])
        key = ops.einsum("bsnh,nha->bsna", key, kernel[:, key_dim:])
        return additive_logits(query, key, self.vector)
