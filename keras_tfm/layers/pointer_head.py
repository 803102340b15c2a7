"""A head that points at the source: its places, or their words mixed with those of a vocabulary."""

import keras
from keras import ops

from keras_tfm import backend
from keras_tfm.layers.additive_score import additive_logits
from keras_tfm.layers.attention_masks import all_of, as_padding_mask, without_padding
from keras_tfm.layers.parts import clone_initializer
from keras_tfm.layers.position_checks import check_positive_integer
from keras_tfm.ops.pointer import copy_probabilities, masked_log_softmax, mix_log_probabilities


@keras.saving.register_keras_serializable(package="keras_tfm")
class PointerHead(keras.layers.Layer):
    """Attention over a source as a distribution over it: a pointer network, or a pointer-generator.

    Without `vocabulary_size` the output is where to point: log-probabilities of the places of the source. With it, a
    learned gate mixes two ways to say a word: to generate it from the vocabulary, or to copy it from the source.

    Args:
        units: A, size of the hidden layer of the score.
        vocabulary_size: V, number of words that can be said, those included that only the source has; `None` for a
            pointer alone.
        kernel_initializer: for all kernels. Defaults to `"glorot_uniform"`.
        bias_initializer: of the gate. Defaults to `"zeros"`.
        **kwargs: `keras.layers.Layer` arguments.

    Call arguments:
        query: float `[B, T, D]`, states of the decoder.
        memory: float `[B, S, E]`, states of the source.
        memory_ids: int `[B, S]`, the words of the source in `[0, V)`; needed with `vocabulary_size`.
        vocabulary_logits: float `[B, T, V']`, V' at most V; needed with `vocabulary_size`.
        query_mask, memory_mask: bool `[B, T]` and `[B, S]`, True at real tokens; filled from the inputs' implicit
            masks.
        padding_mask: bool `[B, S]`, True at real tokens of the source.
        return_attention_scores: also return the probabilities of the places.

    Returns:
        float32 log-probabilities `[B, T, S]`, or `[B, T, V]` with `vocabulary_size`; then scores `[B, T, S]` if asked
        for.

    Masking:
        Padding of the source is never pointed at: its log-probability is -1e30, finite. A source that is padding alone
        is not copied from, whatever the gate says, and a pointer at it has -1e30 everywhere. The query's mask goes on
        to the output.

    Numerics:
        Score, softmax, gate and mixture are float32, and so is the output under every policy.

    Raises:
        ValueError: `memory_ids` or `vocabulary_logits` missing with `vocabulary_size`, or given without; an id outside
            `[0, V)` where ids can be read. In compiled code such words are not copied.

    Reference:
        Vinyals et al. 2015, "Pointer Networks", equation 3; See et al. 2017, "Get To The Point: Summarization with
        Pointer-Generator Networks", equations 8 and 9.

    Example:

    >>> import keras
    >>> state, source = keras.random.normal((2, 3, 8)), keras.random.normal((2, 5, 8))
    >>> tuple(PointerHead(units=16)(state, source).shape)
    (2, 3, 5)
    >>> ids, logits = keras.ops.ones((2, 5), "int32"), keras.random.normal((2, 3, 20))
    >>> tuple(PointerHead(units=16, vocabulary_size=25)(state, source, ids, logits).shape)
    (2, 3, 25)
    """

    def __init__(
        self, units, vocabulary_size=None, kernel_initializer="glorot_uniform", bias_initializer="zeros", **kwargs
    ):
        super().__init__(**kwargs)
        self.supports_masking = True
        self.units = check_positive_integer("units", units)
        self.vocabulary_size = vocabulary_size and check_positive_integer("vocabulary_size", vocabulary_size)
        self.kernel_initializer = keras.initializers.get(kernel_initializer)
        self.bias_initializer = keras.initializers.get(bias_initializer)

    def build(self, query_shape, memory_shape, memory_ids_shape=None, vocabulary_logits_shape=None):
        """Makes W_q, W_k, v, and the gate of a pointer-generator, from the shapes of the inputs."""
        del memory_ids_shape, vocabulary_logits_shape
        self.query_dense = self._make_dense("query_dense", query_shape, self.units)
        self.key_dense = self._make_dense("key_dense", memory_shape, self.units)
        self.vector = self.add_weight(
            name="vector", shape=(self.units,), initializer=clone_initializer(self.kernel_initializer)
        )
        if self.vocabulary_size is not None:
            shape = (*query_shape[:-1], query_shape[-1] + memory_shape[-1])
            self.gate = self._make_dense("gate", shape, 1, use_bias=True)

    def _make_dense(self, name, shape, units, use_bias=False):
        dense = keras.layers.Dense(
            units,
            use_bias=use_bias,
            kernel_initializer=clone_initializer(self.kernel_initializer),
            bias_initializer=clone_initializer(self.bias_initializer),
            dtype=self.dtype_policy,
            name=name,
        )
        dense.build(shape)
        return dense

    def call(
        self,
        query,
        memory,
        memory_ids=None,
        vocabulary_logits=None,
        query_mask=None,
        memory_mask=None,
        *,
        padding_mask=None,
        return_attention_scores=False,
    ):
        """Points from `query` at `memory`; see the class for arguments."""
        self._check_call(memory_ids, vocabulary_logits)
        query = without_padding(query, as_padding_mask("query_mask", query_mask, query))
        masks = {"memory_mask": memory_mask, "padding_mask": padding_mask}
        padding = all_of(as_padding_mask(argument, mask, memory) for argument, mask in masks.items())
        memory = without_padding(memory, padding)
        place = self._place_log_probabilities(query, memory, padding)
        output = place
        if self.vocabulary_size is not None:
            output = self._mix(query, memory, place, memory_ids, vocabulary_logits, padding)
        return (output, ops.cast(ops.exp(place), self.compute_dtype)) if return_attention_scores else output

    def _place_log_probabilities(self, query, memory, padding):
        """float32 `[B, T, S]`."""
        heads = (ops.expand_dims(x, 2) for x in (self.query_dense(query), self.key_dense(memory)))
        logits = ops.squeeze(additive_logits(*heads, ops.expand_dims(self.vector, 0)), 1)
        return masked_log_softmax(logits, None if padding is None else padding[:, None])

    def _mix(self, query, memory, place, ids, logits, padding):
        """float32 `[B, T, V]`."""
        probabilities = ops.exp(place)
        context = ops.matmul(ops.cast(probabilities, memory.dtype), memory)
        gate = self.gate(ops.concatenate([query, context], axis=-1))
        words = ops.log_softmax(ops.cast(logits, "float32"), axis=-1)
        missing = self.vocabulary_size - logits.shape[-1]
        if missing:
            words = ops.pad(words, ((0, 0), (0, 0), (0, missing)), constant_values=-1e30)
        copies = copy_probabilities(probabilities, ids, self.vocabulary_size)
        exists = None if padding is None else ops.any(padding, axis=1)[:, None, None]
        return mix_log_probabilities(words, copies, gate, exists)

    def _check_call(self, ids, logits):
        for argument, value in (("memory_ids", ids), ("vocabulary_logits", logits)):
            if (value is None) != (self.vocabulary_size is None):
                raise ValueError(
                    f"`{argument}` must be given with `vocabulary_size`, and only then. "
                    f"Received: vocabulary_size={self.vocabulary_size}, {argument} "
                    f"{'missing' if value is None else 'given'}"
                )
        if ids is None:
            return
        if logits.shape[-1] > self.vocabulary_size:
            raise ValueError(
                "`vocabulary_logits` must be of at most `vocabulary_size` words. "
                f"Received: vocabulary_logits.shape={tuple(logits.shape)}, vocabulary_size={self.vocabulary_size}"
            )
        span = backend.value_range(ids)
        if span is not None and (span[0] < 0 or span[1] >= self.vocabulary_size):
            raise ValueError(
                "`memory_ids` must be in [0, vocabulary_size). "
                f"Received: ids from {span[0]} to {span[1]}, vocabulary_size={self.vocabulary_size}"
            )

    def compute_output_spec(
        self, query, memory, memory_ids=None, vocabulary_logits=None, return_attention_scores=False, **kwargs
    ):
        """float32 `[B, T, S]` or `[B, T, V]`, and the scores if asked for."""
        places = (*query.shape[:-1], memory.shape[1])
        shape = places if self.vocabulary_size is None else (*query.shape[:-1], self.vocabulary_size)
        output = keras.KerasTensor(shape, dtype="float32")
        return (output, keras.KerasTensor(places, dtype=self.compute_dtype)) if return_attention_scores else output

    def get_config(self):
        """The constructor's arguments."""
        return {
            **super().get_config(),
            "units": self.units,
            "vocabulary_size": self.vocabulary_size,
            "kernel_initializer": keras.initializers.serialize(self.kernel_initializer),
            "bias_initializer": keras.initializers.serialize(self.bias_initializer),
        }
