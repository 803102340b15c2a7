"""Multi-head attention in linear time: a kernel of feature maps in place of the softmax."""

import keras
from keras import ops

from keras_tfm.layers.attention_masks import all_of, as_padding_mask, segment_pair, without_padding
from keras_tfm.layers.feature_maps import feature_dim, get_feature_map, serialize_feature_map
from keras_tfm.layers.head_projections import make_head_merge, make_head_projection
from keras_tfm.layers.linear_attention_checks import check_linear_call, refuse_pairs
from keras_tfm.layers.position_checks import check_positive_integer
from keras_tfm.ops.linear_attention import (
    LinearAttentionState,
    count_runs,
    linear_attention,
    linear_attention_scores,
)
from keras_tfm.ops.masks import AttentionMask


@keras.saving.register_keras_serializable(package="keras_tfm")
class LinearAttention(keras.layers.Layer):
    """Multi-head attention whose weights are `φ(q) · φ(k)` in place of `exp(q · k)`: time and memory linear in T.

    A causal layer is a recurrent network: its cache is a `LinearAttentionState`, as large after a million tokens as
    after one.

    Args:
        num_heads: N, the number of query heads.
        key_dim: H, size of each head of query and key.
        value_dim: Hv, size of each head of value; `None` means `key_dim`.
        use_bias: whether the projections have biases. Defaults to `True`.
        output_shape: width of the output; `None` means that of the query.
        kernel_initializer: for all kernels. Defaults to `"glorot_uniform"`.
        bias_initializer: for all biases. Defaults to `"zeros"`.
        feature_map: φ: `"elu"` for `elu(x) + 1`, `"relu"`, a layer (called with heads `[B, T, N, H]`), or a function of
            `keras.ops`. Its values must not be negative. Defaults to `"elu"`.
        num_key_value_heads: K, the number of key and value heads, a divisor of `num_heads`; `None` means `num_heads`.
        chunk_size: how many tokens the causal form takes together. Changes no result. Defaults to 64.
        **kwargs: `keras.layers.Layer` arguments.

    Call arguments:
        query: float `[B, T, D]`.
        value: float `[B, S, D']`; may be `None` with a cache, which alone is attended to then, and does not change.
        key: float `[B, S, D'']`; `None` means `value`.
        query_mask, value_mask, key_mask: bool `[B, T]` and `[B, S]`, True at real tokens; filled from the inputs'
            implicit masks.
        attention_mask, attention_bias: must be `None`: sums that all queries share know nothing of pairs.
        return_attention_scores: also return the scores, which are computed on their own, `[B, N, T, S]` in memory.
        use_causal_mask: whether a query sees only keys up to its own position. Queries that are fewer than the keys are
            the last of them.
        padding_mask: bool `[B, S]`, True at real keys.
        segment_ids: int `[B, T]`, for self-attention: tokens see those of their own segment. A segment is a run of
            equal ids; the same id elsewhere is another segment.
        cache: a `LinearAttentionState` of earlier tokens. Every query sees all of it; the state with the new tokens is
            returned.
        training, cache_update_index: taken as other attention layers take them, and not read.

    Returns:
        `output [B, T, D]`, then scores `[B, N, T, S]` if asked for, then the state if a cache was given: a tuple if
        more than the output.

    Masking:
        Every mask given, implicit or explicit, applies; that of the query goes on to the output. A query with nothing
        to attend to gets zero heads.

    Numerics:
        Features, sums and quotients are float32 whatever the policy, and so is the state.

    Raises:
        ValueError: sizes that do not fit together; a mask of pairs or a bias; scores or segments with a cache.

    Reference:
        Katharopoulos et al. 2020, "Transformers are RNNs: Fast Autoregressive Transformers with Linear Attention".

    Example:

    >>> import keras
    >>> layer = LinearAttention(num_heads=4, key_dim=8)
    >>> x = keras.random.normal((2, 5, 32))
    >>> first, state = layer(x[:, :3], x[:, :3], use_causal_mask=True, cache=layer.create_cache(batch_size=2))
    >>> second, state = layer(x[:, 3:], x[:, 3:], use_causal_mask=True, cache=state)
    >>> tuple(second.shape), tuple(state.key_value.shape)
    ((2, 2, 32), (2, 4, 8, 8))
    """

    def __init__(
        self,
        num_heads,
        key_dim,
        value_dim=None,
        use_bias=True,
        output_shape=None,
        kernel_initializer="glorot_uniform",
        bias_initializer="zeros",
        *,
        feature_map="elu",
        num_key_value_heads=None,
        chunk_size=64,
        **kwargs,
    ):
        super().__init__(**kwargs)
        self.supports_masking = True
        self.autocast = False  # the state is float32; the projections cast what they take
        self.num_heads = check_positive_integer("num_heads", num_heads)
        self.key_dim = check_positive_integer("key_dim", key_dim)
        self.value_dim = key_dim if value_dim is None else check_positive_integer("value_dim", value_dim)
        self.use_bias = use_bias
        self.output_width = None if output_shape is None else check_positive_integer("output_shape", output_shape)
        self.kernel_initializer = keras.initializers.get(kernel_initializer)
        self.bias_initializer = keras.initializers.get(bias_initializer)
        self.feature_map = get_feature_map(feature_map)
        self.num_key_value_heads = num_heads if num_key_value_heads is None else num_key_value_heads
        if self.num_key_value_heads <= 0 or num_heads % self.num_key_value_heads:
            raise ValueError(
                "`num_key_value_heads` must divide `num_heads`. "
                f"Received: num_key_value_heads={num_key_value_heads}, num_heads={num_heads}"
            )
        self.chunk_size = check_positive_integer("chunk_size", chunk_size)

    def build(self, query_shape, value_shape, key_shape=None):
        """Makes the projections from the shapes of query, value and key."""
        key_shape = value_shape if key_shape is None else key_shape
        shared = self.num_key_value_heads
        self.query_dense = self._projection("query", query_shape, (self.num_heads, self.key_dim))
        self.key_dense = self._projection("key", key_shape, (shared, self.key_dim))
        self.value_dense = self._projection("value", value_shape, (shared, self.value_dim))
        heads = (*query_shape[:2], self.num_heads, self.value_dim)
        width = query_shape[-1] if self.output_width is None else self.output_width
        self.output_dense = make_head_merge(self, "attention_output", heads, width, self.use_bias)
        feature_dim(self.feature_map, (None, None, self.num_heads, self.key_dim))  # builds it, if it is a layer

    def _projection(self, name, shape, heads):
        return make_head_projection(self, name, shape, heads, self.use_bias)

    def call(
        self,
        query,
        value,
        key=None,
        query_mask=None,
        value_mask=None,
        key_mask=None,
        attention_mask=None,
        return_attention_scores=False,
        training=None,
        use_causal_mask=False,
        *,
        attention_bias=None,
        padding_mask=None,
        segment_ids=None,
        cache=None,
        cache_update_index=None,
    ):
        """Attends from `query` to `value`; see the class for arguments."""
        refuse_pairs(attention_mask=attention_mask, attention_bias=attention_bias)
        check_linear_call(query, value, use_causal_mask, return_attention_scores, segment_ids, cache)
        query_padding = as_padding_mask("query_mask", query_mask, query)
        query_features = self._features(self.query_dense(without_padding(query, query_padding)))
        if value is None:
            state = LinearAttentionState(*cache)
            return self._output(self._read(state, query_features), query_padding), state
        masks = [("value_mask", value_mask), ("key_mask", key_mask), ("padding_mask", padding_mask)]
        padding = all_of(as_padding_mask(argument, mask, value) for argument, mask in masks)
        key_features, values = self._project(value, key, padding)
        segments = segment_pair(segment_ids, None, query, value)
        runs = None if segments is None else count_runs(segments[0])
        heads, state = linear_attention(
            query_features,
            key_features,
            values,
            is_causal=use_causal_mask,
            runs=runs,
            state=None if cache is None else LinearAttentionState(*cache),
            chunk_size=self.chunk_size,
        )
        results = [self._output(heads, query_padding)]
        if return_attention_scores:
            mask = AttentionMask(
                is_causal=use_causal_mask,
                key_padding=padding,
                segments=None if runs is None else (runs, runs),
                query_offset=ops.shape(values)[1] - ops.shape(query)[1] if use_causal_mask else 0,
            )
            results.append(self._scores(query_features, key_features, mask, query_padding))
        if cache is not None:
            results.append(state)
        return results[0] if len(results) == 1 else tuple(results)

    def _features(self, heads):
        return ops.cast(self.feature_map(ops.cast(heads, "float32")), "float32")

    def _project(self, value, key, padding):
        """Features of the keys and heads of the values, both zero at padding."""
        key = value if key is None else key
        key_features = self._features(self.key_dense(without_padding(key, padding)))
        values = self.value_dense(without_padding(value, padding))
        return without_padding(key_features, padding), without_padding(values, padding)

    def _read(self, state, query):
        no_keys = ops.zeros_like(query[:, :0, : self.num_key_value_heads])
        no_values = ops.zeros((*ops.shape(no_keys)[:3], self.value_dim), "float32")
        return linear_attention(query, no_keys, no_values, state=state)[0]

    def _output(self, heads, query_padding):
        return self.output_dense(ops.cast(without_padding(heads, query_padding), self.compute_dtype))

    def _scores(self, query, key, mask, query_padding):
        dense = mask.materialize(ops.shape(query)[1], ops.shape(key)[1])
        if query_padding is not None:
            rows = query_padding[:, None, :, None]
            dense = rows if dense is None else ops.logical_and(dense, rows)
        return ops.cast(linear_attention_scores(query, key, dense), self.compute_dtype)

    def create_cache(self, batch_size, length=None):
        """The `LinearAttentionState` before the first token; `length` is taken as others take it, and not read."""
        del length
        width = feature_dim(self.feature_map, (None, None, self.num_heads, self.key_dim))
        return LinearAttentionState.create(batch_size, self.num_key_value_heads, width, self.value_dim)

    def project_memory(self, value, key=None, padding_mask=None):
        """The `LinearAttentionState` of `value [B, S, D']`, for calls that attend to it alone (cross attention)."""
        features, values = self._project(value, key, as_padding_mask("padding_mask", padding_mask, value))
        return linear_attention(features[:, :1], features, values)[1]

    def compute_output_spec(self, query, value, key=None, return_attention_scores=False, cache=None, **kwargs):
        """The full specification of the outputs: output, scores, state."""
        width = query.shape[-1] if self.output_width is None else self.output_width
        results = [keras.KerasTensor((*query.shape[:-1], width), dtype=self.compute_dtype)]
        if return_attention_scores:
            shape = (query.shape[0], self.num_heads, query.shape[1], value.shape[1])
            results.append(keras.KerasTensor(shape, dtype=self.compute_dtype))
        if cache is not None:
            shapes = (x.shape for x in LinearAttentionState(*cache))
            results.append(LinearAttentionState(*(keras.KerasTensor(shape, dtype="float32") for shape in shapes)))
        return results[0] if len(results) == 1 else tuple(results)

    def get_config(self):
        """The constructor's arguments."""
        return {
            **super().get_config(),
            "num_heads": self.num_heads,
            "key_dim": self.key_dim,
            "value_dim": self.value_dim,
            "use_bias": self.use_bias,
            "output_shape": self.output_width,
            "kernel_initializer": keras.initializers.serialize(self.kernel_initializer),
            "bias_initializer": keras.initializers.serialize(self.bias_initializer),
            "feature_map": serialize_feature_map(self.feature_map),
            "num_key_value_heads": self.num_key_value_heads,
            "chunk_size": self.chunk_size,
        }
