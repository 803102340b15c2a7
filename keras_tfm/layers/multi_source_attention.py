"""Cross attention to several memories."""

import keras
from keras import ops

from keras_tfm.layers.flat_attention import FlatAttention
from keras_tfm.layers.memories import attend_memory, check_number, live_contexts, memory_paddings
from keras_tfm.layers.multi_head_attention import MultiHeadAttention
from keras_tfm.layers.parts import clone_initializer, make_normalization, serialize_part
from keras_tfm.layers.position_checks import check_choice, check_positive_integer
from keras_tfm.layers.sublayer_calls import attend
from keras_tfm.ops import KVCache

COMBINATIONS = ("flat", "hierarchical", "serial", "parallel")


@keras.saving.register_keras_serializable(package="keras_tfm")
class MultiSourceAttention(keras.layers.Layer):
    """Cross attention to several memories: texts in two languages, a text and an image, a document and its context.

    Args:
        num_heads, key_dim, value_dim, dropout, use_bias, kernel_initializer, bias_initializer, num_key_value_heads: of
            each attention, as `MultiHeadAttention` has them.
        combination: how the memories come together.
            `"flat"`: one softmax over the keys of all, each memory with its own projections.
            `"hierarchical"`: an attention to each, then one to the contexts that they found.
            `"serial"`: an attention to each in turn, the query of the next one being the query plus what was found.
            `"parallel"`: an attention to each, and the sum. Defaults to `"flat"`.
        output_shape: width of the output; `None` means that of the query. `"serial"` has no other.
        normalization: of the queries of all steps but the first of `"serial"`: `"layer"`, `"rms"`, a layer, or `None`.
        seed: seed of the dropout.
        **kwargs: `keras.layers.Layer` arguments.

    Call arguments:
        query: float `[B, T, D]`.
        memories: a list of float `[B, S, D']`, S and D' of each its own; may be `None` with a cache.
        query_mask: bool `[B, T]`, True at real tokens; filled from the implicit mask.
        memories_mask: a list of bool `[B, S]` or `None`, filled from the implicit masks.
        padding_masks: a list of bool `[B, S]` or `None`, True at real tokens.
        return_attention_scores: also return the scores. Changes no output.
        training: whether dropout applies.
        cache: what `project_memories` returned, to attend to again without projecting again.

    Returns:
        `output [B, T, D]`: what is to be added to the query. Then, if asked for, a tuple of scores `[B, N, T, S]`, one
        for each memory; `"hierarchical"` adds `[B, N, T, M]`, those over its M contexts. Then the cache if one was
        given.

    Masking:
        All masks apply. A query that may attend to nothing in a memory gets zero heads from it; the second attention of
        `"hierarchical"` leaves out the context of a memory that is padding alone. The mask of the query goes on.

    Raises:
        ValueError: an unknown combination; another number of memories or masks than the layer was built for; a
            `normalization` or an `output_shape` that the combination has no use for.

    Reference:
        Libovický & Helcl 2017, "Attention Strategies for Multi-Source Sequence-to-Sequence Learning", sections 3.1 and
        3.2; Libovický et al. 2018, "Input Combination Strategies for Multi-Source Transformer Decoder", section 2.

    Example:

    >>> import keras
    >>> layer = MultiSourceAttention(num_heads=4, key_dim=8, combination="hierarchical")
    >>> query = keras.random.normal((2, 5, 32))
    >>> text, image = keras.random.normal((2, 7, 32)), keras.random.normal((2, 9, 16))
    >>> output, scores = layer(query, [text, image], return_attention_scores=True)
    >>> tuple(output.shape), [tuple(each.shape) for each in scores]
    ((2, 5, 32), [(2, 4, 5, 7), (2, 4, 5, 9), (2, 4, 5, 2)])
    """

    def __init__(
        self,
        num_heads,
        key_dim,
        combination="flat",
        value_dim=None,
        dropout=0.0,
        use_bias=True,
        output_shape=None,
        kernel_initializer="glorot_uniform",
        bias_initializer="zeros",
        *,
        num_key_value_heads=None,
        normalization=None,
        seed=None,
        **kwargs,
    ):
        super().__init__(**kwargs)
        check_choice("combination", combination, COMBINATIONS)
        for argument, value, serves in (
            ("normalization", normalization, combination == "serial"),
            ("output_shape", output_shape, combination != "serial"),
        ):
            if value is not None and not serves:
                raise ValueError(
                    f"`{argument}` has no use with this `combination`. "
                    f"Received: {argument}={value!r}, combination={combination!r}"
                )
        self.supports_masking = True
        self.num_heads = check_positive_integer("num_heads", num_heads)
        self.key_dim = check_positive_integer("key_dim", key_dim)
        self.combination = combination
        self.value_dim = key_dim if value_dim is None else check_positive_integer("value_dim", value_dim)
        self.dropout = dropout
        self.use_bias = use_bias
        self.output_width = output_shape and check_positive_integer("output_shape", output_shape)
        self.kernel_initializer = keras.initializers.get(kernel_initializer)
        self.bias_initializer = keras.initializers.get(bias_initializer)
        self.num_key_value_heads = num_heads if num_key_value_heads is None else num_key_value_heads
        self.normalization = normalization
        self.seed = seed

    def build(self, query_shape, memories_shape):
        """Makes the attentions from the shapes of the query and of each memory."""
        self.num_memories = len(memories_shape)
        width = self.output_width or query_shape[-1]
        if self.combination == "flat":
            self.flat_attention = FlatAttention(output_width=width, name="flat_attention", **self._options(0))
            self.flat_attention.build(query_shape, memories_shape)
            self.flat_attention.built = True
            return
        self.attentions = [
            self._make_attention(f"attention_{i}", i, width, query_shape, shape)
            for i, shape in enumerate(memories_shape)
        ]
        if self.combination == "hierarchical":
            contexts = (None, self.num_memories, width)
            one_query = (None, 1, query_shape[-1])
            self.context_attention = self._make_attention(
                "context_attention", self.num_memories, width, one_query, contexts
            )
        self.step_norms = [self._make_norm(f"norm_{i}", query_shape) for i in range(1, self.num_memories)]

    def _options(self, place):
        return dict(
            num_heads=self.num_heads,
            key_dim=self.key_dim,
            value_dim=self.value_dim,
            num_key_value_heads=self.num_key_value_heads,
            dropout=self.dropout,
            use_bias=self.use_bias,
            kernel_initializer=clone_initializer(self.kernel_initializer),
            bias_initializer=clone_initializer(self.bias_initializer),
            seed=None if self.seed is None else self.seed + place,
            dtype=self.dtype_policy,
        )

    def _make_attention(self, name, place, width, query_shape, value_shape):
        layer = MultiHeadAttention(output_shape=width, name=name, **self._options(place))
        layer.build(query_shape, value_shape)
        layer.built = True
        return layer

    def _make_norm(self, name, shape):
        if self.normalization is None:
            return None
        norm = make_normalization(self.normalization, 1e-5, self.dtype_policy, name)
        norm.build(shape)
        return norm

    def call(
        self,
        query,
        memories,
        query_mask=None,
        memories_mask=None,
        padding_masks=None,
        return_attention_scores=False,
        training=None,
        *,
        cache=None,
    ):
        """Attends from `query` to `memories`; see the class for arguments."""
        if cache is not None:
            cache = tuple(KVCache(*each) for each in cache)
        sources = memories if cache is None else cache
        check_number("memories" if cache is None else "cache", sources, self.num_memories)
        paddings = memory_paddings(sources, memories_mask, padding_masks)
        combine = {"flat": self._flat, "hierarchical": self._hierarchical, "serial": self._serial}
        combine = combine.get(self.combination, self._parallel)
        output, scores = combine(query, sources, query_mask, paddings, training, return_attention_scores)
        results = [output, tuple(scores) if return_attention_scores else None, cache]
        results = tuple(result for result in results if result is not None)
        return results[0] if len(results) == 1 else results

    def _flat(self, *arguments):
        return self.flat_attention.attend(*arguments)

    def _parallel(self, query, sources, query_mask, paddings, training, return_scores):
        outputs, scores = self._contexts(query, sources, query_mask, paddings, training, return_scores)
        return sum(outputs[1:], start=outputs[0]), scores

    def _serial(self, query, sources, query_mask, paddings, training, return_scores):
        found, all_scores = None, []
        for i, (layer, source) in enumerate(zip(self.attentions, sources, strict=True)):
            x = query if found is None else query + found
            if i and self.step_norms[i - 1] is not None:
                x = self.step_norms[i - 1](x)
            update, scores = attend_memory(layer, x, source, query_mask, paddings[i], training, return_scores)
            found = update if found is None else found + update
            all_scores.append(scores)
        return found, all_scores

    def _hierarchical(self, query, sources, query_mask, paddings, training, return_scores):
        contexts, all_scores = self._contexts(query, sources, query_mask, paddings, training, return_scores)
        batch, length, width = ops.shape(query)
        contexts = ops.reshape(ops.stack(contexts, axis=2), (batch * length, self.num_memories, contexts[0].shape[-1]))
        output, scores, _ = attend(
            self.context_attention,
            ops.reshape(query, (batch * length, 1, width)),
            contexts,
            query_mask=None if query_mask is None else ops.reshape(query_mask, (batch * length, 1)),
            padding_mask=live_contexts(paddings, batch, length),
            training=training,
            return_attention_scores=return_scores,
        )
        output = ops.reshape(output, (batch, length, output.shape[-1]))
        if return_scores:
            scores = ops.reshape(scores, (batch, length, self.num_heads, self.num_memories))
            all_scores.append(ops.transpose(scores, (0, 2, 1, 3)))
        return output, all_scores

    def _contexts(self, query, sources, query_mask, paddings, training, return_scores):
        parts = zip(self.attentions, sources, paddings, strict=True)
        found = [
            attend_memory(layer, query, source, query_mask, padding, training, return_scores)
            for layer, source, padding in parts
        ]
        return [output for output, _ in found], [scores for _, scores in found]

    def project_memories(self, memories):
        """A tuple of `KVCache`, one for each memory, for calls that attend to them again (decoding)."""
        check_number("memories", memories, self.num_memories)
        if self.combination == "flat":
            return self.flat_attention.project_memories(memories)
        return tuple(layer.project_memory(x) for layer, x in zip(self.attentions, memories, strict=True))

    def compute_output_spec(self, query, memories, return_attention_scores=False, cache=None, **kwargs):
        """The full specification of the outputs: output, scores, cache."""
        width = self.output_width or query.shape[-1]
        results = [keras.KerasTensor((*query.shape[:-1], width), dtype=self.compute_dtype)]
        if return_attention_scores:
            lengths = [x.shape[1] for x in memories] if cache is None else [each[0].shape[1] for each in cache]
            lengths += [len(lengths)] if self.combination == "hierarchical" else []
            shapes = [(query.shape[0], self.num_heads, query.shape[1], length) for length in lengths]
            results.append(tuple(keras.KerasTensor(shape, dtype=self.compute_dtype) for shape in shapes))
        if cache is not None:
            results.append(tuple(KVCache(*(keras.KerasTensor(x.shape, dtype=x.dtype) for x in each)) for each in cache))
        return results[0] if len(results) == 1 else tuple(results)

    def get_config(self):
        """The constructor's arguments."""
        return {
            **super().get_config(),
            "num_heads": self.num_heads,
            "key_dim": self.key_dim,
            "combination": self.combination,
            "value_dim": self.value_dim,
            "dropout": self.dropout,
            "use_bias": self.use_bias,
            "output_shape": self.output_width,
            "kernel_initializer": keras.initializers.serialize(self.kernel_initializer),
            "bias_initializer": keras.initializers.serialize(self.bias_initializer),
            "num_key_value_heads": self.num_key_value_heads,
            "normalization": serialize_part(self.normalization),
            "seed": self.seed,
        }
