"""PromptReader: a model that has read prompts and goes on, each row at a place of its own."""

from keras import ops, tree

from keras_tfm import backend
from keras_tfm.generation.state_rows import Unchanging
from keras_tfm.ops.linear_attention import LinearAttentionState


class PromptReader:
    """The chunk step of a model behind its prompts. All that a loop reads is in the state.

    Args:
        model: has the methods that `Generates` asks for.
        prompt_length: P, the width of the aligned prompts; the last token of each is not read yet.
        max_length: L, the most tokens that results have.
        spare: how many tokens beyond those may be read; what is read there is seen by no result.
    """

    def __init__(self, model, prompt_length, max_length, spare):
        self._model, self._shift = model, prompt_length - 1
        self._last = self._shift + max_length - 1
        self._length = self._last + 1 + spare
        self._is_cached = not getattr(model, "uncached", ())

    def start(self, tokens, starts, source, kind):
        """The state after all of int32 `tokens [B, P]` but the last column were read; `starts` is int32 `[B]`."""
        memory = self._model.encode(source)
        cache = self._model.create_cache(ops.shape(tokens)[0], self._length, kind)
        _check_goes_back(cache)
        starts = starts[:, None]
        if self._shift:
            positions = ops.maximum(ops.arange(self._shift, dtype="int32") - starts, 0)
            cache = self._model.fill(tokens[:, :-1], 0, positions, self._real(starts), cache, memory)
        return cache, starts, Unchanging(memory)

    def extend(self, tokens, index, state):
        """As `extend` of `speculative_search`; forbidden ids have a logit of -inf."""
        cache, starts, memory = state
        columns = index + self._shift
        places = columns[:, None] + ops.arange(tokens.shape[1], dtype="int32")
        if self._is_cached:  # learned positions end where results do
            places = ops.minimum(places, self._last)
        real = self._real(starts) if self._shift and self._is_cached else None
        logits, cache = self._model.extend(tokens, columns, places - starts, real, cache, memory.value)
        return self._model._without_forbidden(logits), (cache, starts, memory)

    def _real(self, starts):
        return ops.arange(self._length, dtype="int32") >= starts


def _check_goes_back(cache):
    """Raises `ValueError` if a cache holds sums, which no later write takes anything out of."""
    if isinstance(cache, LinearAttentionState):
        raise ValueError(
            "Speculative decoding goes back to earlier positions, which linear attention cannot: its cache holds sums. "
            f"Received: cache={type(cache).__name__}"
        )
    if isinstance(cache, (tuple, list)):
        for each in cache:
            _check_goes_back(each)


def compiled(model, key, function, variables):
    """`function`, compiled once for `model`, each `key` and the same `variables`."""
    programs = model.__dict__.setdefault("_generation_programs", {})
    variables = list({id(variable): variable for variable in variables}.values())
    key = (key, *map(id, variables))
    if key not in programs:
        programs[key] = backend.compile_loop(function, variables)
    return programs[key]


def before_start(tokens, starts):
    """int32 `[B, P - 1]`, aligned prompts without their last tokens, -1 where there is nothing."""
    columns = ops.arange(tokens.shape[1] - 1, dtype="int32")
    return ops.where(columns >= starts[:, None], tokens[:, :-1], -1)


def as_tensors(inputs):
    """Arrays in tuples as tensors."""
    return tree.map_structure(ops.convert_to_tensor, inputs)
