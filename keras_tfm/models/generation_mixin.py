"""Generates: decoding for models that read tokens into a cache."""

from keras import ops

from keras_tfm import backend
from keras_tfm.generation import Greedy, search
from keras_tfm.models.prompts import align_prompts


class Generates:
    """Mixin of models with `create_cache`, `fill` and `extend`."""

    end_id = None
    max_positions = None

    def generate(
        self, prompts, *, max_length, strategy=None, end_id=None, pad_id=0, rules=(), padding_mask=None, seed=0
    ):
        strategy = Greedy() if strategy is None else strategy
        end_id = self.end_id if end_id is None else end_id
        prompts = align_prompts(prompts, padding_mask)
        program = self._program(strategy, max_length, end_id, pad_id, tuple(rules))
        outputs = program(
            ops.convert_to_tensor(prompts.tokens),
            ops.convert_to_tensor(prompts.starts),
            ops.convert_to_tensor(seed, dtype="int32"),
        )
        return tuple(ops.convert_to_numpy(output) for output in outputs)

    def _program(self, *settings):
        variables = self.variables
        programs = self.__dict__.setdefault("_generation_programs", {})
        key = (settings, *map(id, variables))
        if key not in programs:
            programs[key] = backend.compile_loop(lambda *inputs: self._search(*inputs, *settings), variables)
        return programs[key]

    def _search(self, tokens, starts, seed, strategy, max_length, end_id, pad_id, rules):
        batch_size, prompt_length = ops.shape(tokens)
        prompt_length = tokens.shape[1]
        length = prompt_length + max_length
        cache = self.create_cache(batch_size, length)
        real = ops.arange(length, dtype="int32") >= starts[:, None]
        before = ops.arange(prompt_length - 1, dtype="int32")
        positions = ops.maximum(before - starts[:, None], 0)
        cache = self.fill(tokens[:, :-1], 0, positions, real, cache)

        def step(tokens, index, state):
            cache, starts = state
            column = index + (prompt_length - 1)
            positions = ops.reshape(column - starts, (-1, 1))
            logits, cache = self.extend(
                tokens[:, None], column, positions, ops.arange(length, dtype="int32") >= starts[:, None], cache
            )
            return logits[:, 0], (cache, starts)

        return search(
            strategy,
            step,
            (cache, starts),
            tokens[:, -1],
            max_length=max_length,
            end_id=end_id,
            pad_id=pad_id,
            rules=rules,
            seed=seed,
        )
