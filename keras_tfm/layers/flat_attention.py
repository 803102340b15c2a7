"""One attention over several memories side by side: the "flat" combination of `MultiSourceAttention`."""

import keras
from keras import ops

from keras_tfm.layers.attention_masks import as_padding_mask, without_padding
from keras_tfm.layers.dropout import Dropout
from keras_tfm.layers.head_projections import make_head_merge, make_head_projection
from keras_tfm.ops import AttentionMask, KVCache, ScoreDropout
from keras_tfm.ops.attention import attention


class FlatAttention(keras.layers.Layer):
    """Multi-head attention whose keys are those of all memories together, each memory with projections of its own.

    Args:
        num_heads, key_dim, value_dim, num_key_value_heads, dropout, use_bias, seed, kernel_initializer,
            bias_initializer: as `MultiHeadAttention` has them, resolved.
        output_width: width of the output.
        **kwargs: `keras.layers.Layer` arguments.
    """

    def __init__(
        self,
        *,
        num_heads,
        key_dim,
        value_dim,
        num_key_value_heads,
        dropout,
        use_bias,
        output_width,
        kernel_initializer,
        bias_initializer,
        seed,
        **kwargs,
    ):
        super().__init__(**kwargs)
        self.supports_masking = True
        self.num_heads, self.key_dim = num_heads, key_dim
        self.value_dim, self.num_key_value_heads = value_dim, num_key_value_heads
        self.dropout, self.use_bias, self.output_width = dropout, use_bias, output_width
        self.kernel_initializer, self.bias_initializer = kernel_initializer, bias_initializer
        self.seed = seed
        self.score_dropout = Dropout(dropout, seed=seed, dtype=self.dtype_policy, name="score_dropout")

    def build(self, query_shape, memories_shape):
        """Makes one projection of the query, and two of each memory."""
        shared = self.num_key_value_heads
        self.query_dense = self._projection("query", query_shape, (self.num_heads, self.key_dim))
        self.key_denses = [
            self._projection(f"key_{i}", shape, (shared, self.key_dim)) for i, shape in enumerate(memories_shape)
        ]
        self.value_denses = [
            self._projection(f"value_{i}", shape, (shared, self.value_dim)) for i, shape in enumerate(memories_shape)
        ]
        heads = (*query_shape[:2], self.num_heads, self.value_dim)
        self.output_dense = make_head_merge(self, "attention_output", heads, self.output_width, self.use_bias)

    def _projection(self, name, shape, heads):
        return make_head_projection(self, name, shape, heads, self.use_bias)

    def project_memories(self, memories):
        """A `KVCache` for each memory `[B, S, D']`."""
        parts = zip(self.key_denses, self.value_denses, memories, strict=True)
        return tuple(KVCache(key(memory), value(memory)) for key, value, memory in parts)

    def attend(self, query, memories, query_mask, paddings, training, return_scores):
        """Attends to all memories at once.

        Args:
            query: float `[B, T, D]`.
            memories: a list of float `[B, S, D']`, or a tuple of `KVCache`.
            query_mask: bool `[B, T]` or `None`.
            paddings: for each memory bool `[B, S]` or `None`.
            training: whether dropout applies.
            return_scores: whether the scores are wanted.

        Returns:
            `(output [B, T, D], scores)`: for each memory `[B, N, T, S]`, whose rows sum to 1 over all memories; `None`
            unless wanted.
        """
        query_padding = as_padding_mask("query_mask", query_mask, query)
        if not isinstance(memories[0], tuple):
            memories = self.project_memories(list(map(without_padding, memories, paddings)))
        lengths = [ops.shape(memory[0])[1] for memory in memories]
        keys, values = (ops.concatenate(column, axis=1) for column in zip(*memories, strict=True))
        heads, scores = attention(
            self.query_dense(without_padding(query, query_padding)),
            keys,
            values,
            AttentionMask(key_padding=_joint_padding(paddings, memories), query_padding=query_padding),
            dropout=self._dropout() if training and self.dropout else None,
            return_scores=return_scores,
            label=self.path,
        )
        return self.output_dense(heads), _cut(scores, lengths) if return_scores else None

    def _dropout(self):
        return ScoreDropout.of(self.dropout, self.score_dropout.seed_generator, self.seed)


def _joint_padding(paddings, memories):
    if all(padding is None for padding in paddings):
        return None
    whole = []
    for padding, (key, _) in zip(paddings, memories, strict=True):
        shape = ops.shape(key)[:2]
        whole.append(ops.ones(shape, "bool") if padding is None else ops.broadcast_to(padding, shape))
    return ops.concatenate(whole, axis=1)


def _cut(scores, lengths):
    parts, start = [], 0
    for length in lengths:
        parts.append(scores[..., start : start + length])
        start = start + length
    return parts
