"""Multi-head attention: Keras' layer, with masks that survive, grouped heads, positions and caches."""

import keras
from keras import ops

from keras_tfm.layers.attention_axes import AttentionAxes
from keras_tfm.layers.attention_checks import check_call, check_positions, check_prefix, check_shapes
from keras_tfm.layers.attention_hook import attend_by_hook, overrides_attention
from keras_tfm.layers.attention_masks import (
    as_padding_mask,
    check_attention_bias,
    check_attention_mask,
    key_padding,
    new_tokens_without_padding,
    segment_pair,
    without_padding,
)
from keras_tfm.layers.attention_parts import (
    HEAD_MIXINGS,
    POSITIONS,
    SCORES,
    attend_with_parts,
    build_parts,
    get_pattern,
    named,
)
from keras_tfm.layers.attention_projections import make_output_projection, make_projection
from keras_tfm.layers.cache_forms import as_cache, cache_length, cache_spec, in_form_of, known_of_keys, make_cache
from keras_tfm.layers.direct_calls import DirectCalls
from keras_tfm.layers.parts import get_part, serialize_part
from keras_tfm.layers.token_positions import at_slots, place_tokens
from keras_tfm.ops import AttentionMask, KVCache


@keras.saving.register_keras_serializable(package="keras_tfm")
class MultiHeadAttention(DirectCalls, keras.layers.MultiHeadAttention):
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
        position: relative positions: `None`, a name such as `"rope"` or `"alibi"` (see `attention_parts.POSITIONS`), or
            an `AttentionPosition` layer or its config.
        logit_soft_cap: `c` bounds the logits by `c · tanh(logits / c)`; `None` leaves them.
        query_key_norm: normalization of each head of queries and keys: `None`, `"rms"`, `"layer"`, or a layer to copy.
        score: what the softmax is taken of: `None` or `"scaled_dot"`, `"dot"`, `"general"`, `"additive"`, `"concat"`,
            or an `AttentionScore` layer or its config.
        attention_sink: logit of a key that is always there and has no value, so that a head can attend to nothing:
            `None`, `"learned"` for one a head, or a number. The scores of a row then sum to less than 1.
        head_mixing: `None`, `"talking_heads"`, or a layer with `mix_logits` and `mix_scores`.
        attention_pattern: a `keras_tfm.ops.MaskPattern` that every call obeys, or its config.
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
        query_positions: int `[T]` or `[B, T]`, where the queries stand. Without it they go by index, with a cache from
            `cache_update_index` on. Causality, windows, patterns and relative positions go by these.
        key_positions: int `[S]` or `[B, S]`, where the keys stand; with a cache those of the whole cache. `None` means
            `query_positions` in self-attention, else the indices.
        prefix_length: int `[B]`: keys at positions below it are seen by all queries (prefix language model).
        cache: from `create_cache` (`KVCache`, `RollingKVCache`, `QuantizedKVCache`), or a tensor `[B, 2, S, K, H]`.
            With `cache_update_index`, the new keys and values are written there first; without it the cache alone is
            attended to and `value` is not projected. Masks, positions and segments of keys are those of the whole
            sequence; `attention_mask` and `attention_bias` those of the keys that are there (rolling: of the slots).
        cache_update_index: int or int32 scalar, position of the first of the T new tokens, or int32 `[B]`.

    Returns:
        `output [B, T, D]`, then scores `[B, N, T, S]` if asked for, then the cache if one was given: a tuple if more
        than the output. The cache comes back in the form it was given in.

    Masking:
        Every mask given, implicit or explicit, applies: a pair must be allowed by all. Input masks are left on the
        inputs, and that of the query goes on to the output. A query with nothing to attend to gets zero heads, from
        every kernel. Causal queries that are fewer than the keys are the last of them, unless positions say otherwise.
        What padded tokens hold, NaN too, reaches no output of a real token and no gradient.

    Files:
        Weights saved by Keras' class (`.weights.h5`, or `.keras` through `load_weights`) load into this one, and back.
        `load_model` of a `.keras` file gives the class that it was saved with.

    Raises:
        ValueError: sizes that do not fit together; a mask of the wrong rank, size or dtype; a cache of the wrong size;
            a bias or soft cap in a subclass that overrides `_compute_attention`.

    Reference:
        Vaswani et al. 2017, section 3.2.2; Shazeer 2019 (multi-query); Ainslie et al. 2023 (grouped-query);
        Henry et al. 2020 (query and key normalization); OpenAI 2025, gpt-oss (learned sinks); Raffel et al. 2020,
        section 3.2.2 (prefix language model).

    Example:

    >>> import keras
    >>> layer = MultiHeadAttention(num_heads=4, key_dim=8, num_key_value_heads=2)
    >>> x = keras.random.normal((2, 5, 32))
    >>> output, scores = layer(x, x, use_causal_mask=True, return_attention_scores=True)
    >>> tuple(output.shape), tuple(scores.shape)
    ((2, 5, 32), (2, 4, 5, 5))
    """

    first_weight, reads_training = "_query_dense.kernel", True

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
        query_key_norm=None,
        score=None,
        attention_sink=None,
        head_mixing=None,
        attention_pattern=None,
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
        if isinstance(attention_sink, str) and attention_sink != "learned":
            raise ValueError(
                f"`attention_sink` must be None, 'learned' or a number. Received: attention_sink={attention_sink!r}"
            )
        self.position = get_part("position", position, named(POSITIONS, self.dtype_policy, "position"))
        if self.position is not None:
            self.position.check_heads(key_dim)
        self.query_key_norm = query_key_norm
        self.logit_soft_cap = logit_soft_cap
        self.score = get_part("score", score, named(SCORES, self.dtype_policy, "score"))
        self.attention_sink = attention_sink
        self.head_mixing = get_part("head_mixing", head_mixing, named(HEAD_MIXINGS, self.dtype_policy, "head_mixing"))
        self.attention_pattern = get_pattern(attention_pattern)
        self._flash_attention_argument = flash_attention
        self._given_attention_axes = self._attention_axes  # as a tuple; `build` counts negative axes from the front

    @property
    def sliding_window(self):
        """How near a key must be, in positions, or `None`."""
        return self._sliding_window

    def build(self, query_shape, value_shape, key_shape=None):
        """Makes the projections from the shapes of query, value and key."""
        key_shape = value_shape if key_shape is None else key_shape
        check_shapes(query_shape, value_shape, key_shape)
        heads, shared = (self.num_heads, self.key_dim), (self.num_key_value_heads, self.key_dim)
        self._query_dense = self._make_projection("query", query_shape, heads)
        self._key_dense = self._make_projection("key", key_shape, shared)
        if self._use_gate:  # before the value, the order of Keras' weights
            self._gate_dense = make_projection(
                self, "gate", query_shape, (self.num_heads, self.value_dim), activation="sigmoid"
            )
        self._value_dense = self._make_projection("value", value_shape, (shared[0], self.value_dim))
        self._build_attention(len(query_shape) + 1)
        self._axes = AttentionAxes(len(query_shape), self._attention_axes)
        self._output_dense = self._make_output_dense(
            query_shape, self._get_common_kwargs_for_sublayer(), "attention_output"
        )
        self._output_dense.supports_masking = True
        self._output_dense.build((*query_shape[:-1], self.num_heads, self.value_dim))
        build_parts(self)

    def _make_projection(self, name, shape, heads, activation=None):
        return make_projection(self, name, shape, heads, activation)

    def _make_output_dense(self, query_shape, common_kwargs, name=None):
        sizes = self._output_shape or query_shape[-1:]
        return make_output_projection(self, len(query_shape), sizes, name, **common_kwargs)

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
        query_positions=None,
        key_positions=None,
        prefix_length=None,
        cache=None,
        cache_update_index=None,
    ):
        """Attends from `query` to `value`; see the class for arguments."""
        given_cache, cache = cache, as_cache(cache)
        check_call(self, query, return_attention_scores, cache, cache_update_index)
        check_positions(query, query_positions=query_positions, key_positions=key_positions)
        check_prefix(prefix_length, use_causal_mask)
        key = value if key is None else key
        places = place_tokens(query, value, cache, cache_update_index, query_positions, key_positions, use_causal_mask)
        query_padding = as_padding_mask("query_mask", query_mask, query)
        padding = key_padding(
            [("value_mask", value_mask), ("key_mask", key_mask), ("padding_mask", padding_mask)],
            value,
            cache,
            cache_update_index,
            use_causal_mask,
            places.slots,
        )
        query = without_padding(query, query_padding)
        key, value = new_tokens_without_padding(key, value, padding, cache, cache_update_index, places.slots)
        *all_heads, cache = self._project(query, key, value, cache, cache_update_index, places)
        key_heads = all_heads[1]
        check_attention_mask(
            attention_mask, len(query.shape), len(self._attention_axes), ops.shape(query), ops.shape(key_heads)[1]
        )
        check_attention_bias(attention_bias, query.shape, key_heads.shape[1])
        mask = AttentionMask(
            is_causal=bool(use_causal_mask),
            window=self.sliding_window,
            key_padding=self._axes.fold_padding(padding, value) if cache is None else padding,
            query_padding=self._axes.fold_padding(query_padding, query),
            segments=self._segments(
                segment_ids, at_slots(key_segment_ids, places.slots), query, value if cache is None else key_heads
            ),
            explicit=self._axes.fold_mask(attention_mask, query, value),
            query_offset=places.start,
            prefix_length=prefix_length,
            pattern=self.attention_pattern,
            query_positions=places.queries,
            key_positions=places.keys,
            has_finite_padding=cache is None,  # what is projected has zeros there
        )
        known = known_of_keys(cache, places.slots)
        heads, scores = self._attend(
            (query, value), all_heads, mask, attention_bias, training, return_attention_scores, known
        )
        heads = self._axes.unfold(heads, query)
        if self._use_gate:
            heads = heads * self._gate_dense(query)
        results = [self._output_dense(heads), *([scores] if return_attention_scores else [])]
        if cache is not None:
            results.append(in_form_of(given_cache, cache))
        return results[0] if len(results) == 1 else tuple(results)

    def _project(self, query, key, value, cache, index, places):
        query_heads = self._axes.fold(self._query_dense(query))
        query_heads = self._place(query_heads, self.query_norm, places.of_queries)
        if cache is not None and index is None:
            return query_heads, *cache.read(self.compute_dtype), cache
        key_heads = self._place(self._axes.fold(self._key_dense(key)), self.key_norm, places.of_new_keys)
        value_heads = self._axes.fold(self._value_dense(value))
        if cache is None:
            return query_heads, key_heads, value_heads, None
        return query_heads, *cache.update(key_heads, value_heads, index, self.compute_dtype)

    def _place(self, heads, norm, positions):
        """Normalizes heads and turns them to their positions, a function of their number."""
        heads = heads if norm is None else norm(heads)
        if self.position is None or not self.position.overrides("rotate"):
            return heads
        return self.position.rotate(heads, positions(ops.shape(heads)[1]))

    def _attend(self, inputs, heads, mask, bias, training, return_scores, known):
        if overrides_attention(self):
            return attend_by_hook(self, self._axes, inputs, heads, mask, bias, training, return_scores)
        output, scores = attend_with_parts(self, heads, mask, bias, training, return_scores, **known)
        return output, self._axes.unfold_scores(scores, *inputs)

    def _segments(self, segment_ids, key_segment_ids, query, keys):
        pair = segment_pair(segment_ids, key_segment_ids, query, keys)
        return pair and (self._axes.fold_padding(pair[0], query), self._axes.fold_padding(pair[1], keys))

    def create_cache(self, batch_size, length, kind=None):
        """An empty cache of `length` positions; `kind` is `"full"` (also `None`), `"rolling"` or `"int8"`."""
        return make_cache(self, batch_size, length, kind)

    def project_memory(self, value, key=None, key_positions=None, padding_mask=None):
        """The `KVCache` of what is attended to, for calls with a static cache (cross attention while decoding).

        Args:
            value: float `[B, S, D']`.
            key: float `[B, S, D'']`; `None` means `value`.
            key_positions: int `[S]` or `[B, S]`; `None` means 0, 1, 2, ...
            padding_mask: bool `[B, S]`, True at real keys; what others hold does not come into the cache.
        """
        key = without_padding(value if key is None else key, padding_mask)

        def positions(length):
            return ops.arange(length, dtype="int32") if key_positions is None else key_positions

        key_heads = self._place(self._key_dense(key), self.key_norm, positions)
        return KVCache(key_heads, self._value_dense(without_padding(value, padding_mask)))

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
            keys_shape = value.shape if cache is None else (None, cache_length(cache, query.shape[1]), None)
            shape = self._axes.scores_shape(query.shape, keys_shape, self.num_heads)
            results.append(keras.KerasTensor(shape, dtype=self.compute_dtype))
        if cache is not None:
            results.append(cache_spec(cache))
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
            "query_key_norm": serialize_part(self.query_key_norm),
            "score": serialize_part(self.score),
            "attention_sink": self.attention_sink,
            "head_mixing": serialize_part(self.head_mixing),
            "attention_pattern": keras.saving.serialize_keras_object(self.attention_pattern),
        }
