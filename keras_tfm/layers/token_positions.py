"""Where queries and keys stand: by index, by cache index, or as the caller says."""

from typing import Any, NamedTuple

from keras import ops

from keras_tfm.ops.kv_cache import count_from, is_vector


class Places(NamedTuple):
    """Positions of the tokens of one call.

    Args:
        start: position of the first query where none are given.
        queries, keys: int `[T]` or `[B, T]`, and `[S]` or `[B, S]`; `None` where they go by index.
        new_keys: int positions of the keys projected in this call; `None` where they go by index.
        new_start: position of the first of those keys.
        slots: int32 `[B, S]`, which place of the sequence each key of a cache has, -1 for none; `None` where the keys
            go by index.
    """

    start: Any
    queries: Any
    keys: Any
    new_keys: Any
    new_start: Any
    slots: Any = None

    def of_queries(self, length):
        """Positions of the queries."""
        return count_from(self.start, length) if self.queries is None else self.queries

    def of_new_keys(self, length):
        """Positions of the keys that this call projects."""
        return count_from(self.new_start, length) if self.new_keys is None else self.new_keys


def place_tokens(query, value, cache, index, query_positions, key_positions, is_causal):
    """Finds the positions of a call's tokens.

    Without positions and cache, keys stand at 0 to S - 1. Causal queries that are fewer than the keys are the last
    of them, as in decoding, and see their whole past; all others start at 0.

    Args:
        query, value: `[B, T, D]` and `[B, S, D']`.
        cache: a cache of any kind or `None`.
        index: where the new tokens stand in the cache: an int, int32 scalar or int32 `[B]`.
        query_positions, key_positions: what the caller gave.
        is_causal: whether causality was asked for.
    """
    if query_positions is not None and key_positions is None and cache is None:
        key_positions = _shared(query_positions, query, value)
    if query_positions is not None and key_positions is None:
        raise ValueError(
            "`key_positions` [B, S] of the whole cache is needed where `query_positions` and `cache` are given. "
            "Received: key_positions=None"
        )
    if cache is not None and index is not None:
        return _in_cache(cache, index, ops.shape(query)[1], query_positions, key_positions)
    keys = value if cache is None else cache[0]
    is_sequence = len(query.shape) == 3
    start = _last(ops.shape(query)[1], ops.shape(keys)[1]) if is_causal and is_sequence else 0
    return Places(start, query_positions, key_positions, key_positions, 0)


def _in_cache(cache, index, num_tokens, query_positions, key_positions):
    slots = cache.key_positions(index, num_tokens)
    if slots is not None:
        key_positions = ops.maximum(slots, 0) if key_positions is None else at_slots(key_positions, slots)
    start = index
    if is_vector(index):
        query_positions = count_from(index, num_tokens) if query_positions is None else query_positions
        start = 0
    return Places(start, query_positions, key_positions, query_positions, start, slots)


def at_slots(values, slots):
    """`values [S']` or `[B, S']` of a whole sequence, at the places `slots [B, S]`; where there is none, any of them.

    `None` for either leaves the other as it is.
    """
    if values is None or slots is None:
        return values
    values = ops.broadcast_to(values, (ops.shape(slots)[0], ops.shape(values)[-1]))
    return ops.take_along_axis(values, ops.clip(slots, 0, ops.shape(values)[1] - 1), axis=1)


def _shared(positions, query, value):
    if query.shape[1] != value.shape[1]:
        raise ValueError(
            "`key_positions` is needed where keys are not the queries. "
            f"Received: query.shape={tuple(query.shape)}, value.shape={tuple(value.shape)}, key_positions=None"
        )
    return positions


def _last(num_queries, num_keys):
    if isinstance(num_queries, int) and isinstance(num_keys, int):
        return max(num_keys - num_queries, 0)
    return ops.maximum(num_keys - num_queries, 0)
