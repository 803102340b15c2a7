"""Speculative decoding of models: a smaller model or the text so far guesses, the model checks."""

from typing import NamedTuple

import numpy as np
from keras import ops

from keras_tfm.generation.drafter import Drafter, DraftModel
from keras_tfm.generation.prompt_lookup import PromptLookup
from keras_tfm.generation.sampling import Sampling
from keras_tfm.generation.speculative import speculative_search
from keras_tfm.generation.step_protocol import check_ids, check_integer
from keras_tfm.models.generation_mixin import Generates
from keras_tfm.models.prompt_reader import PromptReader, as_tensors, before_start, compiled
from keras_tfm.models.prompts import align_prompts

KINDS = (None, "full", "int8")


class Speculated(NamedTuple):
    """What speculative decoding found, as numpy arrays.

    Args:
        sequences: int32 `[B, L]`, without the prompt, padded after END.
        scores: float32 `[B]`, the sums of log-probabilities under the model, END's included.
        lengths: int32 `[B]`, the number of tokens with END.
        num_calls: int32 `[B]`, how often the model was called for each row: `lengths / num_calls` tokens a call.
    """

    sequences: np.ndarray
    scores: np.ndarray
    lengths: np.ndarray
    num_calls: np.ndarray


def speculate(
    model,
    prompts,
    *,
    max_length,
    draft="prompt_lookup",
    num_draft_tokens=4,
    temperature=0.0,
    top_k=None,
    top_p=None,
    min_p=None,
    typical_p=None,
    end_id=None,
    pad_id=0,
    padding_mask=None,
    cache=None,
    source=(),
    seed=0,
):
    """Continues prompts with guesses that something cheap makes and the model checks several at a time.

    At temperature 0 the sequences are those of `model.generate`, else they are distributed as those of its sampling,
    whatever guesses. It is compiled once for each batch size, bucket of prompt lengths and set of settings.

    Args:
        model: a `CausalLM`, a `CachedModel` or another model that `Generates`.
        prompts: sequences of ids of any lengths, or int `[B, P]`. Those of a model with a source begin with the id that
            starts a target.
        max_length: L, the most tokens that are generated, END included.
        draft: who guesses: a smaller model of the same vocabulary; `"prompt_lookup"`, for what followed the same words
            before; or a `Drafter` without state of its own, such as `PromptLookup(ngram_size=2)`.
        num_draft_tokens: G, how many tokens are guessed at a time.
        temperature, top_k, top_p, min_p, typical_p: as `Sampling`. Default: greedy.
        end_id: id of END, or several; `None` means the model's.
        pad_id: what fills sequences after END.
        padding_mask: bool `[B, P]`, True at real tokens, where `prompts` is an array with padding on either side.
        cache: `"full"` or `"int8"`, of both models; `None` for the default.
        source: a tuple of arrays `[B, ...]`, for models with a source; a drafting model reads it too.
        seed: of what is drawn. Another seed compiles nothing.

    Returns:
        `Speculated`.

    Numerics:
        The model computes several positions in one call, so logits differ from those of single steps by rounding. Where
        two tokens are equally probable up to that, another may be taken than `generate` takes.

    Raises:
        ValueError: bad prompts, settings or drafts; ids outside the vocabulary; lengths beyond learned positions; a
            cache that cannot go back.

    Reference:
        Leviathan, Kalman and Matias 2023, https://arxiv.org/abs/2211.17192, algorithm 1.

    Example:

    >>> from keras_tfm.models import CausalLM
    >>> options = dict(hidden_dim=16, intermediate_dim=32, num_heads=2, sequence_length=32)
    >>> model, small = CausalLM(20, num_layers=2, **options), CausalLM(20, num_layers=1, **options)
    >>> results = speculate(model, [[5, 6, 7], [8]], max_length=6, draft=small)
    >>> bool((results.sequences == model.generate([[5, 6, 7], [8]], max_length=6).sequences).all())
    True
    """
    sampling = Sampling(temperature, top_k=top_k, top_p=top_p, min_p=min_p, typical_p=typical_p)
    max_length = check_integer("max_length", max_length, minimum=1)
    num_draft_tokens = check_integer("num_draft_tokens", num_draft_tokens, minimum=1)
    if cache not in KINDS:
        raise ValueError(f"`cache` must be one of {KINDS}: guesses are taken back. Received: cache={cache!r}")
    draft = _checked_draft(draft, model)
    models = (model, draft) if isinstance(draft, Generates) else (model,)
    prompts = align_prompts(prompts, padding_mask, multiple=1 if all(len(prompt) == 1 for prompt in prompts) else 16)
    for each in models:
        each._check_prompts(prompts, max_length)
    end_ids = check_ids("end_id", model.end_id if end_id is None else end_id)
    settings = (max_length, num_draft_tokens, sampling, end_ids, pad_id, cache)
    key = ("speculate", id(draft) if len(models) == 2 else draft, *settings)

    def run(*inputs):
        return _speculate(model, draft, *inputs, *settings)

    program = compiled(model, key, run, [variable for each in models for variable in each.variables])
    outputs = program(*as_tensors((prompts.tokens, prompts.starts, np.int32(seed), tuple(source))))
    return Speculated(*(ops.convert_to_numpy(output) for output in outputs))


def _checked_draft(draft, model):
    """A model or a `Drafter`."""
    draft = PromptLookup() if isinstance(draft, str) and draft == "prompt_lookup" else draft
    if not isinstance(draft, (Generates, Drafter)):
        raise ValueError(
            f"`draft` must be a model that generates, 'prompt_lookup' or a `Drafter`. Received: draft={draft!r}"
        )
    if isinstance(draft, Generates):
        sizes = [next(reversed(each.token_id_limits.values())) for each in (model, draft)]
        if sizes[0] != sizes[1]:
            raise ValueError(
                f"`draft` must have the model's vocabulary of {sizes[0]} ids. Received: draft with {sizes[1]} ids"
            )
    return draft


def _speculate(
    model, draft, tokens, starts, seed, source, max_length, num_draft_tokens, sampling, end_ids, pad_id, kind
):
    """The compiled part: prompts are read by both, then the search."""
    sizes = tokens.shape[1], max_length, num_draft_tokens
    reader, drafter, draft_state = PromptReader(model, *sizes), draft, ()
    if isinstance(draft, Generates):
        draft_reader = PromptReader(draft, *sizes)
        drafter, draft_state = DraftModel(draft_reader.extend), draft_reader.start(tokens, starts, source, kind)
    return speculative_search(
        reader.extend,
        reader.start(tokens, starts, source, kind),
        drafter,
        tokens[:, -1],
        max_length=max_length,
        draft_state=draft_state,
        num_draft_tokens=num_draft_tokens,
        end_id=end_ids,
        pad_id=pad_id,
        prompt=before_start(tokens, starts),
        seed=seed,
        temperature=sampling.temperature,
        top_k=sampling.top_k,
        top_p=sampling.top_p,
        min_p=sampling.min_p,
        typical_p=sampling.typical_p,
    )
