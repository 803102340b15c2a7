"""CachedModel: decoding with any Functional model, its layers' caches threaded through its graph."""

import warnings

import keras
import numpy as np
from keras import ops

from keras_tfm.models.cached_layers import decoding_of
from keras_tfm.models.generation_mixin import Generates
from keras_tfm.models.layer_calls import trace_calls

_PROBE = 5  # tokens that are read to compare the cached model with the whole one


class CachedModel(Generates):
    """Makes a Functional model decode, without a cached call written by its user.

    The graph is followed once. What depends on the source alone (an encoder) is computed once for each batch; causal
    attention gets caches; the rest runs on the new tokens. The result is compared with the whole model on a few tokens
    before it is used. Where the graph holds a layer that mixes tokens and has no cache, a warning names it, and each
    step runs the whole model.

    Args:
        model: a Functional or Sequential `keras.Model`, from token ids to logits `[B, T, V]`. Its outputs at a token
            must not depend on later ones.
        target: name of the input that is decoded; may be left out where there is one input.
        start_id: id that begins a target, for models with a source.
        end_id: id of END, or several.
        forbidden_ids: ids that are never generated, such as padding.

    Raises:
        ValueError: the model is not Functional; `target` is none of its inputs; its outputs depend on later tokens.

    Example:

    >>> import keras
    >>> from keras_tfm import layers
    >>> token_ids = keras.Input((None,), dtype="int32")
    >>> embedding = layers.PositionalEmbedding(20, sequence_length=32, embedding_dim=16)
    >>> x = layers.TransformerDecoder(32, num_heads=2)(embedding(token_ids))
    >>> model = keras.Model(token_ids, embedding(x, reverse=True))
    >>> CachedModel(model).generate([[5, 6, 7], [8]], max_length=4).sequences.shape
    (2, 4)
    """

    def __init__(self, model, target=None, *, start_id=None, end_id=None, forbidden_ids=()):
        self.model = model
        self._inputs, calls, outputs = trace_calls(model)
        self._output = outputs[0]
        if target is None and len(self._inputs) == 1:
            (target,) = self._inputs
        if target not in self._inputs:
            raise ValueError(
                f"`target` must name the input that is decoded, one of {list(self._inputs)}. "
                f"Received: target={target!r}"
            )
        self._target, self.start_id, self.end_id = target, start_id, end_id
        self.forbidden_ids = tuple(forbidden_ids)
        self._sources = [slot for name, slot in self._inputs.items() if name != target]
        self._source_names = [name for name in self._inputs if name != target]
        self._split(calls)
        vocabulary_size = model.outputs[0].shape[-1]
        self.token_id_limits = {target: vocabulary_size}
        self._compare()

    def _split(self, calls):
        """Parts the calls into those of the source and those of the target."""
        of_source = {slot.number for slot in self._sources}
        self._source_calls, self._decodings, self.uncached = [], [], []
        for call in calls:
            if call.slots and all(slot.number in of_source for slot in call.slots):
                of_source.update(slot.number for slot in call.outputs)
                self._source_calls.append(call)
                continue
            decoding = decoding_of(call, of_source)
            if decoding is None:
                self.uncached.append(call.layer.name)
            self._decodings.append(decoding)
        self._target_calls = [call for call in calls if call not in self._source_calls]
        if self.uncached:
            warnings.warn(
                f"Decoding runs the whole of {self.model.name!r} for each token: there is no cached call of "
                f"{', '.join(repr(name) for name in self.uncached)}. A layer that treats tokens one by one may say so "
                "by `is_token_wise = True`.",
                stacklevel=4,
            )

    @property
    def variables(self):
        """The variables of the model."""
        return self.model.variables

    def encode(self, source):
        """What all steps read: the sources' keys and values for each layer that attends to them."""
        if self.uncached:
            return tuple(source)
        values = dict(zip((slot.number for slot in self._sources), source, strict=True))
        for call in self._source_calls:
            call.run(values)
        return tuple(decoding.project(values) for decoding in self._decodings)

    def create_cache(self, batch_size, length, kind=None):
        """A tuple of the caches of the layers, or the tokens so far where the model has no cache."""
        if self.uncached:
            return ops.zeros((batch_size, length), "int32")
        return tuple(decoding.create_cache(batch_size, length, kind) for decoding in self._decodings)

    def extend(self, tokens, index, positions, padding_mask, cache, memory):
        """Reads tokens into the cache and scores what follows; see `CausalLM.extend`."""
        if self.uncached:
            return self._extend_whole(tokens, index, positions, padding_mask, cache, memory)
        positions = ops.broadcast_to(positions, ops.shape(tokens))
        values, caches = {self._inputs[self._target].number: tokens}, []
        for decoding, own, memory_of in zip(self._decodings, cache, memory, strict=True):
            caches.append(decoding.run(values, own, index, positions, padding_mask, memory_of))
        return values[self._output.number], tuple(caches)

    def _extend_whole(self, tokens, index, positions, padding_mask, cache, memory):
        """As `extend`, by a pass over all tokens; they are put where they stand in the text."""
        length = tokens.shape[1]
        places = ops.arange(cache.shape[1], dtype="int32")
        positions = ops.broadcast_to(positions, ops.shape(tokens))
        is_here = ops.equal(places, positions[:, :, None])
        if padding_mask is not None:
            columns = ops.cast(index, "int32") + ops.arange(length, dtype="int32")
            is_here = ops.logical_and(is_here, ops.take(padding_mask, columns, axis=1)[:, :, None])
        written = ops.sum(ops.where(is_here, tokens[:, :, None], 0), axis=1)
        cache = ops.where(ops.any(is_here, axis=1), written, cache)
        times = tokens.shape[0] // memory[0].shape[0] if memory else 1
        named = {name: ops.repeat(x, times, axis=0) for name, x in zip(self._source_names, memory, strict=True)}
        logits = self._whole({**named, self._target: cache})
        return ops.take_along_axis(logits, ops.cast(positions, "int32")[:, :, None], axis=1), cache

    def _whole(self, inputs):
        values = {slot.number: inputs[name] for name, slot in self._inputs.items()}
        for call in (*self._source_calls, *self._target_calls):
            args, kwargs = call.arguments(values)
            call.store(values, call.layer(*args, **({**kwargs, "training": False} if "training" in kwargs else kwargs)))
        return values[self._output.number]

    def generate(
        self,
        prompts=None,
        *,
        source=None,
        max_length,
        strategy="greedy",
        **options,
    ):
        """As `CausalLM.generate`.

        Args:
            prompts: sequences of ids of any lengths; may be left out where the model has a source.
            source: the other input, an array `[B, ...]`, or a dict of them by name.
            max_length, strategy, **options: as `CausalLM.generate` has them.
        """
        prompts, source = self._starts(prompts, source)
        return super().generate(prompts, max_length=max_length, strategy=strategy, source=source, **options)

    def stream(self, prompts=None, *, source=None, max_length, strategy="greedy", **options):
        """As `generate`, an iterator that yields the tokens of each step, see `CausalLM.stream`."""
        prompts, source = self._starts(prompts, source)
        return super().stream(prompts, max_length=max_length, strategy=strategy, source=source, **options)

    def score(self, prompts, continuations, *, source=None, **options):
        """As `CausalLM.score`, with `prompts` and `source` as `generate` has them."""
        prompts, source = self._starts(prompts, source)
        return super().score(prompts, continuations, source=source, **options)

    def _starts(self, prompts, source):
        """What is continued, and what `encode` takes."""
        if not self._sources:
            return prompts, ()
        source = source if isinstance(source, dict) else dict.fromkeys(self._source_names, source)
        if any(source.get(name) is None for name in self._source_names) or self.start_id is None:
            raise ValueError(
                f"A model with the inputs {list(self._inputs)} needs `start_id` and `source` with "
                f"{self._source_names}. Received: start_id={self.start_id}, "
                f"source with {[name for name, x in source.items() if x is not None]}"
            )
        arrays = tuple(np.asarray(source[name]) for name in self._source_names)
        prompts = [()] * len(arrays[0]) if prompts is None else prompts
        return [[self.start_id, *prompt] for prompt in prompts], arrays

    def _compare(self):
        """Raises where outputs depend on later tokens, or where the cached model is not the whole one."""
        rng = np.random.default_rng(0)
        size = self.token_id_limits[self._target]
        tokens = rng.integers(1, size, (2, _PROBE)).astype("int32")
        other = np.concatenate([tokens[:, :-1], tokens[:, -1:] % (size - 1) + 1], axis=1)
        source = tuple(_probe(x, rng) for x in self.model.inputs if x.name != self._target)
        named = dict(zip(self._source_names, source, strict=True))
        whole, changed = (self._whole({**named, self._target: ops.convert_to_tensor(x)}) for x in (tokens, other))
        whole, changed = ops.convert_to_numpy(whole), ops.convert_to_numpy(changed)
        if not np.allclose(whole[:, :-1], changed[:, :-1], rtol=1e-4, atol=1e-4):
            raise ValueError(
                f"Outputs of {self.model.name!r} depend on later tokens, so it cannot generate them one after the "
                f"other. Received: a difference of {np.abs(whole - changed)[:, :-1].max():.2g}"
            )
        if not self.uncached and not np.allclose(whole, self._run_cached(source, tokens), rtol=1e-2, atol=1e-2):
            raise ValueError(
                f"The cached calls of {self.model.name!r} do not give the outputs of the whole model; a layer that "
                f"says `is_token_wise` may not be. Received: layers {[call.layer.name for call in self._target_calls]}"
            )

    def _run_cached(self, source, tokens):
        """The logits of a first chunk and of single tokens after it."""
        memory, cache, results = self.encode(source), self.create_cache(len(tokens), _PROBE), []
        for start, end in ((0, 3), *((i, i + 1) for i in range(3, _PROBE))):
            positions = ops.broadcast_to(ops.arange(start, end, dtype="int32"), (len(tokens), end - start))
            chunk = ops.convert_to_tensor(tokens[:, start:end])
            logits, cache = self.extend(chunk, start, positions, None, cache, memory)
            results.append(ops.convert_to_numpy(logits))
        return np.concatenate(results, axis=1)


def _probe(specification, rng):
    """A small array of the shape and dtype of an input."""
    shape = [2, *(4 if size is None else size for size in specification.shape[1:])]
    dtype = keras.backend.standardize_dtype(specification.dtype)
    values = rng.normal(size=shape) if "float" in dtype else np.ones(shape)
    return ops.convert_to_tensor(values.astype(dtype))
