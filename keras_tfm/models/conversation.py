"""Conversation: texts that are read once, and go on from the cache that was kept."""

import copy

import numpy as np
from keras import ops, tree

from keras_tfm.generation import Limits, Unchanging, get_strategy
from keras_tfm.generation.logit_rule import with_rules
from keras_tfm.generation.step_protocol import check_integer, prepare
from keras_tfm.generation.strategy import run_loop
from keras_tfm.generation.streamed_search import APPENDING
from keras_tfm.models.generation_mixin import Generated
from keras_tfm.models.token_ids import check_token_ids
from keras_tfm.ops.kv_cache import count_bytes
from keras_tfm.ops.linear_attention import LinearAttentionState
from keras_tfm.ops.rolling_cache import RollingKVCache

_CHUNK = 32  # tokens that are read at once: one program for texts of all lengths


class Conversation:
    """B texts that grow by turns. What was read stays in a cache and is not read again.

    The rows stand at places of their own, so turns may have different lengths. The object holds the cache; the model
    knows nothing of it, and several conversations may use one model.

    Args:
        model: a `CausalLM`, `CachedModel` or `Seq2SeqTransformer`.
        length: the most tokens of a text, all turns together. The cache has room for so many. Default 512.
        cache: kind of the cache, `"full"` or `"int8"`; `None` leaves it to the layers. Every position must have its
            place, so a cache that rolls or sums is refused.
        source: tuple of arrays `[B, ...]` that the model's `encode` takes, for models with an encoder. The first turn
            then begins with START.

    Raises:
        ValueError: bad sizes; a kind of cache that cannot go on from rows of different lengths.

    Example:

    >>> from keras_tfm.models import CausalLM
    >>> model = CausalLM(20, num_layers=1, hidden_dim=16, intermediate_dim=32, num_heads=2, sequence_length=64)
    >>> conversation = Conversation(model, length=64)
    >>> first = conversation.generate([[5, 6, 7], [8]], max_length=4)
    >>> second = conversation.generate([[9], [3, 4]], max_length=4)
    >>> conversation.lengths.tolist()
    [12, 11]
    """

    def __init__(self, model, length=512, *, cache=None, source=()):
        self.length = check_integer("length", length, minimum=2)
        if model.max_positions is not None and length > model.max_positions:
            raise ValueError(
                f"`length` must be within the {model.max_positions} learned positions. Received: length={length}"
            )
        self._model, self._kind, self._source = model, cache, source
        self._texts, self._cache, self._memory = None, None, None

    @property
    def texts(self):
        """The ids of all turns: a list of B lists of Python integers; none before the first turn."""
        return [list(text) for text in self._texts or ()]

    @property
    def lengths(self):
        """int `[B]`, how many tokens each text has."""
        return np.array([len(text) for text in self._texts or ()], "int32")

    @property
    def num_bytes(self):
        """How many bytes the caches have."""
        return count_bytes(tree.flatten((self._cache or (), self._memory or ())))

    def append(self, prompts):
        """Adds a turn to each text and reads it, without an answer.

        Args:
            prompts: B sequences of ids; in later turns some may be empty.

        Raises:
            ValueError: another number of texts than before; ids outside the vocabulary; texts longer than `length`.
        """
        prompts = self._check(prompts)
        self._read(prompts)

    def generate(
        self, prompts=None, *, max_length, strategy="greedy", end_id=None, pad_id=0, rules=(), seed=0, **settings
    ):
        """Adds a turn to each text, answers it, and adds the answer: that of `model.generate` on the whole texts.

        Args:
            prompts: as `append` has them, or `None`, to go on where the texts end.
            max_length: L, the most tokens of an answer, END included.
            strategy, end_id, pad_id, rules, seed, **settings: as `model.generate` has them. Of several hypotheses the
                conversation goes on with the first. Several samples of a text are drawn after `fork`.

        Returns:
            `Generated`.

        Raises:
            ValueError: what `append` refuses; no text to go on from; a strategy with `num_samples`.
        """
        strategy = get_strategy(strategy, **settings)
        if getattr(strategy, "num_samples", None) is not None:
            raise ValueError(
                "A conversation goes on with one answer to each text; `fork` makes copies of the texts. "
                f"Received: num_samples={strategy.num_samples}"
            )
        limits = Limits.create(max_length, self._model._ends(end_id), pad_id)
        prompts = self._check([()] * len(self._texts or ()) if prompts is None else prompts, max_length)
        self._read(prompts)
        results, cache = self._search(strategy, limits, tuple(rules), seed)
        results = Generated(*(ops.convert_to_numpy(each) for each in results))
        best = [each if each.ndim == dims else each[:, 0] for each, dims in zip(results, (2, 1, 1), strict=True)]
        said = [row[:length].tolist() for row, length in zip(best[0], best[2], strict=True)]
        if cache == ():  # of a search that reorders, the cache is not that of what it found
            self._read(said)
        else:
            self._cache, self._texts = cache, [[*text, *new] for text, new in zip(self._texts, said, strict=True)]
        return results

    def fork(self, times):
        """A conversation with each text `times` times in a row: what they share is not read again."""
        check_integer("times", times, minimum=1)
        return self.reorder(np.repeat(np.arange(len(self._texts or ())), times))

    def reorder(self, rows):
        """A conversation of the texts int `[R]`, in their order, perhaps with repeats; this one stays as it is."""
        if self._texts is None:
            raise ValueError("There is no text yet: `append` one first.")
        rows = np.asarray(rows, "int32")
        check_token_ids("rows", rows, len(self._texts))
        other, places = copy.copy(self), ops.convert_to_tensor(rows)
        other._texts = [self._texts[row] for row in rows]
        other._cache, other._memory = tree.map_structure(
            lambda leaf: ops.take(leaf, places, axis=0), (self._cache, self._memory)
        )
        return other

    def _check(self, prompts, max_length=0):
        """The prompts as lists; raises `ValueError` unless they and what follows fit."""
        prompts = [np.asarray(prompt, "int32").reshape(-1) for prompt in prompts]
        texts = [()] * len(prompts) if self._texts is None else self._texts
        if not prompts or len(prompts) != len(texts):
            raise ValueError(
                "A turn must have one sequence of ids for each text, and there must be one. "
                f"Received: {len(prompts)} sequences, {len(texts)} texts"
            )
        name, limit = next(reversed(self._model.token_id_limits.items()))
        for prompt in prompts:
            check_token_ids(name.replace("token_ids", "prompts"), prompt, limit)
        lengths = [len(text) + len(prompt) for text, prompt in zip(texts, prompts, strict=True)]
        if not all(lengths):
            raise ValueError(f"No text may begin with an empty turn. Received: prompts of lengths {lengths}")
        if max(lengths) + max_length > self.length:
            raise ValueError(
                "The conversation is full: `length` is the most tokens of a text. "
                f"Received: length={self.length}, a text of {max(lengths)} tokens, max_length={max_length}"
            )
        return [prompt.tolist() for prompt in prompts]

    def _read(self, new):
        """Adds ids to the texts, and reads all but the last of each text into the cache."""
        if self._texts is None:
            self._begin(len(new))
        places = np.maximum(self.lengths - 1, 0) if self._texts[0] else np.zeros(len(new), "int32")
        self._texts = [[*text, *more] for text, more in zip(self._texts, new, strict=True)]
        unread = [text[place:-1] for text, place in zip(self._texts, places, strict=True)]
        program = self._program("read", lambda *inputs: _read_chunk(self._model, *inputs))
        for start in range(0, max(map(len, unread)), _CHUNK):
            chunks = [row[start : start + _CHUNK] for row in unread]
            counts = np.array([len(chunk) for chunk in chunks], "int32")
            tokens = np.array([[*chunk, *[0] * (_CHUNK - len(chunk))] for chunk in chunks], "int32")
            index = places + np.array([min(start, len(row)) for row in unread], "int32")
            self._cache = program(*_tensors((tokens, index.astype("int32"), counts)), self._cache, self._memory)

    def _begin(self, batch_size):
        # The last chunk may end in padding, for which there must be room.
        self._cache = self._model.create_cache(batch_size, self.length + _CHUNK, self._kind)
        _check_places(self._cache)
        self._memory = self._program("encode", lambda *source: self._model.encode(source))(*_tensors(self._source))
        self._texts = [[] for _ in range(batch_size)]

    def _search(self, strategy, limits, rules, seed):
        texts, width = self._texts, self.length if rules else 0
        before = np.full((len(texts), width), -1, "int32")
        for text, row in zip(texts, before, strict=True):
            if rules and len(text) > 1:
                row[1 - len(text) :] = text[:-1]
        program = self._program(
            ("search", strategy, limits, rules), lambda *inputs: _search(self._model, *inputs, strategy, limits, rules)
        )
        tokens = np.array([text[-1] for text in texts], "int32")
        inputs = _tensors((tokens, self.lengths - 1, before, np.int32(seed)))
        return program(*inputs, self._cache, self._memory)

    def _program(self, key, function):
        return self._model._kept(("conversation", key), lambda compiled: compiled(function))


