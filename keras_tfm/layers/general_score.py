"""The bilinear score q · W k."""

import keras

from keras_tfm.layers.attention_score import AttentionScore


@keras.saving.register_keras_serializable(package="keras_tfm")
class GeneralScore(AttentionScore):
    """Luong's general score `qᵀ W k`, with a matrix W for each head.

    The query is multiplied by W first, so that what remains is a dot product, which fused kernels serve.

    Args:
        scale: factor on the scores: a number, or `"sqrt"` for 1 / √H. Defaults to 1, as in the paper.
        kernel_initializer: of W `[N, H, H]`. Defaults to `"glorot_uniform"`.
        **kwargs: `keras.layers.Layer` arguments.

    Reference:
        Luong et al. 2015, "Effective Approaches to Attention-based Neural Machine Translation", equation 8.

    Example:

    >>> import keras, keras_tfm
    >>> layer = keras_tfm.layers.MultiHeadAttention(num_heads=2, key_dim=8, score=GeneralScore())
    >>> x = keras.random.normal((1, 5, 16))
    >>> tuple(layer(x, x).shape)
    (1, 5, 16)
    """

    def __init__(self, scale=1.0, kernel_initializer="glorot_uniform", **kwargs):
        super().__init__(scale=scale, **kwargs)
        self.kernel_initializer = keras.initializers.get(kernel_initializer)

    def build(self, query_shape, key_shape):
        """Makes W."""
        self.dense = keras.layers.EinsumDense(
            "abcd,cde->abce",
            output_shape=(None, query_shape[-2], key_shape[-1]),
            kernel_initializer=self.kernel_initializer,
            dtype=self.dtype_policy,
            name="dense",
        )
        self.dense.supports_masking = True
        self.dense.build(query_shape)

    def transform(self, query, key):
        """`Wᵀ q` and `k`."""
        return self.dense(query), key

    def get_config(self):
        """The constructor's arguments."""
        return {
            **super().get_config(),
            "kernel_initializer": keras.initializers.serialize(self.kernel_initializer),
        }
