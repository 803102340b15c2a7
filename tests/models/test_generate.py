"""What `generate` promises of models: cached is uncached, a batch is its rows, nothing is compiled twice."""

import functools

import keras
import numpy as np
import pytest
from keras import ops

from keras_tfm import generation, layers, models
from keras_tfm.models.cached_model import CachedModel
from tests.numerics import randomize

V, END = 13, 2
PROMPTS = [[5, 6, 7, 3, 4], [8], [9, 10, 3]]
WHOLE = 12  # tokens of each whole pass: what comes after a text does not change it, and one size is compiled once
SOURCES = np.array([[5, 6, 7, 3], [8, 9, 0, 0], [4, 3, 0, 0]])


@functools.cache
def language_model(position="learned", **options):
    model = models.CausalLM(V, 2, 12, 17, 3, position=position, sequence_length=40, end_id=END, **options)
    return randomize(model, scale=0.7)


@functools.cache
def translator(position="sinusoidal"):
    return randomize(models.Seq2SeqTransformer(V, 2, 12, 17, 3, position=position, sequence_length=40), scale=0.7)


def tensor(row):
    return ops.convert_to_tensor(row[None], "int32")


def log_probabilities(logits):
    logits = ops.convert_to_numpy(logits).astype("float64")
    logits = logits - logits.max(-1, keepdims=True)
    return logits - np.log(np.exp(logits).sum(-1, keepdims=True))


def greedy_by_whole_passes(model, prompt, length, allowed=slice(None)):
    """Tokens and score of one prompt, every token by a pass over all of the text and some tokens after it."""
    text, score = list(prompt), 0.0
    for _ in range(length):
        last = np.full(V, -np.inf)
        whole = text + [3] * (WHOLE - len(text))
        logits = model(ops.convert_to_tensor([whole], "int32"))
        last[allowed] = log_probabilities(logits)[0, len(text) - 1][allowed]
        last = last - np.log(np.exp(last).sum())
        text.append(int(last.argmax()))
        score += last.max()
        if text[-1] == END:
            break
    return text[len(prompt) :], score


def check_greedy(results, expected):
    for sequence, score, length, (tokens, total) in zip(*results, expected, strict=True):
        assert sequence[:length].tolist() == tokens
        assert (sequence[length:] == 0).all()
        np.testing.assert_allclose(score, total, rtol=1e-4, atol=1e-4)


@pytest.mark.parametrize("position", ["learned", "sinusoidal", "rope", "alibi", "t5"])
def test_cached_generation_is_that_of_whole_passes(position):
    model = language_model(position)
    expected = [greedy_by_whole_passes(model, prompt, 6) for prompt in PROMPTS]
    check_greedy(model.generate(PROMPTS, max_length=6), expected)


def test_prompts_may_be_padded_on_either_side_and_padding_may_equal_end():
    model = language_model()
    listed = model.generate(PROMPTS, max_length=6)
    for side in ("left", "right"):
        rows = [[END] * (5 - len(p)) + p if side == "left" else p + [END] * (5 - len(p)) for p in PROMPTS]
        real = [[False] * (5 - len(p)) + [True] * len(p) for p in PROMPTS]
        real = np.array(real if side == "left" else [row[::-1] for row in real])
        padded = model.generate(np.array(rows), padding_mask=real, max_length=6, pad_id=0)
        for received, expected in zip(padded, listed, strict=True):
            np.testing.assert_array_equal(received, expected)


@pytest.mark.parametrize(
    ("strategy", "settings"),
    [("greedy", {}), ("beam", {"num_beams": 3}), ("diverse_beam", {"num_beams": 4, "num_groups": 2})],
)
def test_a_batch_is_its_rows_one_by_one(strategy, settings):
    for model, rows in ((language_model(), PROMPTS), (translator(), SOURCES)):
        together = model.generate(rows, max_length=5, strategy=strategy, **settings)
        for i, row in enumerate(rows):
            alone = model.generate([row], max_length=5, strategy=strategy, **settings)
            np.testing.assert_array_equal(alone.sequences[0], together.sequences[i])
            np.testing.assert_allclose(alone.scores[0], together.scores[i], rtol=1e-4, atol=1e-5)


def test_a_beams_scores_are_those_of_a_whole_pass():
    model = language_model()
    results = model.generate(PROMPTS, max_length=5, strategy="beam", num_beams=3)
    for prompt, *hypotheses in zip(PROMPTS, *results, strict=True):
        for sequence, score, length in zip(*hypotheses, strict=True):
            text = [*prompt, *sequence[:length]]
            whole = text + [3] * (WHOLE - len(text))
            scores = log_probabilities(model(ops.convert_to_tensor([whole], "int32")))[0, len(prompt) - 1 :]
            np.testing.assert_allclose(score, scores[np.arange(length), sequence[:length]].sum(), rtol=1e-4, atol=1e-4)


