"""Checks of what a call of multi-head attention is given, before any tensor maths."""


def check_shapes(query_shape, value_shape, key_shape):
    """Raises `ValueError` unless query, value and key can be attended to each other."""
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


def check_call(layer, query, return_attention_scores, cache, cache_update_index):
    """Raises `ValueError` for a cache that does not fit the layer, and for scores of a layer that refuses them."""
    if layer._flash_attention and return_attention_scores:
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
    if not layer._axes.is_plain:
        raise ValueError(f"`cache` needs a query of [B, T, D]. Received: query.shape={tuple(query.shape)}")
    sizes = layer.num_key_value_heads, layer.key_dim, layer.value_dim
    cache.check_heads(*sizes, window=layer.sliding_window, index=cache_update_index)


def check_positions(query, **positions):
    """Positions are those of one axis, and int `[T]` or `[B, T]`."""
    for argument, value in positions.items():
        if value is None:
            continue
        if len(query.shape) != 3:
            raise ValueError(f"`{argument}` needs a query of [B, T, D]. Received: query.shape={tuple(query.shape)}")
        if len(value.shape) not in (1, 2):
            raise ValueError(f"`{argument}` must be [T] or [B, T]. Received: {argument}.shape={tuple(value.shape)}")


def check_prefix(prefix_length, is_causal):
    """A prefix loosens causality, so it needs some."""
    if prefix_length is not None and not is_causal:
        raise ValueError(
            f"`prefix_length` needs `use_causal_mask=True`. Received: prefix_length={prefix_length}, "
            "use_causal_mask=False"
        )
