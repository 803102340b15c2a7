"""Contrastive search of models: a probable token whose hidden state is unlike those of all text before."""

from keras import ops

from keras_tfm.generation.contrastive import contrastive_search
from keras_tfm.generation.number_checks import check_number
from keras_tfm.generation.step_protocol import check_ids, check_integer
from keras_tfm.models.decoder import CausalLM
from keras_tfm.models.generation_mixin import Generated
from keras_tfm.models.prompt_reader import as_tensors, before_start, compiled
from keras_tfm.models.prompts import align_prompts


def contrast(
    model,
    prompts,
    *,
    max_length,
    penalty_alpha=0.6,
    num_candidates=4,
    end_id=None,
    pad_id=0,
    rules=(),
    padding_mask=None,
    cache=None,
):
    """Continues prompts by contrastive search: text that stays on its subject without repeating itself.

    A token's hidden state is the decoder's output before the head. It is compared with those of the whole text, the
    prompt included. Each step reads all candidates, in one batch k times as large. It is compiled once for each batch
    size, bucket of prompt lengths and set of settings.

    Args:
        model: a `CausalLM`.
        prompts: sequences of ids of any lengths, or int `[B, P]`.
        max_length: L, the most tokens that are generated, END included.
        penalty_alpha: α, from 0 to 1, the weight of the likeness to what was before. 0 is greedy search.
        num_candidates: k, of how many most probable tokens one is chosen. 1 is greedy search.
        end_id: id of END, or several; `None` means the model's.
        pad_id: what fills sequences after END.
        rules: logit rules, see `keras_tfm.generation`.
        padding_mask: bool `[B, P]`, True at real tokens, where `prompts` is an array with padding on either side.
        cache: as `CausalLM.generate` has it.

    Returns:
        `Generated`.

    Raises:
        ValueError: bad prompts or settings; ids outside the vocabulary; lengths beyond learned positions, of which the
            last token takes one too; a model that does not tell its hidden states.

    Reference:
        Su et al. 2022, https://arxiv.org/abs/2202.06417, equation 5.

    Example:

    >>> from keras_tfm.models import CausalLM
    >>> model = CausalLM(20, num_layers=1, hidden_dim=16, intermediate_dim=32, num_heads=2, sequence_length=32)
    >>> contrast(model, [[5, 6, 7], [8]], max_length=4, num_candidates=3).sequences.shape
    (2, 4)
    """
    if not isinstance(model, CausalLM):
        raise ValueError(f"`model` must be a `CausalLM`. Received: model of type {type(model).__name__}")
    max_length = check_integer("max_length", max_length, minimum=1)
    num_candidates = check_integer("num_candidates", num_candidates, minimum=1)
    check_number("penalty_alpha", penalty_alpha, minimum=0, maximum=1)
    prompts = align_prompts(prompts, padding_mask, multiple=1 if all(len(prompt) == 1 for prompt in prompts) else 16)
    model._check_prompts(prompts, max_length)
    _check_positions(model, int(prompts.lengths.max()), max_length)
    end_ids = check_ids("end_id", model.end_id if end_id is None else end_id)
    settings = (max_length, float(penalty_alpha), num_candidates, end_ids, pad_id, tuple(rules), cache)

    def run(*inputs):
        return _contrast(model, *inputs, *settings)

    program = compiled(model, ("contrast", *settings), run, model.variables)
    outputs = program(*as_tensors((prompts.tokens, prompts.starts)))
    return Generated(*(ops.convert_to_numpy(output) for output in outputs))


def _check_positions(model, prompt_length, max_length):
    if model.max_positions is not None and prompt_length + max_length > model.max_positions:
        raise ValueError(
            f"A prompt and what follows must be within the {model.max_positions} learned positions. "
            f"Received: a prompt of {prompt_length} tokens, max_length={max_length}"
        )


def _contrast(model, tokens, starts, max_length, penalty_alpha, num_candidates, end_ids, pad_id, rules, kind):
    """The compiled part: prompts are read, then the search."""
    shift, starts = tokens.shape[1] - 1, starts[:, None]
    length = shift + max_length + 1  # the last token is read too
    cache = model.create_cache(ops.shape(tokens)[0], length, kind)
    prompt_hidden = None
    if shift:
        real = ops.arange(length, dtype="int32") >= starts
        positions = ops.maximum(ops.arange(shift, dtype="int32") - starts, 0)
        prompt_hidden, cache = _hidden(model, tokens[:, :-1], 0, positions, real, cache)
        prompt_hidden = ops.where(real[:, :shift, None], ops.cast(prompt_hidden, "float32"), 0.0)
    last = ops.zeros((ops.shape(tokens)[0], model.embedding.embedding_dim), "float32")

    def step(tokens, index, state):
        cache, starts, _ = state
        column = index + shift
        real = ops.arange(length, dtype="int32") >= starts if shift else None
        hidden, cache = _hidden(model, tokens[:, None], column, column - starts, real, cache)
        logits = model._without_forbidden(model.embedding(hidden, reverse=True)[:, 0])
        return logits, (cache, starts, ops.cast(hidden[:, 0], "float32"))

    return contrastive_search(
        step,
        (cache, starts, last),
        tokens[:, -1],
        hidden=lambda state: state[2],
        max_length=max_length,
        end_id=end_ids,
        pad_id=pad_id,
        rules=rules,
        prompt=before_start(tokens, starts[:, 0]),
        prompt_hidden=prompt_hidden,
        num_candidates=num_candidates,
        penalty_alpha=penalty_alpha,
    )


def _hidden(model, tokens, index, positions, real, cache):
    """The decoder's outputs for new tokens `[R, T, D]`, and the cache."""
    return model.decoder(
        model.embedding(tokens, positions=positions),
        decoder_padding_mask=real,
        cache=cache,
        cache_update_index=index,
        training=False,
    )