def test_translations_are_those_of_whole_passes_and_may_have_a_prefix():
    model = translator()
    allowed = np.arange(1, V)
    for prefix in (None, [[4], [], [5, 6]]):
        results = model.generate(SOURCES, max_length=5, prefix=prefix)
        for i, source in enumerate(SOURCES):
            whole = lambda text, source=source: model({"source_ids": tensor(source), "target_ids": text})  # noqa: E731
            start = [1, *(prefix[i] if prefix else [])]
            check_greedy([x[i : i + 1] for x in results], [greedy_by_whole_passes(whole, start, 5, allowed)])


def test_a_seed_reproduces_and_a_temperature_of_0_is_greedy():
    model = language_model()
    draws = [model.generate(PROMPTS, max_length=8, strategy="sampling", seed=seed).sequences for seed in (1, 1, 2)]
    np.testing.assert_array_equal(draws[0], draws[1])
    assert (draws[0] != draws[2]).any()
    cold = model.generate(PROMPTS, max_length=8, strategy="sampling", temperature=0)
    np.testing.assert_array_equal(cold.sequences, model.generate(PROMPTS, max_length=8).sequences)


def test_samples_of_one_prompt_share_its_cache():
    results = language_model().generate(PROMPTS, max_length=4, strategy="sampling", num_samples=3)
    assert results.sequences.shape == (3, 3, 4)


def test_rules_see_the_prompt():
    model = language_model()
    results = model.generate(PROMPTS, max_length=6, rules=[generation.NoRepeatNgram(1)], end_id=())
    for prompt, sequence in zip(PROMPTS, results.sequences, strict=True):
        text = [*prompt, *sequence.tolist()]
        assert len(set(text)) == len(text)


@pytest.mark.parametrize("kind", ["full", "int8"])
def test_kinds_of_caches(kind):
    model = language_model("rope")
    results = model.generate(PROMPTS, max_length=4, cache=kind)
    if kind == "full":
        check_greedy(results, [greedy_by_whole_passes(model, prompt, 4) for prompt in PROMPTS])
    else:
        expected = model.generate(PROMPTS, max_length=1)
        np.testing.assert_allclose(model.generate(PROMPTS, max_length=1, cache=kind).scores, expected.scores, atol=0.1)


def count_traces(model):
    traces = []
    search = model._search
    model._search = lambda *args: traces.append(len(args)) or search(*args)
    return traces


@pytest.mark.skipif(keras.backend.backend() == "torch", reason="PyTorch records loops and traces no function")
def test_a_second_call_of_a_bucket_compiles_nothing():
    model = models.CausalLM(V, 1, 12, 17, 3, sequence_length=60)
    traces = count_traces(model)
    for prompts in (PROMPTS, [[3, 4], [5, 6], [7]], [[3] * 16, [4], [5]]):
        model.generate(prompts, max_length=4, strategy="sampling", seed=len(prompts[0]))
    assert len(traces) == 1
    model.generate([[3] * 17, [4], [5]], max_length=4, strategy="sampling")
    assert len(traces) == 2


@pytest.mark.skipif(keras.backend.backend() != "torch", reason="recordings are PyTorch's")
def test_a_second_call_of_a_bucket_records_nothing():
    model = models.CausalLM(V, 1, 12, 17, 3, sequence_length=60)
    model.generate(PROMPTS, max_length=4)
    (program,) = model._generation_programs.values()
    (first,) = program.recordings._kept.values()
    model.generate([[3, 4], [5, 6], [7]], max_length=4)
    assert list(program.recordings._kept.values()) == [first]
    before = model.generate(PROMPTS, max_length=4)
    randomize(model, scale=0.7)
    after = model.generate(PROMPTS, max_length=4)
    assert list(program.recordings._kept.values()) == [first]
    assert (before.scores != after.scores).all()  # new values of the weights are seen
    check_greedy(after, [greedy_by_whole_passes(model, prompt, 4) for prompt in PROMPTS])


def test_training_between_two_calls_is_seen():
    # Large enough for products by packed copies of the weights, where a backend makes such copies.
    model = models.CausalLM(V, 1, 128, 128, 2, sequence_length=20, dropout=0.0)
    model.compile(keras.optimizers.SGD(0.5), keras.losses.SparseCategoricalCrossentropy(from_logits=True))
    tokens = np.array([PROMPTS[0], PROMPTS[0]])
    for _ in range(2):
        expected = [greedy_by_whole_passes(model, prompt, 3) for prompt in PROMPTS]
        check_greedy(model.generate(PROMPTS, max_length=3, end_id=END), expected)
        model.train_on_batch(tokens, np.roll(tokens, -1, axis=1))
    before, *_ = expected
    assert before[1] != greedy_by_whole_passes(model, PROMPTS[0], 3)[1]


