"""Talking heads: attention heads that exchange their logits and their scores."""

import keras
from keras import ops


@keras.saving.register_keras_serializable(package="keras_tfm")
class TalkingHeads(keras.layers.Layer):
    """Mixes the heads' logits before the softmax, and their scores after it, by two learned matrices.

    For `MultiHeadAttention(head_mixing=...)`. Any layer with the same two methods can take its place.

    Args:
        kernel_initializer: of both matrices `[N, N]`. Defaults to `"identity"`: each head starts with its own.
        **kwargs: `keras.layers.Layer` arguments.

    Masking:
        What a head may not attend to stays unseen by it, whatever other heads attend to.

    Reference:
        Shazeer et al. 2020, "Talking-Heads Attention", section 3.

    Example:

    >>> import keras, keras_tfm
    >>> layer = keras_tfm.layers.MultiHeadAttention(num_heads=2, key_dim=8, head_mixing=TalkingHeads())
    >>> x = keras.random.normal((1, 5, 16))
    >>> tuple(layer(x, x).shape)
    (1, 5, 16)
    """

    def __init__(self, kernel_initializer="identity", **kwargs):
        super().__init__(**kwargs)
        self.kernel_initializer = keras.initializers.get(kernel_initializer)

    def build(self, scores_shape):
        """Makes the matrices for scores `(B, N, T, S)`."""
        num_heads = scores_shape[1]
        self.logits_kernel = self._add_kernel("logits_kernel", num_heads)
        self.scores_kernel = self._add_kernel("scores_kernel", num_heads)

    def _add_kernel(self, name, num_heads):
        return self.add_weight(name=name, shape=(num_heads, num_heads), initializer=self.kernel_initializer)

    def mix_logits(self, logits):
        """`[B, N, T, S]` before the softmax."""
        return _mix(logits, self.logits_kernel)

    def mix_scores(self, scores):
        """`[B, N, T, S]` after the softmax."""
        return _mix(scores, self.scores_kernel)

    def get_config(self):
        """The constructor's arguments."""
        return {
            **super().get_config(),
            "kernel_initializer": keras.initializers.serialize(self.kernel_initializer),
        }


def _mix(x, kernel):
    return ops.einsum("bnts,nm->bmts", x, ops.cast(kernel, x.dtype))
