"""Same sequences and same scores as `generate` of Hugging Face Transformers, with the same weights."""

import functools

import keras
import numpy as np
import pytest
from keras import ops

from keras_tfm.generation.beam import Beam
from keras_tfm.generation.greedy import Greedy
from keras_tfm.generation.strategy import Limits, run_loop

pytest.importorskip("torch", reason="Hugging Face's models run on PyTorch")
pytest.importorskip("transformers", reason="the models to compare with are those of Hugging Face Transformers")

from tests.generation.hugging_face import models  # noqa: E402

MAX_LENGTH = 9
LIMITS = Limits.create(MAX_LENGTH, models.END, models.PAD)
EARLY_STOPPING = {True: "first", False: "heuristic", "never": "exact"}  # theirs: ours
BEAMS = [2, 3, 5]
ALPHAS = [0.0, 0.6, 1.0, 2.0, -1.0]
NAMES = ["gpt2", "bart", "marian"]
LATIN_SQUARE = [  # each pair of a name, a number of beams and a rule of stopping, once
    (name, num_beams, [*EARLY_STOPPING][(i + j) % 3])
    for i, name in enumerate(NAMES)
    for j, num_beams in enumerate(BEAMS)
]


@functools.cache
def pair(name):
    return getattr(models, name)()


def compiled(function):
    if keras.backend.backend() == "jax":
        import jax

        return jax.jit(function)
    if keras.backend.backend() == "tensorflow":
        import tensorflow as tf

        return tf.function(function)
    return function


@functools.cache
def compiled_step(name):
    return compiled(pair(name).ours.step)


@functools.cache
def begun(name):
    ours, inputs = pair(name)[1:]
    return ours.begin(inputs, MAX_LENGTH)


@functools.cache
def compiled_advance(name, strategy, limits):
    """`strategy.advance` when the model has already spoken: a program without the model."""

    def advance(loop, logits, state):
        return strategy.advance(lambda *_: (logits, state), loop, limits)

    return compiled(advance) if keras.backend.backend() == "jax" else advance


def decode(name, strategy, limits=LIMITS):
    """Results of `strategy`, one step at a time, so that one compiled step serves all settings.

    The length penalty is a part of the loop's value: programs of other penalties are the same.
    """
    state, tokens = begun(name)
    loop = strategy.start(tokens, state, limits, 0)
    key = strategy if isinstance(strategy, Greedy) else Beam(strategy.num_beams, early_stopping=strategy.early_stopping)
    for _ in range(MAX_LENGTH):
        if not ops.convert_to_numpy(strategy.is_running(loop, limits)):
            break
        logits, state = compiled_step(name)(loop.tokens, loop.index, loop.state)
        loop = compiled_advance(name, key, limits)(loop, logits, state)
    return tuple(ops.convert_to_numpy(result) for result in strategy.result(loop, limits))


def generate(name, num_beams=1, end_ids=(models.END,), **settings):
    """Their new tokens `[B, K, L]` and, of beam search, the scores under the penalty `[B, K]`."""
    import torch
    import transformers

    theirs, _, inputs = pair(name)
    config = transformers.GenerationConfig(
        num_beams=num_beams,
        num_return_sequences=num_beams,
        max_new_tokens=MAX_LENGTH,
        do_sample=False,
        pad_token_id=models.PAD,
        eos_token_id=list(end_ids),
        decoder_start_token_id=models.START,
        return_dict_in_generate=True,
        output_scores=True,
        **settings,
    )
    tensors = {key: torch.as_tensor(value) for key, value in inputs.items()}
    tensors.setdefault("attention_mask", torch.ones_like(tensors["input_ids"]))
    output = theirs.generate(**tensors, generation_config=config)
    new = output.sequences[:, 1 if theirs.config.is_encoder_decoder else models.PROMPT_LENGTH :].numpy()
    new = np.pad(new, ((0, 0), (0, MAX_LENGTH - new.shape[1])), constant_values=models.PAD)
    scores = output.sequences_scores.numpy().reshape(-1, num_beams) if num_beams > 1 else None
    return new.reshape(-1, num_beams, MAX_LENGTH), scores


def log_probabilities(logits):
    logits = logits - logits.max(-1, keepdims=True)
    return logits - np.log(np.exp(logits).sum(-1, keepdims=True))