def _read_chunk(model, tokens, index, counts, cache, memory):
    """The cache with int32 `tokens [B, T]`, of which the first `counts [B]` are real, at `index [B]` and further on.

    Padding is written behind them, where causal queries do not look before other tokens are written over it.
    """
    offsets = ops.minimum(ops.arange(tokens.shape[1], dtype="int32"), ops.maximum(counts[:, None] - 1, 0))
    return model.fill(tokens, index, index[:, None] + offsets, None, cache, memory)


def _search(model, tokens, index, before, seed, cache, memory, strategy, limits, rules):
    """The results, and the cache behind them: `()` if the strategy may have reordered it."""

    def step(tokens, count, state):
        cache, places, memory = state
        places_now = places + count
        logits, cache = model.extend(tokens[:, None], places_now, places_now[:, None], None, cache, memory.value)
        return model._without_forbidden(logits[:, 0]), (cache, places, memory)

    tokens, state = prepare(tokens, (cache, index, Unchanging(memory)))
    step, state = with_rules(rules, step, state, tokens, limits.max_length, before)
    loop = run_loop(strategy, step, strategy.start(tokens, state, limits, seed), limits)
    results = strategy.result(loop, limits)
    if not isinstance(strategy, APPENDING):
        return results, ()
    return results, (loop.state[0] if rules else loop.state)[0]


def _check_places(cache):
    """Raises `ValueError` if a cache has not a place of its own for each position."""
    if isinstance(cache, (RollingKVCache, LinearAttentionState)):
        raise ValueError(
            "The cache of a conversation must have a place for each position, as 'full' and 'int8' caches have. "
            f"Received: cache={type(cache).__name__}"
        )
    if isinstance(cache, (tuple, list)):
        for each in cache:
            _check_places(each)


def _tensors(arrays):
    return tree.map_structure(ops.convert_to_tensor, tuple(arrays))
