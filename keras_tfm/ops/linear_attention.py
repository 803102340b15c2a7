"""Linear attention: a kernel of feature maps in place of the softmax, so that sums over the keys can be shared."""

from typing import Any, NamedTuple

from keras import ops

# Sums of weights below this are no sums: a quotient of them, or its gradient, could overflow.
SMALLEST_SUM = 1e-30


class LinearAttentionState(NamedTuple):
    """What linear attention remembers of all keys and values it has seen: its size does not grow with them.

    Args:
        key_value: float32 `[B, K, H, Hv]`, the sum of `φ(k) vᵀ`.
        key: float32 `[B, K, H]`, the sum of `φ(k)`.

    Example:

    >>> state = LinearAttentionState.create(batch_size=2, num_key_value_heads=4, feature_dim=16, value_dim=8)
    >>> tuple(state.key_value.shape), tuple(state.key.shape)
    ((2, 4, 16, 8), (2, 4, 16))
    """

    key_value: Any
    key: Any

    @classmethod
    def create(cls, batch_size, num_key_value_heads, feature_dim, value_dim):
        """The state before the first token."""
        shape = (batch_size, num_key_value_heads, feature_dim)
        return cls(ops.zeros((*shape, value_dim), "float32"), ops.zeros(shape, "float32"))