@pytest.mark.parametrize("name", NAMES)
def test_one_pass_gives_the_same_logits(name):
    import torch

    theirs, ours, inputs = pair(name)
    target = np.random.default_rng(7).integers(0, models.VOCABULARY, (3, 8))
    tensors = {key: torch.as_tensor(value) for key, value in inputs.items()}
    with torch.no_grad():
        if theirs.config.is_encoder_decoder:
            expected = theirs(**tensors, decoder_input_ids=torch.as_tensor(target)).logits
            logits = ours.logits(inputs, target)
        else:
            expected, logits = (
                theirs(torch.as_tensor(target)).logits,
                ours.logits(ops.convert_to_tensor(target, "int32")),
            )
    logits = ops.convert_to_numpy(ops.stop_gradient(logits))
    np.testing.assert_allclose(logits, expected.numpy(), rtol=1e-4, atol=1e-4)


@pytest.mark.parametrize("name", NAMES)
def test_greedy_search_finds_the_same(name):
    sequences, _, lengths = decode(name, Greedy())
    expected, _ = generate(name)
    np.testing.assert_array_equal(sequences, expected[:, 0])
    assert len(set(lengths)) > 1  # the comparison is about ends, too


@pytest.mark.parametrize(("name", "num_beams", "early_stopping"), LATIN_SQUARE)
def test_beam_search_finds_the_same(name, num_beams, early_stopping):
    found = set()
    for alpha in ALPHAS:
        strategy = Beam(num_beams, alpha, "average", EARLY_STOPPING[early_stopping])
        sequences, scores, lengths = decode(name, strategy)
        expected, expected_scores = generate(name, num_beams, length_penalty=alpha, early_stopping=early_stopping)
        np.testing.assert_array_equal(sequences, expected, err_msg=f"alpha={alpha}")
        np.testing.assert_allclose(scores / lengths.astype("float64") ** alpha, expected_scores, rtol=1e-4)
        found |= set(lengths.flatten())
    assert len(found) > 2


@pytest.mark.parametrize("name", NAMES)
def test_any_of_several_ids_ends(name):
    # Those that are said most often, so that they do end hypotheses.
    words, counts = np.unique(generate(name)[0], return_counts=True)
    ends = (models.END, *[int(word) for word in words[np.argsort(-counts)] if word not in (models.END, models.PAD)][:2])
    sequences, scores, lengths = decode(name, Beam(3, 1.0, "average"), LIMITS._replace(end_ids=ends))
    settings = dict(length_penalty=1.0, early_stopping="never", end_ids=ends)
    expected, expected_scores = generate(name, 3, **settings)
    np.testing.assert_array_equal(sequences, expected)
    np.testing.assert_allclose(scores / lengths, expected_scores, rtol=1e-4)


@pytest.mark.parametrize("name", NAMES)
def test_the_compiled_loop_finds_the_same(name):
    strategy = Beam(3, 1.0, "average", "heuristic", num_results=2)
    ours = pair(name).ours

    @compiled
    def whole(state, tokens):
        loop = run_loop(strategy, ours.step, strategy.start(tokens, state, LIMITS, 0), LIMITS)
        return strategy.result(loop, LIMITS)

    sequences, scores, lengths = (ops.convert_to_numpy(each) for each in whole(*begun(name)))
    expected, expected_scores = generate(name, 3, length_penalty=1.0, early_stopping=False)
    np.testing.assert_array_equal(sequences, expected[:, :2])
    np.testing.assert_allclose(scores / lengths, expected_scores[:, :2], rtol=1e-4)


@pytest.mark.parametrize("name", NAMES)
def test_scores_are_those_of_a_full_pass(name):
    _, ours, inputs = pair(name)
    sequences, scores, lengths = decode(name, Beam(3, 1.0, num_results=1))
    sequences, start = sequences[:, 0], models.PROMPT_LENGTH - 1 if "attention_mask" not in inputs else 0
    if start:
        ids = np.concatenate([inputs["input_ids"], sequences[:, :-1]], axis=1)
        logits = ours.logits(ops.convert_to_tensor(ids, "int32"))
    else:
        logits = ours.logits(inputs, np.pad(sequences[:, :-1], ((0, 0), (1, 0)), constant_values=models.START))
    gains = log_probabilities(ops.convert_to_numpy(ops.stop_gradient(logits)).astype("float64"))[:, start:]
    gains = np.take_along_axis(gains, sequences[..., None], axis=-1)[..., 0]
    expected = (gains * (np.arange(MAX_LENGTH) < lengths)).sum(-1)
    np.testing.assert_allclose(scores[:, 0], expected, rtol=1e-4)
