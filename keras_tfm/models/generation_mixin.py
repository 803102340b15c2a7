"""Generates: decoding by any strategy, for models that read tokens into a cache."""

from typing import NamedTuple

import numpy as np
from keras import ops, tree

from keras_tfm import backend
from keras_tfm.generation import Unchanging, get_strategy, search
from keras_tfm.models.prompt_reader import before_start
from keras_tfm.models.prompts import align_prompts
from keras_tfm.models.scoring import Scores
from keras_tfm.models.streaming import Streams
from keras_tfm.models.token_ids import check_token_ids
from keras_tfm.ops.loop_cache import in_loop_form


class Generated(NamedTuple):
    """What a search found, as numpy arrays; a beam's or several samples' results have an axis K after B.

    Args:
        sequences: int32 `[B, L]`, without the prompt, padded after END.
        scores: float32 `[B]`, the sums of log-probabilities, END's included.
        lengths: int32 `[B]`, the number of tokens with END.
    """

    sequences: np.ndarray
    scores: np.ndarray
    lengths: np.ndarray


class Generates(Streams, Scores):
    """Mixin of models that decode. A subclass says how it reads tokens:

    `create_cache(batch_size, length, kind)`: an empty cache, a pytree of tensors `[B, ...]`;
    `encode(source)`: what all steps read and none changes, such as the encoder's output, a pytree; `()` for none;
    `extend(tokens, index, positions, padding_mask, cache, memory)`: see `CausalLM.extend`;
    `fill`, with the same arguments: the cache alone.
    """

    end_id = None
    max_positions = None
    forbidden_ids = ()

    def encode(self, source):
        """What all steps read: nothing."""
        return ()

    def fill(self, tokens, index, positions, padding_mask, cache, memory=()):
        """Reads tokens into the cache; see `extend`."""
        return self.extend(tokens, index, positions, padding_mask, cache, memory)[1]

    def generate(
        self,
        prompts,
        *,
        max_length,
        strategy="greedy",
        end_id=None,
        pad_id=0,
        rules=(),
        padding_mask=None,
        cache=None,
        source=(),
        seed=0,
        **settings,
    ):
        """Continues prompts, compiled once for each batch size, bucket of prompt lengths and set of settings.

        Args:
            prompts: sequences of ids of any lengths, or int `[B, P]`.
            max_length: L, the most tokens that are generated, END included.
            strategy: a `Strategy` or a name: `"greedy"`, `"beam"`, `"sampling"`, ...
            end_id: id of END, or several; `None` means the model's.
            pad_id: what fills sequences after END.
            rules: logit rules, see `keras_tfm.generation`.
            padding_mask: bool `[B, P]`, True at real tokens, where `prompts` is an array with padding on either side.
            cache: `"full"`, `"rolling"` (for layers with a sliding window) or `"int8"`, see
                `MultiHeadAttention.create_cache`; `None` leaves it to the layers.
            source: tuple of arrays `[B, ...]` that `encode` takes, for models with an encoder.
            seed: int, or int `[B]`, one for each prompt, for strategies that draw. Another seed compiles nothing.
            **settings: of the strategy, where it is named: `num_beams=4`, `temperature=0.7`.

        Returns:
            `Generated`.

        Raises:
            ValueError: bad prompts or settings; ids outside the vocabulary; lengths beyond learned positions.

        Example:

        >>> from keras_tfm.models import CausalLM
        >>> model = CausalLM(20, num_layers=1, hidden_dim=16, intermediate_dim=32, num_heads=2, sequence_length=32)
        >>> model.generate([[5, 6, 7], [8]], max_length=4, strategy="sampling", top_k=5).sequences.shape
        (2, 4)
        """
        prompts = self._align_prompts(prompts, padding_mask, max_length)
        settings = (get_strategy(strategy, **settings), max_length, self._ends(end_id), pad_id, tuple(rules), cache)
        program = self._kept(settings, lambda compiled: compiled(lambda *inputs: self._search(*inputs, *settings)))
        inputs = (prompts.tokens, prompts.starts, np.int32(seed), source)
        outputs = program(*tree.map_structure(ops.convert_to_tensor, inputs))
        return Generated(*(ops.convert_to_numpy(output) for output in outputs))

    def _ends(self, end_id):
        end_id = self.end_id if end_id is None else end_id
        return tuple(end_id) if isinstance(end_id, (list, set, range)) else end_id

    def _align_prompts(self, prompts, padding_mask, max_length):
        is_only_start = all(len(prompt) == 1 for prompt in prompts)
        prompts = align_prompts(prompts, padding_mask, multiple=1 if is_only_start else 16)
        self._check_prompts(prompts, max_length)
        return prompts

    def _check_prompts(self, prompts, max_length):
        name, limit = next(reversed(self.token_id_limits.items()))
        check_token_ids(name.replace("token_ids", "prompts"), prompts.tokens, limit)
        longest = int(prompts.lengths.max()) + max_length
        if self.max_positions is not None and longest - 1 > self.max_positions:
            raise ValueError(
                f"A prompt and what follows must be within the {self.max_positions} learned positions. "
                f"Received: a prompt of {prompts.lengths.max()} tokens, max_length={max_length}"
            )

    def _kept(self, key, make):
        """What `make(compiled)` returns, kept as long as the weights are the same variables."""
        variables = self.variables
        programs = self.__dict__.setdefault("_generation_programs", {})
        key = (key, *map(id, variables))
        if key not in programs:
            programs[key] = make(lambda function: backend.compile_loop(function, variables))
        return programs[key]

    def _search(self, tokens, starts, seed, source, strategy, max_length, end_id, pad_id, rules, kind):
        return search(
            strategy,
            self._step(tokens.shape[1], max_length),
            self._read_prompts(tokens, starts, source, max_length, kind),
            tokens[:, -1],
            max_length=max_length,
            end_id=end_id,
            pad_id=pad_id,
            rules=rules,
            prompt=before_start(tokens, starts),
            seed=seed,
        )

    def _read_prompts(self, tokens, starts, source, max_length, kind):
        """The state after all of int32 `tokens [B, P]` but the last column were read; `starts` is int32 `[B]`."""
        prompt_length, starts = tokens.shape[1], starts[:, None]
        length = prompt_length - 1 + max_length
        memory = self.encode(source)
        cache = self.create_cache(ops.shape(tokens)[0], length, kind)
        if prompt_length > 1:
            positions = ops.maximum(ops.arange(prompt_length - 1, dtype="int32") - starts, 0)
            real = ops.arange(length, dtype="int32") >= starts
            cache = self.fill(tokens[:, :-1], 0, positions, real, cache, memory)
        return in_loop_form(cache), starts, Unchanging(memory)

    def _step(self, prompt_length, max_length):
        """The step behind prompts of P columns. All tensors that it reads are in the state."""

        def step(tokens, index, state):
            cache, starts, memory = state
            column, columns = index + (prompt_length - 1), ops.arange(prompt_length - 1 + max_length, dtype="int32")
            real = None if prompt_length == 1 else columns >= starts
            logits, cache = self.extend(tokens[:, None], column, column - starts, real, cache, memory.value)
            return self._without_forbidden(logits[:, 0]), (cache, starts, memory)

        return step

    def _without_forbidden(self, logits):
        for token in self.forbidden_ids:
            logits = ops.where(ops.arange(ops.shape(logits)[-1]) == token, -np.inf, logits)
        return logits
