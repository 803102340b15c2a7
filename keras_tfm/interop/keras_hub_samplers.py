"""Our models under the samplers of KerasHub."""

from typing import NamedTuple

import numpy as np
from keras import ops

from keras_tfm import backend
from keras_tfm.generation.step_protocol import check_ids, check_integer
from keras_tfm.models.prompts import align_prompts
from keras_tfm.models.token_ids import check_token_ids

_UNREAD = -1  # no id: what has not been generated is no END


class Sampled(NamedTuple):
    """What a sampler of KerasHub generated, as numpy arrays.

    Args:
        sequences: int32 `[B, L]`, without the prompt, padded after END.
        lengths: int32 `[B]`, the number of tokens with END.
    """

    sequences: np.ndarray
    lengths: np.ndarray


class _Weights(NamedTuple):
    """What a sampler's loop asks of a model on JAX; other weights would become constants of the program."""

    trainable_variables: list
    non_trainable_variables: list


class KerasHubSampler:
    """Decodes one of our models by a sampler of KerasHub.

    The sampler is given the model as the function that it asks for, `next(prompt, cache, index) -> (logits,
    hidden_states, cache)`. Every prompt begins in the first column, as KerasHub has it: rows begin to differ from their
    prompts where these end, and each token stands at its own position.

    Args:
        model: one that decodes: `CausalLM`, `Seq2SeqTransformer`, `CachedModel`.
        sampler: a `keras_hub.samplers.Sampler`, or the name of one. Those that need hidden states (contrastive) or a
            second model (speculative) do not work; `strategy="contrastive"` and `"speculative"` of `generate` do.
        end_id: id of END, or several. `None` means the model's.
        pad_id: what fills sequences after END. Default 0.

    Raises:
        ValueError: a sampler that does not work, or bad ids.

    Example:

    >>> import pytest
    >>> keras_hub = pytest.importorskip("keras_hub", reason="an extra")
    >>> from keras_tfm.models import CausalLM
    >>> model = CausalLM(20, num_layers=1, hidden_dim=16, intermediate_dim=32, num_heads=2, sequence_length=32)
    >>> KerasHubSampler(model, "top_k").generate([[5, 6, 7], [8]], max_length=4).sequences.shape
    (2, 4)
    """

    def __init__(self, model, sampler="greedy", *, end_id=None, pad_id=0):
        self.model, self.sampler = model, _sampler(sampler)
        self._end_ids = check_ids("end_id", model.end_id if end_id is None else end_id)
        self._pad_id = check_integer("pad_id", pad_id, minimum=0)
        self._programs = {}

    def next(self, prompt, cache, index, memory=()):
        """What a sampler asks for.

        Args:
            prompt: int32 `[R, M]`.
            cache: of the model.
            index: int32 scalar, the column to score; the one before is read.
            memory: what the model's `encode` returned.

        Returns:
            `(logits [R, V], (), cache)`, no hidden states.
        """
        tokens = ops.take(prompt, ops.reshape(index - 1, (1,)), axis=1)
        positions = ops.zeros_like(tokens) + (index - 1)
        logits, cache = self.model.extend(tokens, index - 1, positions, None, cache, memory)
        return self._without_forbidden(logits[:, 0]), (), cache

    def generate(self, prompts, *, max_length, padding_mask=None, source=()):
        """Continues prompts, compiled once for each shape and length of the shortest prompt.

        Args:
            prompts, padding_mask, source: as `CausalLM.generate` has them.
            max_length: L, the most tokens that are generated for each prompt, END included.

        Returns:
            `Sampled`.

        Raises:
            ValueError: bad prompts, ids outside the vocabulary, or lengths beyond learned positions.
        """
        max_length = check_integer("max_length", max_length, minimum=1)
        prompts = align_prompts(prompts, padding_mask, multiple=1)
        self._check(prompts, max_length)
        lengths = prompts.lengths
        tokens = np.full((len(lengths), int(lengths.max()) + max_length), _UNREAD, "int32")
        is_given = np.arange(tokens.shape[1]) < lengths[:, None]
        tokens[is_given] = prompts.tokens[np.arange(prompts.tokens.shape[1]) >= prompts.starts[:, None]]
        texts = self._sample(tokens, is_given, int(lengths.min()), source)
        columns = lengths[:, None] + np.arange(max_length)
        return self._cut(np.take_along_axis(texts, columns, axis=1))

    def _check(self, prompts, max_length):
        name, limit = next(reversed(self.model.token_id_limits.items()))
        check_token_ids("prompts", prompts.tokens, limit)
        longest, most = int(prompts.lengths.max()) + max_length, self.model.max_positions
        if most is not None and longest - 1 > most:
            raise ValueError(
                f"A prompt and what follows must be within the {most} learned positions. "
                f"Received: a prompt of {prompts.lengths.max()} tokens, max_length={max_length}"
            )

    def _sample(self, tokens, is_given, shortest, source):
        """Prompts and what follows them, int32 `[B, M]`; the sampler's seeds move on."""
        if shortest not in self._programs:
            variables = [*self.model.variables, *self.sampler.variables]
            self._programs[shortest] = backend.compile_loop(
                lambda *inputs: self._run(*inputs, shortest=shortest), variables
            )
        source = tuple(ops.convert_to_tensor(each) for each in source)
        texts, seeds = self._programs[shortest](ops.convert_to_tensor(tokens), ops.convert_to_tensor(is_given), source)
        for variable, seed in zip(self.sampler.variables, seeds, strict=True):
            variable.assign(seed)
        return ops.convert_to_numpy(texts)

    def _run(self, tokens, is_given, source, *, shortest):
        memory = self.model.encode(source)
        cache = self.model.create_cache(ops.shape(tokens)[0], tokens.shape[1])
        if shortest > 1:
            positions = ops.broadcast_to(ops.arange(shortest - 1, dtype="int32"), ops.shape(tokens[:, 1:shortest]))
            cache = self.model.fill(tokens[:, : shortest - 1], 0, positions, None, cache, memory)
        texts = self.sampler(
            next=lambda prompt, cache, index: self.next(prompt, cache, index, memory),
            prompt=tokens,
            cache=cache,
            index=shortest,
            mask=is_given,
            stop_token_ids=self._end_ids or None,
            model=_Weights(list(self.model.variables), []),
        )
        return texts, [ops.convert_to_tensor(variable) for variable in self.sampler.variables]

    def _without_forbidden(self, logits):
        for token in self.model.forbidden_ids:
            # Not -inf: a probability of 0 has no finite logarithm, and beams subtract them.
            logits = ops.where(ops.arange(ops.shape(logits)[-1]) == token, -1e9, ops.cast(logits, "float32"))
        return logits

    def _cut(self, sequences):
        """Sequences that end with their first END."""
        is_end = np.isin(sequences, self._end_ids)
        lengths = np.where(is_end.any(1), is_end.argmax(1) + 1, sequences.shape[1]).astype("int32")
        is_text = np.arange(sequences.shape[1]) < lengths[:, None]
        return Sampled(np.where(is_text, sequences, self._pad_id).astype("int32"), lengths)