def test_errors_name_what_is_wrong():
    model = language_model()
    for arguments, message in [
        (dict(prompts=[[]]), "`prompts` must hold at least one prompt, and none may be empty"),
        (dict(prompts=[[99]]), r"Ids of `prompts` must be in \[0, vocabulary_size\)"),
        (dict(prompts=[[0.5]]), "`prompts` must be sequences of integer ids"),
        (dict(prompts=[[3]], max_length=99), "within the 40 learned positions.*max_length=99"),
        (dict(prompts=[[3]], strategy="best"), "`strategy` must be a `Strategy` or one of.*'best'"),
        (dict(prompts=[[3]], num_beams=3), "`greedy` has the settings.*num_beams=3"),
        (dict(prompts=np.ones((1, 2), int), padding_mask=[[1, 0]]), "`padding_mask` must be bool"),
    ]:
        with pytest.raises(ValueError, match=message):
            model.generate(**{"max_length": 4, **arguments})


def functional(kind):
    """Language models in the parts that people put together."""
    ids = keras.Input((None,), dtype="int32")
    embedding = layers.PositionalEmbedding(V, 40, 12)
    x = embedding(ids)
    if kind == "attention":
        for _ in range(2):
            normalized = keras.layers.LayerNormalization()(x)
            x = x + layers.MultiHeadAttention(3, 4)(normalized, normalized, use_causal_mask=True)
            x = keras.layers.Add()([x, layers.FeedForward(17)(keras.layers.LayerNormalization()(x))])
    elif kind == "blocks":
        x = layers.TransformerDecoder(17, 3)(x)
        x = layers.TransformerDecoder(17, 3, normalize_first=True)(x)
    elif kind == "stack":
        x = layers.TransformerDecoderStack(2, 17, 3, position="rope")(x)
    elif kind == "convolution":
        x = keras.layers.Conv1D(12, 3, padding="causal")(x)
    elif kind == "keras":
        x = keras.layers.MultiHeadAttention(3, 4)(x, x, use_causal_mask=True)
    elif kind == "not causal":
        x = layers.TransformerEncoder(17, 3)(x)
    return randomize(keras.Model(ids, embedding(x, reverse=True)), scale=0.7)


@pytest.mark.parametrize("kind", ["attention", "blocks", "stack"])
def test_any_functional_model_decodes_through_caches(kind):
    model = functional(kind)
    cached = CachedModel(model, end_id=END)
    assert not cached.uncached
    check_greedy(cached.generate(PROMPTS, max_length=5), [greedy_by_whole_passes(model, p, 5) for p in PROMPTS])
    cached.generate(PROMPTS, max_length=5, strategy="beam", num_beams=2)


@pytest.mark.parametrize(("kind", "name"), [("convolution", "conv1d"), ("keras", "multi_head_attention")])
def test_a_layer_without_cached_calls_is_named_and_the_whole_model_runs(kind, name):
    model = functional(kind)
    with pytest.warns(UserWarning, match=f"no cached call of '{name}"):
        cached = CachedModel(model, end_id=END)
    check_greedy(cached.generate(PROMPTS, max_length=5), [greedy_by_whole_passes(model, p, 5) for p in PROMPTS])


def test_a_model_that_sees_the_future_is_refused():
    with pytest.warns(UserWarning, match="no cached call"), pytest.raises(ValueError, match="depend on later tokens"):
        CachedModel(functional("not causal"))


def test_a_layer_that_says_it_treats_tokens_one_by_one_is_believed_and_checked():
    ids = keras.Input((None,), dtype="int32")
    embedding = layers.PositionalEmbedding(V, 40, 12)
    layer = keras.layers.Conv1D(12, 3, padding="causal")
    layer.is_token_wise = True
    model = randomize(keras.Model(ids, embedding(layer(embedding(ids)), reverse=True)), scale=0.7)
    with pytest.raises(ValueError, match="do not give the outputs of the whole model"):
        CachedModel(model)


@pytest.mark.parametrize("with_stack", [True, False])
def test_an_encoder_runs_once_and_its_padding_is_masked(with_stack):
    source, target = (keras.Input((None,), dtype="int32", name=name) for name in ("source", "target"))
    embedding = layers.PositionalEmbedding(V, 40, 12, mask_zero=True)
    memory = layers.TransformerEncoder(17, 3)(embedding(source))
    decoder = layers.TransformerDecoderStack(2, 17, 3) if with_stack else layers.TransformerDecoder(17, 3)
    x = decoder(embedding(target), memory)
    model = randomize(keras.Model({"source": source, "target": target}, embedding(x, reverse=True)), scale=0.7)
    cached = CachedModel(model, "target", start_id=1, end_id=END, forbidden_ids=(0,))
    allowed = np.arange(1, V)
    results = cached.generate(source=SOURCES, max_length=5)
    for i, row in enumerate(SOURCES):
        whole = lambda text, row=row: model({"source": tensor(row), "target": text})  # noqa: E731
        check_greedy([x[i : i + 1] for x in results], [greedy_by_whole_passes(whole, [1], 5, allowed)])
    beams = cached.generate(source=SOURCES, max_length=5, strategy="beam", num_beams=3)
    assert beams.sequences.shape == (3, 3, 5)
    with pytest.raises(ValueError, match="needs `start_id` and `source`"):
        cached.generate(max_length=5)