def linear_attention(query, key, value, *, is_causal=False, runs=None, state=None, chunk_size=64):
    """Computes `φ(q)ᵀ Σ φ(k) vᵀ / φ(q)ᵀ Σ φ(k)`, the sums over the keys that each query may see.

    The causal form and the one with runs go by chunks: within a chunk the weights of pairs are written out, all before
    is one sum. So memory holds `[B, T / chunk_size, K, H, Hv]`, never that sum for every token.

    Args:
        query: float `[B, T, N, H]`, features `φ(q)`, not negative.
        key: float `[B, S, K, H]`, features `φ(k)`, not negative, and zero at keys that nobody may see.
        value: float `[B, S, K, Hv]`.
        is_causal: whether a query sees only keys up to its own position; then `S >= T`, and the queries are the last.
        runs: int `[B, T]` that never decreases: a query sees the keys of its own number. Needs T = S and no `state`;
            takes time for (T / chunk_size)² pairs of chunks.
        state: a `LinearAttentionState` of keys before these, which every query sees.
        chunk_size: L. Changes no result.

    Returns:
        `(output float32 [B, T, N, Hv], state)`, the state after these keys; `None` with runs. A query that sees nothing
        gets zeros.

    Numerics:
        float32 throughout.

    Reference:
        Katharopoulos et al. 2020, "Transformers are RNNs", equations 5, 9 and 18 to 20.

    Example:

    >>> import keras
    >>> features = keras.random.uniform((2, 5, 4, 8))
    >>> output, state = linear_attention(features, features, features, is_causal=True)
    >>> tuple(output.shape), tuple(state.key_value.shape)
    ((2, 5, 4, 8), (2, 4, 8, 8))
    """
    num_shared = key.shape[2]
    query, key, value = (ops.cast(x, "float32") for x in (query, key, value))
    batch, length, num_heads, width = ops.shape(query)
    query = ops.reshape(query, (batch, length, num_shared, num_heads // num_shared, width))
    # A column of ones: the sum of the weights comes out as one more feature of the value.
    value = ops.concatenate([value, ops.ones_like(value[..., :1])], axis=-1)
    past = None if state is None else ops.concatenate([state.key_value, state.key[..., None]], axis=-1)
    if is_causal and runs is None:
        past, key, value = _absorb_prefix(past, key, value, length)
    if is_causal or runs is not None:
        sums = _by_chunks(query, key, value, is_causal, runs, past, chunk_size)
    total = None if runs is not None else _plus(past, _key_value_sum(key, value))
    if not is_causal and runs is None:
        sums = ops.einsum("btkgh,bkhv->btkgv", query, total)
    output = ops.reshape(_quotient(sums[..., :-1], sums[..., -1:]), (batch, length, num_heads, value.shape[-1] - 1))
    return output, None if total is None else LinearAttentionState(total[..., :-1], total[..., -1])


def linear_attention_scores(query, key, mask=None):
    """The weights that linear attention gives to each key, written out.

    Args:
        query: float `[B, T, N, H]`, features.
        key: float `[B, S, K, H]`, features.
        mask: bool, broadcastable to `[B, N, T, S]`, or `None`.

    Returns:
        float32 `[B, N, T, S]`; rows sum to 1, or to 0 where a query sees nothing.
    """
    query, key = ops.cast(query, "float32"), ops.cast(key, "float32")
    key = ops.repeat(key, query.shape[2] // key.shape[2], axis=2)
    weights = ops.einsum("btnh,bsnh->bnts", query, key)
    if mask is not None:
        weights = ops.where(mask, weights, 0.0)
    return _quotient(weights, ops.sum(weights, axis=-1, keepdims=True))


def count_runs(ids):
    """int32 `[B, T]`: which run of equal ids each of `[B, T]` stands in, counted from 0."""
    changes = ops.cast(ops.not_equal(ids[:, 1:], ids[:, :-1]), "int32")
    return ops.pad(ops.cumsum(changes, axis=1), ((0, 0), (1, 0)))


def _quotient(numerator, denominator):
    is_something = denominator > SMALLEST_SUM
    return ops.where(is_something, numerator / ops.where(is_something, denominator, 1.0), 0.0)


def _plus(past, new):
    return new if past is None else past + new


def _key_value_sum(key, value):
    return ops.einsum("bskh,bskv->bkhv", key, value)


def _absorb_prefix(past, key, value, num_queries):
    """Keys before the first query are past to every query."""
    num_before = ops.shape(key)[1] - num_queries
    if isinstance(num_before, int) and num_before == 0:
        return past, key, value
    past = _plus(past, _key_value_sum(key[:, :num_before], value[:, :num_before]))
    return past, key[:, num_before:], value[:, num_before:]


def _by_chunks(query, key, value, is_causal, runs, past, size):
    length = ops.shape(query)[1]
    query, key, value = (_cut(x, length, size) for x in (query, key, value))
    order = ops.arange(size, dtype="int32")
    allowed = order[:, None] >= order if is_causal else None
    if runs is None:
        before = _key_value_sums(key, value)
        first = ops.zeros_like(before[:, :1]) if past is None else past[:, None]
        # Shifted before the sum, and not subtracted after it, so that no rounding depends on what comes later.
        before = ops.cumsum(ops.concatenate([first, before[:, :-1]], axis=1), axis=1)
        sums = ops.einsum("bclkgh,bckhv->bclkgv", query, before)
    else:
        runs = _cut(runs, length, size)
        same = ops.equal(runs[..., None], runs[..., None, :])
        allowed = (same if allowed is None else ops.logical_and(same, allowed))[:, :, None, None]
        sums = _from_other_chunks(query, key, value, runs, is_causal)
    weights = ops.einsum("bclkgh,bcmkh->bckglm", query, key)
    sums = sums + ops.einsum("bckglm,bcmkv->bclkgv", ops.where(allowed, weights, 0.0), value)
    shape = ops.shape(sums)
    return ops.reshape(sums, (shape[0], shape[1] * size, *shape[3:]))[:, :length]


def _cut(x, length, size):
    """`[B, T, ...]` to `[B, C, L, ...]`, the last chunk filled up with zeros."""
    batch, _, *rest = ops.shape(x)
    missing = (-length) % size
    if not isinstance(missing, int) or missing:
        x = ops.concatenate([x, ops.zeros((batch, missing, *rest), x.dtype)], axis=1)
    return ops.reshape(x, (batch, (length + missing) // size, size, *rest))


def _key_value_sums(key, value):
    return ops.einsum("bclkh,bclkv->bckhv", key, value)


def _from_other_chunks(query, key, value, runs, is_causal):
    """A run that goes on over the edge of a chunk is the last run there, and the first of the next one."""
    first, last = runs[:, :, 0], runs[:, :, -1]
    order = ops.arange(ops.shape(runs)[1], dtype="int32")
    earlier = ops.logical_and(ops.equal(first[:, :, None], last[:, None, :]), order[:, None] > order)
    sums = _gather(query, key, value, runs, edges=(first, last), reach=earlier)
    if is_causal:
        return sums
    later = ops.logical_and(ops.equal(last[:, :, None], first[:, None, :]), order[:, None] < order)
    return sums + _gather(query, key, value, runs, edges=(last, first), reach=later)


def _gather(query, key, value, runs, edges, reach):
    """Queries of the run `edges[0]` of their chunk see keys of the run `edges[1]` of the chunks that `reach` allows."""
    readers, written = (ops.cast(ops.equal(runs, edge[:, :, None]), "float32") for edge in edges)
    sums = _key_value_sums(key * written[..., None, None], value)
    sums = ops.einsum("bcd,bdkhv->bckhv", ops.cast(reach, "float32"), sums)
    return ops.einsum("bclkgh,bckhv->bclkgv", query * readers[..., None, None, None], sums)