def _sampler(sampler):
    import keras_hub

    kinds = keras_hub.samplers
    sampler = kinds.get(sampler)
    unfit = tuple(getattr(kinds, name) for name in ("ContrastiveSampler", "SpeculativeSampler") if hasattr(kinds, name))
    if isinstance(sampler, unfit):
        raise ValueError(
            "`sampler` must need nothing but logits; `generate` has contrastive and speculative decoding. "
            f"Received: sampler={sampler!r}"
        )
    if getattr(sampler, "return_all_beams", False):
        raise ValueError("`sampler` must return one text for a prompt. Received: return_all_beams=True")
    return sampler


def generate_with_keras_hub_sampler(model, prompts, sampler="greedy", *, max_length, **options):
    """Continues prompts by a sampler of KerasHub; see `KerasHubSampler`, which keeps what it compiles.

    Args:
        model, sampler: as `KerasHubSampler` has them.
        prompts, max_length: as `KerasHubSampler.generate` has them.
        **options: of either.

    Returns:
        `Sampled`.

    Example:

    >>> import pytest
    >>> keras_hub = pytest.importorskip("keras_hub", reason="an extra")
    >>> from keras_tfm.models import CausalLM
    >>> model = CausalLM(20, num_layers=1, hidden_dim=16, intermediate_dim=32, num_heads=2, sequence_length=32)
    >>> sampled = generate_with_keras_hub_sampler(model, [[5, 6], [8, 9]], max_length=3)
    >>> bool((sampled.sequences == model.generate([[5, 6], [8, 9]], max_length=3).sequences).all())
    True
    """
    own = {name: options.pop(name) for name in ("end_id", "pad_id") if name in options}
    return KerasHubSampler(model, sampler, **own).generate(prompts, max_length=max_length, **options)
