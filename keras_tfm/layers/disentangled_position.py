"""DeBERTa's relative positions: queries meet projected distances, and keys meet them too."""

import math

import keras
from keras import ops

from keras_tfm.layers.attention_position import AttentionPosition
from keras_tfm.layers.parts import clone_initializer, get_part, serialize_part
from keras_tfm.layers.position_checks import check_positive_integer, check_shared_heads
from keras_tfm.ops.relative_positions import disentangled_index, gather_by_distance

TERMS = ("content_to_position", "position_to_content")


@keras.saving.register_keras_serializable(package="keras_tfm")
class DisentangledPosition(AttentionPosition):
    """DeBERTa's disentangled attention, for `MultiHeadAttention(position=...)`.

    With P the embeddings of the distances, adds `q_i · (P W_k)[δ(i, j)] + k_j · (P W_q)[δ(j, i)]` to the content's
    `q_i · k_j`, and divides all three by √(3H).

    Args:
        max_distance: k, in positions: longer distances count as k. With `num_buckets` the last bucket begins there.
        num_buckets: `None` gives each distance its own embedding; an even number gives that many buckets on each side,
            half of them single distances, then logarithmic (DeBERTa v2 and v3).
        embeddings: `None` makes a table P `[2k, D]` (`[2 num_buckets, D]`) of its own; a layer, such as a
            `keras.layers.Embedding` of so many rows, can be given to several positions, which then share it as all
            layers of DeBERTa do.
        dim: D, width of the table; `None` means N · H. Not read with `embeddings`.
        terms: those of `"content_to_position"` and `"position_to_content"` to add. Defaults to both.
        distance_from_key: whether the second term looks up δ(j, i), as the paper writes it; `False` takes δ(i, j) there
            too, as the authors' code and the published models do. Defaults to `True`.
        use_bias: whether `P W_q` has a bias, as in the authors' code. Defaults to `False`.
        embeddings_initializer: of the table. Defaults to `"uniform"`.
        kernel_initializer: of W_k `[D, K, H]` and W_q `[D, N, H]`. Defaults to `"glorot_uniform"`.
        **kwargs: `keras.layers.Layer` arguments.

    Raises:
        ValueError: a number that does not fit; unknown or no terms; `embeddings` of another number of rows; layers of
            different numbers of heads that share one instance.

    Numerics:
        The terms are computed in float32 whatever the policy. `MultiHeadAttention` divides the content by √H; `rotate`
        multiplies queries and keys by `3 ** -¼` (`2 ** -¼` with one term), which makes it √(3H). A cache holds such
        keys.

    Reference:
        He et al. 2021, "DeBERTa: Decoding-enhanced BERT with Disentangled Attention", equations 3 and 4.

    Example:

    >>> import keras, keras_tfm
    >>> position = DisentangledPosition(max_distance=4)
    >>> layer = keras_tfm.layers.MultiHeadAttention(num_heads=2, key_dim=8, position=position)
    >>> x = keras.random.normal((1, 5, 16))
    >>> tuple(layer(x, x).shape)
    (1, 5, 16)
    """

    def __init__(
        self,
        max_distance,
        num_buckets=None,
        embeddings=None,
        dim=None,
        terms=TERMS,
        distance_from_key=True,
        use_bias=False,
        embeddings_initializer="uniform",
        kernel_initializer="glorot_uniform",
        **kwargs,
    ):
        super().__init__(**kwargs)
        self.max_distance = check_positive_integer("max_distance", max_distance)
        self.num_buckets = _checked_buckets(num_buckets, max_distance)
        self.dim = None if dim is None else check_positive_integer("dim", dim)
        self.terms = _checked_terms(terms)
        self.span = self.num_buckets or self.max_distance
        self.embeddings = get_part("embeddings", embeddings, {})
        rows = getattr(self.embeddings, "input_dim", 2 * self.span)
        if rows != 2 * self.span:
            raise ValueError(f"`embeddings` must have {2 * self.span} rows. Received: embeddings.input_dim={rows}")
        self.distance_from_key = distance_from_key
        self.use_bias = use_bias
        self.embeddings_initializer = keras.initializers.get(embeddings_initializer)
        self.kernel_initializer = keras.initializers.get(kernel_initializer)

    def build(self, query_shape, key_shape, value_shape):
        """Makes the table and its projections."""
        heads, width = query_shape[2:]
        if self.embeddings is None:
            dim = self.dim or heads * width
            self.table = self._add("table", (2 * self.span, dim), self.embeddings_initializer)
        else:
            if not self.embeddings.built:
                self.embeddings.build((2 * self.span,))
            dim = self.embeddings.compute_output_shape((2 * self.span,))[-1]
        if "content_to_position" in self.terms:
            self.key_kernel = self._add("key_kernel", (dim, key_shape[2], width), self.kernel_initializer)
        if "position_to_content" in self.terms:
            self.query_kernel = self._add("query_kernel", (dim, heads, width), self.kernel_initializer)
            if self.use_bias:
                self.query_bias = self._add("query_bias", (heads, width), "zeros")
        self._num_heads = heads

    def _add(self, name, shape, initializer):
        return self.add_weight(name=name, shape=shape, initializer=clone_initializer(initializer), autocast=False)

    def rotate(self, heads, positions):
        """Shares the temperature of the content between queries and keys."""
        return heads * ops.cast(self._share, heads.dtype)

    @property
    def _share(self):
        return (1 + len(self.terms)) ** -0.25

    def bias(self, query, key, query_positions, key_positions):
        """float32 `[B, N, T, S]`."""
        check_shared_heads(self, query, self._num_heads)
        places = query_positions, key_positions
        table = self._table()
        logits = 0.0
        if "content_to_position" in self.terms:
            logits = self._content_to_position(ops.cast(query, "float32"), table, *places)
        if "position_to_content" in self.terms:
            logits = logits + self._position_to_content(ops.cast(key, "float32"), table, *places)
        return logits * (self._share / math.sqrt(query.shape[-1]))  # the other share is in query and key

    def _table(self):
        table = self.table if self.embeddings is None else self.embeddings(ops.arange(2 * self.span, dtype="int32"))
        return ops.cast(table, "float32")

    def _content_to_position(self, query, table, query_positions, key_positions):
        positions = ops.einsum("rd,dkh->rkh", table, ops.cast(self.key_kernel, "float32"))
        logits = ops.einsum("btkgh,rkh->btkgr", _grouped(query, positions.shape[1]), positions)
        index = disentangled_index(query_positions, key_positions, self.max_distance, self.num_buckets)
        return gather_by_distance(_ungrouped(logits), index)

    def _position_to_content(self, key, table, query_positions, key_positions):
        positions = ops.einsum("rd,dnh->rnh", table, ops.cast(self.query_kernel, "float32"))
        if self.use_bias:
            positions = positions + ops.cast(self.query_bias, "float32")
        logits = ops.einsum("bskh,rkgh->bskgr", key, _grouped(positions, key.shape[2]))
        sign = 1 if self.distance_from_key else -1
        index = disentangled_index(key_positions, query_positions, self.max_distance, self.num_buckets, sign)
        return ops.transpose(gather_by_distance(_ungrouped(logits), index), (0, 1, 3, 2))

    def get_config(self):
        """The constructor's arguments."""
        return {
            **super().get_config(),
            "max_distance": self.max_distance,
            "num_buckets": self.num_buckets,
            "embeddings": serialize_part(self.embeddings),
            "dim": self.dim,
            "terms": self.terms,
            "distance_from_key": self.distance_from_key,
            "use_bias": self.use_bias,
            "embeddings_initializer": keras.initializers.serialize(self.embeddings_initializer),
            "kernel_initializer": keras.initializers.serialize(self.kernel_initializer),
        }


def _grouped(heads, shared):
    """`[..., N, H]` to `[..., K, N / K, H]`."""
    *batch, number, width = ops.shape(heads)
    return ops.reshape(heads, (*batch, shared, number // shared, width))


def _ungrouped(logits):
    """`[B, T, K, G, R]` to `[B, T, N, R]`."""
    batch, length, shared, group, count = ops.shape(logits)
    return ops.reshape(logits, (batch, length, shared * group, count))


def _checked_buckets(num_buckets, max_distance):
    if num_buckets is None:
        return None
    num_buckets = check_positive_integer("num_buckets", num_buckets, at_least=4)
    if num_buckets % 2 or max_distance <= num_buckets // 2 + 1:
        raise ValueError(
            "`num_buckets` must be even, and `max_distance` beyond the buckets of one distance each. "
            f"Received: num_buckets={num_buckets}, max_distance={max_distance}"
        )
    return num_buckets


def _checked_terms(terms):
    if not isinstance(terms, (tuple, list)) or not terms or not set(terms) <= set(TERMS):
        raise ValueError(f"`terms` must be some of {TERMS}. Received: terms={terms!r}")
    return tuple(term for term in TERMS if term in terms)
