"""A conversation says what `generate` says of the whole text, and reads nothing twice."""

import keras
import numpy as np
import pytest

from keras_tfm import generation, layers, models
from keras_tfm.models.conversation import Conversation
from tests.models.test_generate import END, SOURCES, V, functional, language_model, translator
from tests.numerics import randomize

TURNS = [[[5, 6, 7, 3, 4], [8], [9, 10, 3]], [[4], [7, 7, 12, 1], []], [[6, 8], [], [3]]]


def check_turn(conversation, model, turn, texts, **options):
    """One turn; returns the texts after it."""
    texts = [text + more for text, more in zip(texts, turn, strict=True)]
    results = conversation.generate(turn, max_length=4, **options)
    expected = model.generate(texts, max_length=4, **options)
    np.testing.assert_array_equal(results.sequences, expected.sequences)
    np.testing.assert_array_equal(results.lengths, expected.lengths)
    np.testing.assert_allclose(results.scores, expected.scores, rtol=1e-4, atol=1e-4)
    best = [x[:, 0] if "num_beams" in options else x for x in (results.sequences, results.lengths)]
    return [text + row[:length].tolist() for text, row, length in zip(texts, *best, strict=True)]


@pytest.mark.parametrize(
    "options",
    [dict(strategy="greedy"), dict(strategy="sampling", seed=3), dict(strategy="beam", num_beams=3)],
    ids=lambda options: options["strategy"],
)
def test_turns_of_different_lengths_say_what_generate_says_of_the_whole_text(options):
    model = language_model()
    conversation, texts = Conversation(model, length=40), [[], [], []]
    for turn in TURNS:
        texts = check_turn(conversation, model, turn, texts, **options)
        assert conversation.texts == texts
        assert conversation.lengths.tolist() == [len(text) for text in texts]


def test_relative_positions_and_rules_see_the_whole_text():
    model = language_model("rope")
    conversation, texts = Conversation(model, length=30), [[], [], []]
    for turn in TURNS[:2]:
        texts = check_turn(conversation, model, turn, texts, rules=[generation.NoRepeatNgram(2)], end_id=())


def test_long_turns_are_read_in_chunks():
    model = language_model()
    turn = [[i % 10 + 3 for i in range(34)], [5]]
    conversation = Conversation(model, length=40)
    conversation.append(turn)
    texts = check_turn(conversation, model, [[], []], turn)
    assert conversation.texts == texts


def test_a_turn_reads_only_what_is_new():
    model = models.CausalLM(V, 1, 12, 17, 3, sequence_length=64)
    conversation, sizes = Conversation(model, length=64), []
    conversation.append([[3] * 40, [4]])
    programs = len(model._generation_programs)
    key = next(key for key in model._generation_programs if key[0] == ("conversation", "read"))
    read = model._generation_programs[key]
    model._generation_programs[key] = lambda *inputs: sizes.append(inputs[2]) or read(*inputs)
    conversation.append([[5], [6, 7]])
    assert [keras.ops.convert_to_numpy(counts).tolist() for counts in sizes] == [[1, 2]]
    conversation.generate(max_length=3)
    conversation.generate([[5], [6]], max_length=3)
    assert len(model._generation_programs) == programs + 1


def test_forks_share_what_was_read_and_go_their_own_ways():
    model = language_model()
    conversation = Conversation(model, length=40)
    conversation.append(TURNS[0][:2])
    forked = conversation.fork(2)
    assert forked.num_bytes == 2 * conversation.num_bytes
    endings = [[4], [12, 1], [3], [9]]
    results = forked.generate(endings, max_length=4)
    texts = [[*TURNS[0][i // 2], *ending] for i, ending in enumerate(endings)]
    np.testing.assert_array_equal(results.sequences, model.generate(texts, max_length=4).sequences)
    assert conversation.texts == TURNS[0][:2]
    turned = conversation.reorder([1, 0]).generate([[7], [6, 5]], max_length=4)
    texts = [[*TURNS[0][1], 7], [*TURNS[0][0], 6, 5]]
    np.testing.assert_array_equal(turned.sequences, model.generate(texts, max_length=4).sequences)


def test_functional_models_and_translations_converse():
    cached = models.CachedModel(functional("stack"), end_id=END)
    conversation, texts = Conversation(cached, length=30), [[], [], []]
    for turn in TURNS[:2]:
        texts = check_turn(conversation, cached, turn, texts)
    model = translator()
    conversation = Conversation(model, length=30, source=(SOURCES,))
    first = conversation.generate([[1], [1], [1]], max_length=3, end_id=())
    second = conversation.generate(max_length=3, end_id=())
    whole = model.generate(SOURCES, max_length=6, end_id=())
    np.testing.assert_array_equal(np.concatenate([first.sequences, second.sequences], axis=1), whole.sequences)


def test_small_caches_are_counted():
    model = language_model("rope")
    sizes = {}
    for kind in ("full", "int8"):
        conversation = Conversation(model, length=30, cache=kind)
        assert conversation.num_bytes == 0
        conversation.generate([[5, 6], [7]], max_length=3)
        sizes[kind] = conversation.num_bytes
    assert sizes["full"] == 2 * 2 * 2 * (30 + 32) * 12 * 4
    assert sizes["int8"] < sizes["full"]


def rolling_model():
    ids = keras.Input((None,), dtype="int32")
    embedding = layers.PositionalEmbedding(V, 40, 12)
    x = embedding(ids)
    x = layers.MultiHeadAttention(3, 4, sliding_window=3)(x, x, use_causal_mask=True)
    return models.CachedModel(randomize(keras.Model(ids, embedding(x, reverse=True))))


def test_errors_name_what_is_wrong():
    model = language_model()
    with pytest.raises(ValueError, match="`length` must be within the 40 learned positions. Received: length=41"):
        Conversation(model, length=41)
    with pytest.raises(ValueError, match="There is no text yet"):
        Conversation(model, length=9).fork(2)
    with pytest.raises(ValueError, match="a place for each position.*RollingKVCache"):
        Conversation(rolling_model(), length=9, cache="rolling").append([[3]])
    conversation = Conversation(model, length=9)
    conversation.append([[3, 4], [5]])
    for call, arguments, message in [
        (conversation.append, dict(prompts=[[3]]), "one sequence of ids for each text.*1 sequences, 2 texts"),
        (conversation.append, dict(prompts=[[V], []]), r"Ids of `prompts` must be in \[0, vocabulary_size\)"),
        (conversation.append, dict(prompts=[[3] * 8, []]), "conversation is full: `length`.*length=9, a text of 10"),
        (conversation.generate, dict(max_length=8), "conversation is full: `length`.*length=9.*max_length=8"),
        (conversation.generate, dict(max_length=2, strategy="sampling", num_samples=2), "`fork` makes.*num_samples=2"),
        (Conversation(model, 9).append, dict(prompts=[[3], []]), "begin with an empty turn"),
        (Conversation(model, 9).generate, dict(max_length=2), "one sequence of ids for each text"),
    ]:
        with pytest.raises(ValueError, match=message):
            call(**arguments)
    assert conversation.texts == [[3, 4], [5]]
