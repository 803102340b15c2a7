"""Multi-head latent attention: keys and values come out of one small vector a token, and only that is cached."""

import math

import keras
from keras import ops

from keras_tfm.layers.attention_checks import check_positions, check_prefix
from keras_tfm.layers.attention_masks import (
    as_padding_mask,
    check_attention_bias,
    check_attention_mask,
    key_padding,
    segment_pair,
    without_padding,
)
from keras_tfm.layers.dropout import Dropout
from keras_tfm.layers.head_projections import make_head_merge, make_head_projection
from keras_tfm.layers.latent_parts import (
    attend_absorbed,
    attend_in_full,
    check_latent_cache,
    get_rotation,
    make_dense,
    with_heads,
)
from keras_tfm.layers.parts import make_normalization, serialize_part
from keras_tfm.layers.position_checks import check_positive_integer
from keras_tfm.layers.token_positions import place_tokens
from keras_tfm.ops import AttentionMask, ScoreDropout
from keras_tfm.ops.latent_cache import LatentCache


@keras.saving.register_keras_serializable(package="keras_tfm")
class MultiHeadLatentAttention(keras.layers.Layer):
    """Multi-head latent attention (MLA): a joint low-rank compression of keys and values.

    Each token is compressed to a latent of R features; keys and values of all heads are linear maps of it. One more
    key of Hr features, shared by all heads, carries the rotary position. With a cache the maps are absorbed into
    queries and outputs: attention runs over the latents themselves, and no key or value is ever written out.

    Args:
        num_heads: N, the number of heads.
        key_dim: H, size of the part of a query and key without position.
        latent_dim: R, size of the latent of keys and values.
        rotary_dim: Hr, size of the part of a query and key that carries the position.
        value_dim: Hv, size of a value; `None` means `key_dim`.
        query_latent_dim: size of a latent that queries are made of; `None` makes them of the input.
        dropout: rate in [0, 1) on the scores. Defaults to 0.
        use_bias: whether the projections from and to the width of the layer have biases; those out of latents never
            have. Defaults to `False`.
        output_shape: width of the output; `None` means that of the query.
        kernel_initializer: for all kernels. Defaults to `"glorot_uniform"`.
        bias_initializer: for all biases. Defaults to `"zeros"`.
        latent_normalization: of the latents: `"rms"`, `"layer"`, a layer, or `None`. Defaults to `"rms"`.
        position: `"rope"`, an `AttentionPosition` that rotates and does nothing else, or `None`. Defaults to `"rope"`.
        seed: seed of the dropout.
        **kwargs: `keras.layers.Layer` arguments.

    Call arguments:
        query: float `[B, T, D]`.
        value: float `[B, S, D']`, what is attended to; may be `None` with a static cache.
        query_mask, value_mask: bool `[B, T]` and `[B, S]`, True at real tokens; filled from the inputs' implicit masks.
        attention_mask: bool `[B, T, S]` or `[B, N, T, S]` (1 broadcasts), True where a query may attend to a key.
        return_attention_scores: also return the scores. Changes no output.
        training: whether dropout applies.
        use_causal_mask: whether a query sees only keys up to its own position.
        padding_mask: bool `[B, S]`, True at real keys.
        segment_ids, key_segment_ids: int `[B, T]` and `[B, S]`: tokens attend within their own segment.
        attention_bias: float broadcastable to `[B, N, T, S]`, added to the logits.
        query_positions, key_positions: int `[T]` or `[B, T]`, and `[S]` or `[B, S]`; `None` counts from 0, with a cache
            from `cache_update_index`.
        prefix_length: int or int `[B]`: with `use_causal_mask`, keys before it are seen by all.
        cache: a `LatentCache`. With `cache_update_index`, the new tokens are written there first; without it the cache
            alone is attended to and `value` is not read.
        cache_update_index: int or int32 scalar, position of the first of the T new tokens.

    Returns:
        `output [B, T, D]`, then scores `[B, N, T, S]` if asked for, then the cache if one was given: a tuple if more
        than the output.

    Masking:
        As `MultiHeadAttention`: every mask given applies, that of the query goes on to the output, and a query with
        nothing to attend to gets zero heads.

    Numerics:
        The softmax and the rotary angles are float32. The absorbed form multiplies the same matrices in another order,
        so that it rounds differently from the full pass.

    Raises:
        ValueError: as `MultiHeadAttention`; a `position` that adds to the logits or the values.

    Reference:
        DeepSeek-AI 2024 (Liu et al.), "DeepSeek-V2", sections 2.1.2 and 2.1.3, equations 9 to 19.

    Example:

    >>> import keras
    >>> layer = MultiHeadLatentAttention(num_heads=4, key_dim=8, latent_dim=12, rotary_dim=4)
    >>> x = keras.random.normal((2, 5, 32))
    >>> first, cache = layer(x[:, :3], x[:, :3], use_causal_mask=True, cache=layer.create_cache(2, 5),
    ...     cache_update_index=0)
    >>> second, cache = layer(x[:, 3:], x[:, 3:], use_causal_mask=True, cache=cache, cache_update_index=3)
    >>> tuple(second.shape), tuple(cache.latent.shape), tuple(cache.rotary_key.shape)
    ((2, 2, 32), (2, 5, 12), (2, 5, 4))
    """

    def __init__(
        self,
        num_heads,
        key_dim,
        latent_dim,
        rotary_dim,
        value_dim=None,
        query_latent_dim=None,
        dropout=0.0,
        use_bias=False,
        output_shape=None,
        kernel_initializer="glorot_uniform",
        bias_initializer="zeros",
        *,
        latent_normalization="rms",
        position="rope",
        seed=None,
        **kwargs,
    ):
        super().__init__(**kwargs)
        self.supports_masking = True
        self.num_heads = check_positive_integer("num_heads", num_heads)
        self.key_dim = check_positive_integer("key_dim", key_dim)
        self.latent_dim = check_positive_integer("latent_dim", latent_dim)
        self.rotary_dim = check_positive_integer("rotary_dim", rotary_dim)
        self.value_dim = key_dim if value_dim is None else check_positive_integer("value_dim", value_dim)
        self.query_latent_dim = query_latent_dim and check_positive_integer("query_latent_dim", query_latent_dim)
        if not 0 <= dropout < 1:
            raise ValueError(f"`dropout` must be in [0, 1). Received: dropout={dropout!r}")
        self.dropout = dropout
        self.use_bias = use_bias
        self.output_width = output_shape and check_positive_integer("output_shape", output_shape)
        self.kernel_initializer = keras.initializers.get(kernel_initializer)
        self.bias_initializer = keras.initializers.get(bias_initializer)
        self.latent_normalization = latent_normalization
        self.position = get_rotation(position, rotary_dim, self.dtype_policy)
        self.seed = seed
        self.score_dropout = Dropout(dropout, seed=seed, dtype=self.dtype_policy, name="score_dropout")
        self._scale = 1.0 / math.sqrt(key_dim + rotary_dim)

    def build(self, query_shape, value_shape):
        """Makes the projections from the shapes of query and value."""
        query_heads = (self.num_heads, self.key_dim + self.rotary_dim)
        if self.query_latent_dim is None:
            self.query_dense = make_head_projection(self, "query", query_shape, query_heads, self.use_bias)
        else:
            latent = (*query_shape[:-1], self.query_latent_dim)
            self.query_down = make_dense(self, "query_down", query_shape, self.query_latent_dim)
            self.query_norm = self._make_norm("query_norm", latent)
            self.query_up = make_head_projection(self, "query_up", latent, query_heads)
        latent = (*value_shape[:-1], self.latent_dim)
        self.key_value_down = make_dense(self, "key_value_down", value_shape, self.latent_dim + self.rotary_dim)
        self.latent_norm = self._make_norm("latent_norm", latent)
        self.key_up = make_head_projection(self, "key_up", latent, (self.num_heads, self.key_dim))
        self.value_up = make_head_projection(self, "value_up", latent, (self.num_heads, self.value_dim))
        heads = (*query_shape[:-1], self.num_heads, self.value_dim)
        width = query_shape[-1] if self.output_width is None else self.output_width
        self.output_dense = make_head_merge(self, "attention_output", heads, width, self.use_bias)

    def _make_norm(self, name, shape):
        if self.latent_normalization is None:
            return None
        norm = make_normalization(self.latent_normalization, 1e-6, self.dtype_policy, name)
        norm.build(shape)
        return norm

    def call(
        self,
        query,
        value,
        query_mask=None,
        value_mask=None,
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
        check_latent_cache(cache, cache_update_index, self.latent_dim, self.rotary_dim)
        check_positions(query, query_positions=query_positions, key_positions=key_positions)
        check_prefix(prefix_length, use_causal_mask)
        cache = None if cache is None else LatentCache(*cache)
        places = place_tokens(query, value, cache, cache_update_index, query_positions, key_positions, use_causal_mask)
        query_padding = as_padding_mask("query_mask", query_mask, query)
        masks = [("value_mask", value_mask), ("padding_mask", padding_mask)]
        padding = key_padding(masks, value, cache, cache_update_index, use_causal_mask)
        query_parts = self._queries(without_padding(query, query_padding), places)
        if cache_update_index is not None:
            cache = cache.write(*self._compress(value, places), cache_update_index)
        memory = self._compress(without_padding(value, padding), places) if cache is None else cache
        check_attention_mask(attention_mask, 3, 1, ops.shape(query), ops.shape(memory.latent)[1])
        check_attention_bias(attention_bias, query.shape, memory.latent.shape[1])
        mask = AttentionMask(
            is_causal=bool(use_causal_mask),
            key_padding=padding,
            query_padding=query_padding,
            segments=segment_pair(segment_ids, key_segment_ids, query, memory.latent),
            explicit=with_heads(attention_mask),
            query_offset=places.start,
            prefix_length=prefix_length,
            query_positions=places.queries,
            key_positions=places.keys,
        )
        heads, scores = (attend_in_full if cache is None else attend_absorbed)(
            query_parts,
            memory,
            self.key_up,
            self.value_up,
            mask=mask,
            bias=attention_bias,
            scale=self._scale,
            dropout=self._score_dropout(training),
            return_scores=return_attention_scores,
            label=self.path,
        )
        results = [self.output_dense(heads), scores if return_attention_scores else None, cache]
        results = tuple(result for result in results if result is not None)
        return results[0] if len(results) == 1 else results

    def _score_dropout(self, training):
        if not training or not self.dropout:
            return None
        return ScoreDropout.of(self.dropout, self.score_dropout.seed_generator, self.seed)

    def _queries(self, query, places):
        """The part without position `[B, T, N, H]` and the part with it `[B, T, N, Hr]`."""
        if self.query_latent_dim is None:
            heads = self.query_dense(query)
        else:
            latent = self.query_down(query)
            heads = self.query_up(latent if self.query_norm is None else self.query_norm(latent))
        return heads[..., : self.key_dim], self._rotate(heads[..., self.key_dim :], places.of_queries)

    def _compress(self, value, places):
        """`value [B, S, D']` as a `LatentCache`."""
        joint = self.key_value_down(value)
        latent, rotary_key = joint[..., : self.latent_dim], joint[..., self.latent_dim :]
        latent = latent if self.latent_norm is None else self.latent_norm(latent)
        rotary_key = self._rotate(ops.expand_dims(rotary_key, 2), places.of_new_keys)
        return LatentCache(latent, ops.squeeze(rotary_key, 2))

    def _rotate(self, heads, positions):
        if self.position is None:
            return heads
        return self.position.rotate(heads, positions(ops.shape(heads)[1]))

    def create_cache(self, batch_size, length):
        """An empty `LatentCache` of `length` positions for this layer, in its compute dtype."""
        return LatentCache.create(batch_size, length, self.latent_dim, self.rotary_dim, dtype=self.compute_dtype)

    def project_memory(self, value, key_positions=None):
        """The `LatentCache` of `value [B, S, D']`, for calls with a static cache; positions count from 0 by default."""
        places = place_tokens(value, value, None, None, key_positions, key_positions, False)
        return self._compress(value, places)

    def compute_output_spec(self, query, value, return_attention_scores=False, cache=None, **kwargs):
        """The full specification of the outputs: output, scores, cache."""
        width = query.shape[-1] if self.output_width is None else self.output_width
        results = [keras.KerasTensor((*query.shape[:-1], width), dtype=self.compute_dtype)]
        if return_attention_scores:
            keys = value if cache is None else cache[0]
            shape = (query.shape[0], self.num_heads, query.shape[1], keys.shape[1])
            results.append(keras.KerasTensor(shape, dtype=self.compute_dtype))
        if cache is not None:
            results.append(LatentCache(*(keras.KerasTensor(x.shape, dtype=x.dtype) for x in cache)))
        return results[0] if len(results) == 1 else tuple(results)

    def get_config(self):
        """The constructor's arguments."""
        return {
            **super().get_config(),
            "num_heads": self.num_heads,
            "key_dim": self.key_dim,
            "latent_dim": self.latent_dim,
            "rotary_dim": self.rotary_dim,
            "value_dim": self.value_dim,
            "query_latent_dim": self.query_latent_dim,
            "dropout": self.dropout,
            "use_bias": self.use_bias,
            "output_shape": self.output_width,
            "kernel_initializer": keras.initializers.serialize(self.kernel_initializer),
            "bias_initializer": keras.initializers.serialize(self.bias_initializer),
            "latent_normalization": serialize_part(self.latent_normalization),
            "position": serialize_part(self.position),
            "seed": self.seed,
        }
