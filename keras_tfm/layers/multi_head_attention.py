"""Multi-head attention: Keras' layer, with masks that survive, grouped heads, positions and caches."""

import keras
from keras import ops

from keras_tfm.layers.attention_axes import AttentionAxes
from keras_tfm.layers.attention_hook import attend_by_hook, overrides_attention
from keras_tfm.layers.attention_masks import (
    all_of,
    as_padding_mask,
    check_attention_bias,
    check_attention_mask,
    padding_in_cache,
    segment_pair,
)
from keras_tfm.layers.cache_forms import cache_length, is_stacked_cache
from keras_tfm.layers.parts import get_part, serialize_part
from keras_tfm.layers.rotary_embedding import RotaryEmbedding
from keras_tfm.ops import AttentionMask, KVCache
from keras_tfm.ops.attention import attention


@keras.saving.register_keras_serializable(package="keras_tfm")
class MultiHeadAttention(keras.layers.MultiHeadAttention):
    """Multi-head attention, self or cross: a drop-in superset of `keras.layers.MultiHeadAttention`.

    Each head projects query, key and value, weighs the values by `softmax(q · k / √H)`, and the heads together are
    projected to the output.

    Args:
        num_heads: N, the number of query heads.
        key_dim: H, size of each head of query and key.
        value_dim: size of each head of value; `None` means `key_dim`.
        dropout: rate in [0, 1) on the scores. Defaults to 0.
        use_bias: whether the projections have biases. Defaults to `True`.
        output_shape, attention_axes, sliding_window, kernel_initializer, bias_initializer, kernel_regularizer,
            bias_regularizer, activity_regularizer, kernel_constraint, bias_constraint, use_gate, seed: as in Keras.
        flash_attention: `True` refuses dropout and scores, which fused kernels do not have. It demands no kernel: the
            first that can serve a call does, whatever this is.
        num_key_value_heads: K, the number of key and value heads, a divisor of `num_heads`: 1 is multi-query, `None`
            means `num_heads`.
        position: relative positions: `None`, `"rope"`, or an `AttentionPosition` layer or its config.
        logit_soft_cap: `c` bounds the logits by `c · tanh(logits / c)`; `None` leaves them.
        **kwargs: `keras.layers.Layer` arguments.

    Call arguments:
        query: float `[B, T, D]`, or `[B, *axes, D]`.
        value: float `[B, S, D']`; may be `None` with a static cache.
        key: float `[B, S, D'']`; `None` means `value`.
        query_mask, value_mask, key_mask: bool `[B, T]` and `[B, S]`, True at real tokens; filled from the inputs'
            implicit masks; given explicitly they take the place of those.
        attention_mask: bool `[B, T, S]` or `[B, N, T, S]` (1 broadcasts), True where a query may attend to a key; with
            `attention_axes` `[B, *other axes, (N,) *query axes, *key axes]`.
        return_attention_scores: also return the scores. Changes no output.
        training: whether dropout applies.
        use_causal_mask: whether a query sees only keys up to its own position.
        padding_mask: bool `[B, S]`, True at real keys.
        segment_ids: int `[B, T]`: tokens attend within their own segment (packed sequences). For cross attention also
            give `key_segment_ids [B, S]`.
        attention_bias: float broadcastable to `[B, N, T, S]`, added to the logits.
        cache: `KVCache` of `[B, S, K, H]`, or a tensor `[B, 2, S, K, H]`. With `cache_update_index`, the new keys and
            values are written there first; without it the cache alone is attended to and `value` is not projected.
        cache_update_index: int or int32 scalar, position of the first of the T new tokens.

    Returns:
        `output [B, T, D]`, then scores `[B, N, T, S]` if asked for, then the cache if one was given: a tuple if more
        than the output. The cache comes back in the form it was given in.

    Masking:
        Every mask given, implicit or explicit, applies: a pair must be allowed by all. Input masks are left on the
        inputs, and that of the query goes on to the output. A query with nothing to attend to gets zero heads, from
        every kernel.

    Files:
        Weights saved by Keras' class (`.weights.h5`, or `.keras` through `load_weights`) load into this one, and back.
        `load_model` of a `.keras` file gives the class that it was saved with.

    Raises:
        ValueError: sizes that do not fit together; a mask of the wrong rank, size or dtype; a cache of the wrong size;
            a bias or soft cap in a subclass that overrides `_compute_attention`.

    Reference:
        Vaswani et al. 2017, section 3.2.2; Shazeer 2019 (multi-query); Ainslie et al. 2023 (grouped-query).

    Example:

    >>> import keras
    >>> layer = MultiHeadAttention(num_heads=4, key_dim=8, num_key_value_heads=2)
    >>> x = keras.random.normal((2, 5, 32))
    >>> output, scores = layer(x, x, use_causal_mask=True, return_attention_scores=True)
    >>> tuple(output.shape), tuple(scores.shape)
    ((2, 5, 32), (2, 4, 5, 5))
    """

    def __init__(
        self,
        num_heads,
        key_dim,
        value_dim=None,
        dropout=0.0,
        use_bias=True,
        output_shape=None,
        attention_axes=None,
        sliding_window=None,
        flash_attention=None,
        kernel_initializer="glorot_uniform",
        bias_initializer="zeros",
        kernel_regularizer=None,
        bias_regularizer=None,
        activity_regularizer=None,
        kernel_constraint=None,
        bias_constraint=None,
        use_gate=False,
        seed=None,
        *,
        num_key_value_heads=None,
        position=None,
        logit_soft_cap=None,
        **kwargs,
    ):
        super().__init__(
            num_heads,
            key_dim,
            value_dim=value_dim,
            dropout=dropout,
            use_bias=use_bias,
            output_shape=output_shape,
            attention_axes=attention_axes,
            sliding_window=sliding_window,
            flash_attention=flash_attention,
            kernel_initializer=kernel_initializer,
            bias_initializer=bias_initializer,
            kernel_regularizer=kernel_regularizer,
            bias_regularizer=bias_regularizer,
            activity_regularizer=activity_regularizer,
            kernel_constraint=kernel_constraint,
            bias_constraint=bias_constraint,
            use_gate=use_gate,
            seed=seed,
            **kwargs,
        )
        self.num_key_value_heads = num_heads if num_key_value_heads is None else num_key_value_heads
        if self.num_key_value_heads <= 0 or num_heads % self.num_key_value_heads:
            raise ValueError(
                "`num_key_value_heads` must divide `num_heads`. "
                f"Received: num_key_value_heads={num_key_value_heads}, num_heads={num_heads}"
            )
        self.position = get_part("position", position, {"rope": RotaryEmbedding})
        if self.position is not None:
            self.position.check_heads(key_dim)
        self.logit_soft_cap = logit_soft_cap
        self._flash_attention_argument = flash_attention
        self._given_attention_axes = self._attention_axes  # as a tuple; `build` counts negative axes from the front

    @property
    def sliding_window(self):
        """How near a key must be, in positions, or `None`."""
        return self._sliding_window

    def build(self, query_shape, value_shape, key_shape=None):
        """Makes the projections from the shapes of query, value and key."""
        key_shape = value_shape if key_shape is None else key_shape
        self._check_shapes(query_shape, value_shape, key_shape)
        heads = (self.num_heads, self.key_dim)
        shared = (self.num_key_value_heads, self.key_dim)
        self._query_dense = self._make_projection("query", query_shape, heads)
        self._key_dense = self._make_projection("key", key_shape, shared)
        if self._use_gate:  # before the value, the order of Keras' weights
            self._gate_dense = self._make_projection(
                "gate", query_shape, (self.num_heads, self.value_dim), activation="sigmoid"
            )
        self._value_dense = self._make_projection("value", value_shape, (shared[0], self.value_dim))
        self._build_attention(len(query_shape) + 1)
        self._axes = AttentionAxes(len(query_shape), self._attention_axes)
        self._output_dense = self._make_output_dense(
            query_shape, self._get_common_kwargs_for_sublayer(), "attention_output"
        )
        self._output_dense.supports_masking = True
        self._output_dense.build((*query_shape[:-1], self.num_heads, self.value_dim))

    def _make_projection(self, name, shape, heads, activation=None):
        free = "abcdefgh"[: len(shape) - 1]
        dense = keras.layers.EinsumDense(
            f"{free}x,xyz->{free}yz",
            output_shape=(*(None for _ in shape[1:-1]), *heads),
            bias_axes="yz" if self.use_bias else None,
            activation=activation,
            name=name,
            **self._get_common_kwargs_for_sublayer(),
        )
        dense.supports_masking = True
        dense.build(shape)
        return dense

    def _check_shapes(self, query_shape, value_shape, key_shape):
        if len(query_shape) < 3 or len(value_shape) != len(query_shape):
            raise ValueError(
                "`query` and `value` must have one rank, at least 3: [B, T, D]. "
                f"Received: query_shape={tuple(query_shape)}, value_shape={tuple(value_shape)}"
            )
        if tuple(value_shape[1:-1]) != tuple(key_shape[1:-1]):
            raise ValueError(
                "All dimensions of `value` and `key`, except the last one, must be equal. "
                f"Received: value_shape={value_shape} and key_shape={key_shape}"
            )

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
        padding_mask=None,
        segment_ids=None,
        key_segment_ids=None,
        attention_bias=None,
        cache=None,
        cache_update_index=None,
    ):
        """Attends from `query` to `value`; see the class for arguments."""
        is_stacked = is_stacked_cache(cache)
        cache = KVCache(cache[:, 0], cache[:, 1]) if is_stacked else cache
        self._check_call(query, return_attention_scores, cache, cache_update_index)
        key = value if key is None else key
        query_heads, key_heads, value_heads, cache = self._project(query, key, value, cache, cache_update_index)
        key_masks = [("value_mask", value_mask), ("key_mask", key_mask), ("padding_mask", padding_mask)]
        mask = AttentionMask(
            is_causal=bool(use_causal_mask),
            window=self.sliding_window,
            key_padding=self._key_padding(
                key_masks, query, key_heads, value, cache, cache_update_index, use_causal_mask
            ),
            query_padding=self._axes.fold_padding(as_padding_mask("query_mask", query_mask, query), query),
            segments=self._segments(segment_ids, key_segment_ids, query, value if cache is None else key_heads),
            explicit=self._explicit_mask(attention_mask, query, value, key_heads),
            query_offset=0 if cache_update_index is None else cache_update_index,
        )
        check_attention_bias(attention_bias, query.shape, key_heads.shape[1])
        heads, scores = self._attend(
            (query, value),
            (query_heads, key_heads, value_heads),
            mask,
            self._all_bias(query_heads, key_heads, mask, attention_bias),
            training,
            return_attention_scores,
        )
        heads = self._axes.unfold(heads, query)
        if self._use_gate:
            heads = heads * self._gate_dense(query)
        results = [self._output_dense(heads)]
        if return_attention_scores:
            results.append(scores)
        if cache is not None:
            results.append(ops.stack(cache, axis=1) if is_stacked else cache)
        return results[0] if len(results) == 1 else tuple(results)

    def _project(self, query, key, value, cache, index):
        query_heads = self._axes.fold(self._query_dense(query))
        if cache is not None and index is None:
            cache = KVCache(*cache)
            return self._rotate(query_heads, 0), *cache, cache
        start = 0 if index is None else index
        query_heads = self._rotate(query_heads, start)
        key_heads = self._rotate(self._axes.fold(self._key_dense(key)), start)
        value_heads = self._axes.fold(self._value_dense(value))
        if cache is None:
            return query_heads, key_heads, value_heads, None
        cache = KVCache(*cache).write(key_heads, value_heads, index)
        return query_heads, *cache, cache

    def _rotate(self, heads, start):
        if self.position is None:
            return heads
        return self.position.rotate(heads, ops.arange(ops.shape(heads)[1], dtype="int32") + start)

    def _attend(self, inputs, heads, mask, bias, training, return_scores):
        if overrides_attention(self):
            return attend_by_hook(self, self._axes, inputs, heads, mask, bias, training, return_scores)
        drops = bool(training) and self.dropout > 0
        output, scores = attention(
            *heads,
            mask,
            bias=bias,
            scale=self._inverse_sqrt_key_dim,
            logit_soft_cap=self.logit_soft_cap,
            dropout=(lambda scores: self._dropout_layer(scores, training=True)) if drops else None,
            return_scores=return_scores,
        )
        return output, self._axes.unfold_scores(scores, *inputs)

    def _all_bias(self, query, key, mask, bias):
        if self.position is None:
            return bias
        queries = ops.arange(ops.shape(query)[1], dtype="int32") + mask.query_offset
        position_bias = self.position.bias(queries, ops.arange(ops.shape(key)[1], dtype="int32"), self.num_heads)
        if position_bias is None or bias is None:
            return bias if position_bias is None else position_bias
        return bias + position_bias

    def _key_padding(self, masks, query, keys, value, cache, index, is_causal):
        if cache is None:
            return self._axes.fold_padding(
                all_of(as_padding_mask(argument, mask, value) for argument, mask in masks), value
            )
        padding = padding_in_cache(masks, keys, value, index)
        if index is None or is_causal:
            return padding
        filled = ops.arange(ops.shape(keys)[1], dtype="int32") < index + ops.shape(value)[1]
        return all_of([padding, filled[None]])

    def _segments(self, segment_ids, key_segment_ids, query, keys):
        pair = segment_pair(segment_ids, key_segment_ids, query, keys)
        return pair and (self._axes.fold_padding(pair[0], query), self._axes.fold_padding(pair[1], keys))

    def _explicit_mask(self, mask, query, value, keys):
        check_attention_mask(mask, len(query.shape), len(self._attention_axes), ops.shape(query), ops.shape(keys)[1])
        return None if mask is None else self._axes.fold_mask(ops.cast(mask, "bool"), query, value)

    def _check_call(self, query, return_attention_scores, cache, cache_update_index):
        if self._flash_attention and return_attention_scores:
            raise ValueError(
                "Returning attention scores is not supported when flash attention is enabled. "
                "Please disable flash attention to access attention scores."
            )
        if cache is None and cache_update_index is not None:
            raise ValueError(
                "`cache_update_index` should not be set if `cache` is `None`. "
                f"Received: cache={cache}, cache_update_index={cache_update_index}"
            )
        if cache is None:
            return
        if not self._axes.is_plain:
            raise ValueError(f"`cache` needs a query of [B, T, D]. Received: query.shape={tuple(query.shape)}")
        KVCache(*cache).check_heads(self.num_key_value_heads, self.key_dim, self.value_dim)

    def create_cache(self, batch_size, length):
        """An empty `KVCache` of `length` positions for this layer, in its compute dtype."""
        return KVCache.create(
            batch_size, length, self.num_key_value_heads, self.key_dim, self.value_dim, dtype=self.compute_dtype
        )

    def project_memory(self, value, key=None):
        """The `KVCache` of what is attended to, for calls with a static cache (cross attention while decoding).

        Args:
            value: float `[B, S, D']`.
            key: float `[B, S, D'']`; `None` means `value`.
        """
        key_heads = self._rotate(self._key_dense(value if key is None else key), 0)
        return KVCache(key_heads, self._value_dense(value))

    def compute_output_spec(
        self,
        query,
        value,
        key=None,
        query_mask=None,
        value_mask=None,
        key_mask=None,
        attention_mask=None,
        return_attention_scores=False,
        *args,
        cache=None,
        **kwargs,
    ):
        """The full specification of the outputs: output, scores, cache."""
        value = query if value is None else value
        key_shape = value.shape if key is None else key.shape
        results = [
            keras.KerasTensor(self.compute_output_shape(query.shape, value.shape, key_shape), dtype=self.compute_dtype)
        ]
        if return_attention_scores:
            keys_shape = value.shape if cache is None else (None, cache_length(cache), None)
            shape = self._axes.scores_shape(query.shape, keys_shape, self.num_heads)
            results.append(keras.KerasTensor(shape, dtype=self.compute_dtype))
        if cache is not None:
            cache = cache if is_stacked_cache(cache) else KVCache(*cache)
            results.append(keras.tree.map_structure(lambda x: keras.KerasTensor(x.shape, dtype=x.dtype), cache))
        return results[0] if len(results) == 1 else tuple(results)

    def get_config(self):
        """The constructor's arguments, all of them."""
        return {
            **super().get_config(),
            "attention_axes": self._given_attention_axes,
            "flash_attention": self._flash_attention_argument,
            "num_key_value_heads": self.num_key_value_heads,
            "position": serialize_part(self.position),
            "logit_soft_cap": self.logit_soft_cap,
        }
