"""KerasHubCausalLM: the language models of KerasHub, decoded by our strategies and rules."""

import warnings

import keras
import numpy as np
from keras import ops, tree

from keras_tfm import backend
from keras_tfm.models.generation_mixin import Generated, Generates
from keras_tfm.models.prompts import align_prompts
from keras_tfm.models.scoring import Scored

_PROBE = 5  # tokens that are read to compare cached calls with a whole pass
_SEEDS_APART = 7919  # prompts of another length draw by another seed


class KerasHubCausalLM(Generates):
    """Lets a causal language model of KerasHub decode by any of our strategies and rules.

    It calls the model's own cached pass (`call_with_cache`), whose cache `[B, layers, 2, M, heads, head size]` becomes
    the state of the search. That pass takes one position for all rows: prompts of different lengths are decoded in
    groups of one length, so that every row reads what it would alone.

    Args:
        model: a `keras_hub.models.CausalLM` of text, or a backbone that one of them has.
        end_id: id of END, or several. `None` takes the end of the model's tokenizer, if it has one.
        forbidden_ids: ids that are never generated.

    Raises:
        ValueError: the model has no cached pass of token ids alone, or it does not give what a whole pass gives.

    Numerics:
        On PyTorch, KerasHub reads positions as Python numbers, so steps cannot be recorded and run one by one.

    Example:

    >>> import pytest
    >>> keras_hub = pytest.importorskip("keras_hub", reason="an extra")
    >>> backbone = keras_hub.models.GPT2Backbone(20, 1, 2, 8, 16, max_sequence_length=32)
    >>> model = KerasHubCausalLM(backbone)
    >>> model.generate([[5, 6, 7], [8]], max_length=4, strategy="beam", num_beams=3).sequences.shape
    (2, 3, 4)
    """

    def __init__(self, model, *, end_id=None, forbidden_ids=()):
        self.model = _causal_lm(model)
        tokenizer = getattr(self.model.preprocessor, "tokenizer", None)
        self.end_id = getattr(tokenizer, "end_token_id", None) if end_id is None else end_id
        self.forbidden_ids = tuple(forbidden_ids)
        self.max_positions = getattr(self.model.backbone, "max_sequence_length", None)
        self.token_id_limits = {"token_ids": int(self.model.outputs[0].shape[-1])}
        self._cache_structure, self._cache_leaves = self._probe_cache()
        self._compare()

    @property
    def variables(self):
        """The variables of the model."""
        return self.model.variables

    def create_cache(self, batch_size, length, kind=None):
        """An empty cache in KerasHub's layout.

        Args:
            batch_size: B.
            length: M, how many positions it holds.
            kind: `"full"` or `None`: KerasHub has no other.
        """
        if kind not in (None, "full"):
            raise ValueError(f"`cache` must be 'full' or None: KerasHub has no other. Received: cache={kind!r}")

        length = max(length, 2)  # Keras warns of a softmax over one place
        leaves = [
            ops.zeros((batch_size, *(length if size is None else size for size in sizes)), dtype=dtype)
            for sizes, dtype in self._cache_leaves
        ]
        return tree.pack_sequence_as(self._cache_structure, leaves)

    def extend(self, tokens, index, positions, padding_mask, cache, memory=()):
        """Reads tokens into the cache and scores what follows each; see `CausalLM.extend`.

        Rows stand at the same positions. A token is put where it stands in the text, whatever `index` says, as the
        model takes the place in the cache for the position. Padding on the left goes to the right, where it is not
        seen and later written over.
        """
        length = tokens.shape[1]
        following = ops.cast(positions, "int32")[0, -1] + 1
        shift = ops.maximum(length - following, 0)  # tokens of padding
        start = ops.maximum(following - length, 0)
        logits, _, cache = self.model.call_with_cache(_turn(tokens, shift), cache, start)
        return _turn(logits, -shift), cache

    def generate(self, prompts, *, max_length, padding_mask=None, seed=0, **options):
        """As `CausalLM.generate`; prompts of different lengths are decoded one length after the other."""
        prompts = align_prompts(prompts, padding_mask, multiple=1)
        rows = [tokens[start:] for tokens, start in zip(prompts.tokens, prompts.starts, strict=True)]
        groups, found = _groups(prompts.lengths), []
        for number, places in enumerate(groups):
            group_seed = (seed + number * _SEEDS_APART) % 2**31
            group = [rows[i] for i in places]
            found.append(super().generate(group, max_length=max_length, seed=group_seed, **options))
        order = np.argsort(np.concatenate(groups))
        return Generated(*(np.concatenate(parts)[order] for parts in zip(*found, strict=True)))

    def score(self, prompts, continuations, **options):
        """As `CausalLM.score`; texts of different lengths are read one length after the other."""
        if len(prompts) != len(continuations):
            return super().score(prompts, continuations, **options)
        lengths = [len(prompt) + len(following) for prompt, following in zip(prompts, continuations, strict=True)]
        results, scores = [None] * len(lengths), np.zeros(len(lengths), "float32")
        for places in _groups(lengths):
            pairs = ([rows[i] for i in places] for rows in (prompts, continuations))
            found = super().score(*pairs, **options)
            scores[places] = found.scores
            for place, each in zip(places, found.log_probabilities, strict=True):
                results[place] = each
        return Scored(results, scores)

    def _kept(self, key, make):
        return super()._kept(key, lambda compiled: make(lambda function: _quiet(compiled(function))))

    def _check_prompts(self, prompts, max_length):
        super()._check_prompts(prompts, max_length)
        if len(set(prompts.lengths.tolist())) > 1:
            raise ValueError(
                "`prompts` must have one length, as KerasHub's models take one position for all rows; `generate` "
                f"takes any. Received: lengths {prompts.lengths.tolist()}"
            )

    def _probe_cache(self):
        """The tree of the model's cache, and each leaf's sizes behind the batch, `None` for the length, and dtype."""
        if not (hasattr(self.model, "call_with_cache") and hasattr(self.model, "_build_cache")):
            raise ValueError(
                f"`model` must have KerasHub's cached pass, `call_with_cache`. Received: model={self.model!r}"
            )
        build = backend.compile_loop(lambda ids: self.model._build_cache(ids)[1], self.variables)
        small, large = (build(ops.ones(shape, "int32")) for shape in ((1, 2), (2, 3)))
        leaves = []
        for one, other in zip(tree.flatten(small), tree.flatten(large), strict=True):
            sizes = [None if size != larger else size for size, larger in zip(one.shape, other.shape, strict=True)]
            if (one.shape[0], other.shape[0]) != (1, 2) or sizes[1:].count(None) > 1:
                raise ValueError(
                    "The model's cache must have the batch as its first axis and one axis for positions. "
                    f"Received: leaves of shapes {tuple(one.shape)} and {tuple(other.shape)} for [1, 2] and [2, 3] ids"
                )
            leaves.append((tuple(sizes[1:]), keras.backend.standardize_dtype(one.dtype)))
        return tree.map_structure(lambda leaf: 0, small), leaves

    def _compare(self):
        """Raises where a chunk and single tokens do not give what a whole pass gives."""
        tokens = np.random.default_rng(0).integers(0, self.token_id_limits["token_ids"], (2, _PROBE)).astype("int32")
        both = backend.compile_loop(self._whole_and_cached, self.variables)(ops.convert_to_tensor(tokens))
        whole, cached = (ops.convert_to_numpy(logits) for logits in both)
        if not np.allclose(whole, cached, rtol=0, atol=0.05 * np.abs(whole).max()):
            raise ValueError(
                "The cached pass of `model` must give the logits of a whole pass. "
                f"Received: model={self.model!r}, a difference of {np.abs(whole - cached).max():.2g}"
            )

    def _whole_and_cached(self, tokens):
        """float32 logits `[2, T, V]` by one pass, and by a chunk and single tokens after it."""
        whole = self.model({"token_ids": tokens, "padding_mask": ops.ones_like(tokens)}, training=False)
        cache, cached = self.create_cache(2, _PROBE), []
        for start, end in ((0, 3), *((i, i + 1) for i in range(3, _PROBE))):
            positions = ops.broadcast_to(ops.arange(start, end, dtype="int32"), (2, end - start))
            logits, cache = self.extend(tokens[:, start:end], start, positions, None, cache)
            cached.append(logits)
        return ops.cast(whole, "float32"), ops.cast(ops.concatenate(cached, axis=1), "float32")


