"""Bahdanau's attention: one head whose score is a small network."""

import keras
from keras import ops

from keras_tfm.layers.additive_score import additive_logits
from keras_tfm.layers.attention_masks import all_of, as_padding_mask, check_attention_mask, without_padding
from keras_tfm.layers.parts import clone_initializer
from keras_tfm.layers.token_positions import place_tokens
from keras_tfm.ops import AttentionMask
from keras_tfm.ops.attention import attention
from keras_tfm.ops.dropout import dropout


@keras.saving.register_keras_serializable(package="keras_tfm")
class AdditiveAttention(keras.layers.AdditiveAttention):
    """Additive attention `softmax(v · tanh(W_q q + W_k k))`: a drop-in superset of `keras.layers.AdditiveAttention`.

    Keras' layer adds queries and keys as they are; with `units` they are projected first, as in the paper, and may
    differ in width. `MultiHeadAttention(score="additive")` has the same score in many heads.

    Args:
        use_scale: whether there is a learned vector v; without it the hidden units are summed. Defaults to `True`.
        dropout: rate in [0, 1) on the scores. Defaults to 0.
        units: A, the size of the hidden layer, with its own W_q and W_k; `None` for no projection.
        kernel_initializer: of W_q and W_k. Defaults to `"glorot_uniform"`.
        **kwargs: `seed` of the dropout, and `keras.layers.Layer` arguments.

    Call arguments:
        inputs: list of query, float `[B, T, D]`, value `[B, S, D']`, and if it is not the value, key `[B, S, D'']`.
        mask: list of bool `[B, T]`, `[B, S]` and maybe `[B, S]`, or `None`s, True at real tokens; filled from the
            inputs' implicit masks.
        training: whether dropout applies.
        return_attention_scores: also return the scores. Changes no output.
        use_causal_mask: whether a query sees only keys up to its own position. Queries that are fewer than the keys are
            the last of them.
        attention_mask: bool `[B, T, S]`, True where a query may attend to a key.
        padding_mask: bool `[B, S]`, True at real keys.
        inputs_mask: the implicit masks, where Keras fills them in under this name.

    Returns:
        `output [B, T, D']`, and scores `[B, T, S]` before dropout if asked for.

    Masking:
        Every mask given applies, that of the key too; that of the query goes on to the output. A query with nothing to
        attend to gets zeros.

    Numerics:
        The sum over hidden units and the softmax are float32. The hidden layer `[B, T, S, A]` is held in memory.

    Files:
        Weights saved by Keras' class load into a layer without `units`.

    Raises:
        ValueError: inputs that are no list of two or three; widths that differ without `units`; a mask that does not
            fit.

    Reference:
        Bahdanau et al. 2015, "Neural Machine Translation by Jointly Learning to Align and Translate", appendix A.1.2.

    Example:

    >>> import keras
    >>> layer = AdditiveAttention(units=16)
    >>> query, memory = keras.random.normal((2, 5, 8)), keras.random.normal((2, 7, 12))
    >>> output, scores = layer([query, memory], return_attention_scores=True)
    >>> tuple(output.shape), tuple(scores.shape)
    ((2, 5, 12), (2, 5, 7))
    """

    def __init__(self, use_scale=True, dropout=0.0, *, units=None, kernel_initializer="glorot_uniform", **kwargs):
        super().__init__(use_scale=use_scale, dropout=dropout, **kwargs)
        if not 0 <= dropout < 1:
            raise ValueError(f"`dropout` must be in [0, 1). Received: dropout={dropout!r}")
        if units is not None and (not isinstance(units, int) or units <= 0):
            raise ValueError(f"`units` must be a positive integer or None. Received: units={units!r}")
        self.supports_masking = True
        self.units = units
        self.kernel_initializer = keras.initializers.get(kernel_initializer)

    def build(self, input_shape):
        """Makes v, and W_q and W_k if there are `units`, from the shapes of the inputs."""
        _check_inputs(input_shape)
        query_shape, key_shape = input_shape[0], input_shape[-1]
        if self.units is None and query_shape[-1] != key_shape[-1]:
            raise ValueError(
                "`units` is needed where query and key differ in width. "
                f"Received: units=None, shapes {tuple(query_shape)} and {tuple(key_shape)}"
            )
        self.scale = self.query_dense = self.key_dense = None
        if self.use_scale:
            width = query_shape[-1] if self.units is None else self.units
            self.scale = self.add_weight(name="scale", shape=(width,), initializer="glorot_uniform")
        if self.units is not None:
            self.query_dense = self._make_dense("query_dense", query_shape)
            self.key_dense = self._make_dense("key_dense", key_shape)

    def _make_dense(self, name, shape):
        dense = keras.layers.Dense(
            self.units,
            use_bias=False,
            kernel_initializer=clone_initializer(self.kernel_initializer),
            dtype=self.dtype_policy,
            name=name,
        )
        dense.build(shape)
        return dense

    def call(
        self,
        inputs,
        mask=None,
        training=False,
        return_attention_scores=False,
        use_causal_mask=False,
        *,
        attention_mask=None,
        padding_mask=None,
        inputs_mask=None,
    ):
        """Attends from the first of the inputs to the second; see the class for arguments."""
        _check_inputs(inputs)
        query, value, key = inputs[0], inputs[1], inputs[-1]
        masks = list(inputs_mask if mask is None else mask) if mask is not None or inputs_mask is not None else []
        query_mask, value_mask, key_mask = (*masks, None, None, None)[:3]
        check_attention_mask(attention_mask, 3, 1, ops.shape(query), ops.shape(value)[1])
        query_padding = as_padding_mask("query_mask", query_mask, query)
        key_masks = {"value_mask": value_mask, "key_mask": key_mask, "padding_mask": padding_mask}
        key_padding = all_of(as_padding_mask(argument, mask, value) for argument, mask in key_masks.items())
        attention_mask = AttentionMask(
            is_causal=bool(use_causal_mask),
            key_padding=key_padding,
            query_padding=query_padding,
            explicit=None if attention_mask is None else ops.cast(attention_mask, "bool")[:, None],
            query_offset=place_tokens(query, value, None, None, None, None, use_causal_mask).start,
        )
        output, scores = attention(
            _as_head(without_padding(query, query_padding), self.query_dense),
            _as_head(without_padding(key, key_padding), self.key_dense),
            _as_head(value, None),
            attention_mask,
            dropout=self._drop if training and self.dropout > 0 else None,
            return_scores=return_attention_scores,
            score=self._logits,
            label=self.path,
        )
        output = ops.squeeze(output, 2)
        return (output, ops.squeeze(scores, 1)) if return_attention_scores else output

    def _logits(self, query, key):
        vector = ops.ones((query.shape[-1],), "float32") if self.scale is None else self.scale
        return additive_logits(query, key, ops.expand_dims(vector, 0))

    def _drop(self, scores):
        return dropout(scores, self.dropout, self.seed_generator)

    def compute_output_spec(
        self, inputs, mask=None, return_attention_scores=False, training=None, use_causal_mask=False, **kwargs
    ):
        """The specification of the output, and of the scores if asked for."""
        _check_inputs(inputs)
        query, value = inputs[:2]
        output = keras.KerasTensor((*query.shape[:-1], value.shape[-1]), dtype=self.compute_dtype)
        if not return_attention_scores:
            return output
        return output, keras.KerasTensor((*query.shape[:-1], value.shape[1]), dtype=self.compute_dtype)

    def get_config(self):
        """The constructor's arguments."""
        return {
            **super().get_config(),
            "units": self.units,
            "kernel_initializer": keras.initializers.serialize(self.kernel_initializer),
        }


def _check_inputs(inputs):
    """`inputs` are tensors or their shapes."""
    is_list = isinstance(inputs, (list, tuple)) and not any(x is None or isinstance(x, int) for x in inputs)
    if not is_list or len(inputs) not in (2, 3):
        received = f"a list of {len(inputs)}" if is_list else "no list"
        raise ValueError(f"`inputs` must be a list [query, value] or [query, value, key]. Received: {received}")


def _as_head(x, dense):
    return ops.expand_dims(x if dense is None else dense(x), 2)