def _quiet(program):
    """The program without the warning that KerasHub's layers read positions as numbers: nobody could mend it."""

    def run(*inputs):
        with warnings.catch_warnings():
            warnings.filterwarnings("ignore", message="A decoding loop reads the value of a tensor")
            return program(*inputs)

    return run


def _groups(lengths):
    """The places of each length, a list of int arrays."""
    return [np.flatnonzero(np.asarray(lengths) == length) for length in np.unique(lengths)]


def _turn(sequences, shift):
    """`sequences [R, T, ...]` turned to the left by int32 `shift`, those at the front to the back."""
    length = sequences.shape[1]
    if length == 1:
        return sequences
    columns = ops.mod(ops.arange(length, dtype="int32") + shift, length)
    return ops.take(sequences, columns, axis=1)


def _causal_lm(model):
    """The model itself, or the language model that KerasHub has for a backbone."""
    import keras_hub

    if not isinstance(model, keras_hub.models.Backbone):
        if not isinstance(model, keras_hub.models.CausalLM):
            raise ValueError(f"`model` must be a causal language model or a backbone of KerasHub. Received: {model!r}")
        return model
    kinds = [keras_hub.models.CausalLM]
    for kind in kinds:  # it grows
        kinds += kind.__subclasses__()
    fitting = [kind for kind in kinds if kind.backbone_cls is type(model)]
    if not fitting:
        raise ValueError(f"KerasHub has no causal language model for this backbone. Received: model={model!r}")
    return fitting[0](backbone=model, preprocessor=None)
