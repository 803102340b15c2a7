"""A stream's tokens are those of `generate`, and its text is whole."""

import keras
import numpy as np
import pytest

from keras_tfm import generation, models
from keras_tfm.models.streaming import TextStreamer, stream_text
from tests.models.test_generate import END, PROMPTS, SOURCES, V, functional, language_model, translator


def check(stream, results):
    columns = list(stream)
    assert len(columns) == results.lengths.max()
    assert columns[0].dtype == "int32"
    np.testing.assert_array_equal(np.stack(columns, axis=-1), results.sequences[..., : len(columns)])


@pytest.mark.parametrize(
    ("strategy", "settings"),
    [("greedy", {}), ("sampling", {"temperature": 0.9, "seed": 3}), ("sampling", {"num_samples": 2, "seed": 5})],
)
def test_a_stream_says_what_generate_says(strategy, settings):
    options = dict(max_length=6, strategy=strategy, pad_id=0, **settings)
    model = language_model()
    check(model.stream(PROMPTS, **options), model.generate(PROMPTS, **options))


def test_rules_of_a_stream_see_the_prompt():
    options = dict(max_length=6, rules=[generation.NoRepeatNgram(1)], end_id=())
    model = language_model()
    check(model.stream(PROMPTS, **options), model.generate(PROMPTS, **options))


def test_translations_stream():
    model = translator()
    check(model.stream(SOURCES, max_length=5), model.generate(SOURCES, max_length=5))


def test_functional_models_stream():
    cached = models.CachedModel(functional("stack"), end_id=END)
    check(cached.stream(PROMPTS, max_length=4), cached.generate(PROMPTS, max_length=4))


def test_a_second_stream_of_a_bucket_compiles_nothing():
    model = models.CausalLM(V, 1, 12, 17, 3, sequence_length=60)
    calls, extend = [], model.extend
    model.extend = lambda *args: calls.append(len(args)) or extend(*args)
    first, *_ = [list(model.stream(prompts, max_length=4)) for prompts in (PROMPTS, [[3] * 16, [4], [5]])]
    assert len(first) == 4
    after_two = len(calls)
    list(model.stream([[3, 4], [5, 6], [7]], max_length=4, seed=3))
    assert len(calls) == after_two
    # One pass over Python code for all steps, and on JAX one more for the shapes of the results.
    assert after_two <= (1 if keras.backend.backend() == "torch" else 3)


def test_streams_of_one_program_do_not_disturb_each_other():
    model = language_model()
    one, other = (model.stream(prompts, max_length=5) for prompts in (PROMPTS, PROMPTS[::-1]))
    pairs = list(zip(one, other, strict=False))
    np.testing.assert_array_equal(np.stack([pair[0] for pair in pairs]), np.stack([pair[1] for pair in pairs])[:, ::-1])


def test_errors_come_before_the_first_token():
    with pytest.raises(ValueError, match="never changes what it has said"):
        language_model().stream(PROMPTS, max_length=4, strategy="beam")
    with pytest.raises(ValueError, match="none may be empty"):
        language_model().stream([[]], max_length=4)


TEXT = "a ñandú 你好 👩‍🚀 \N{REPLACEMENT CHARACTER}b\N{REPLACEMENT CHARACTER}"


def decode_bytes(ids):
    return bytes(ids).decode(errors="replace")


@pytest.mark.parametrize("hold_back", [0, 3])
def test_pieces_of_text_are_whole_characters_and_join_to_the_text(hold_back):
    streamer = TextStreamer(decode_bytes, hold_back)
    pieces = [streamer.push(byte) for byte in TEXT.encode()]
    pieces.append(streamer.finish())
    assert "".join(pieces) == TEXT
    assert set("".join(pieces)) == set(TEXT)
    assert pieces[:4] == (["", "", "", "a"] if hold_back else ["a", " ", "", "ñ"])


def test_bytes_that_end_within_a_character_come_at_the_end():
    streamer = TextStreamer(decode_bytes)
    assert [streamer.push(byte) for byte in "é!é".encode()[:-1]] == ["", "é", "!", ""]
    assert streamer.finish() == "\N{REPLACEMENT CHARACTER}"


def decode_words(ids):
    """As tokenizers that clean up: no space before a full stop."""
    return " ".join("abc."[index] for index in ids).replace(" .", ".").replace(". c", ".c")


def test_text_that_changes_is_an_error_unless_it_was_held_back():
    ids = [0, 3, 2, 1]
    pieces = [piece for (piece,) in stream_text([[index] for index in ids], decode_words)]
    assert pieces == ["a", ".", "c", " b"]
    retract = lambda ids: decode_words(ids).replace("a b", "ab")  # noqa: E731
    assert "".join(piece for (piece,) in stream_text([[0], [1], [2]], retract)) == "ab c"
    rewrite = lambda ids: decode_words(ids).replace("a b", "b")  # noqa: E731
    streamer = TextStreamer(rewrite)
    streamer.push(0)
    with pytest.raises(ValueError, match="a larger `hold_back` lets text wait.*hold_back=0, 'a' given out, now 'b'"):
        streamer.push(1)
    assert "".join(piece for (piece,) in stream_text([[0], [1], [2]], rewrite, hold_back=1)) == "b c"


def test_rows_of_text_end_on_their_own():
    steps = np.array([[97, 195], [98, 177], [2, 99], [0, 195]])
    pieces = list(stream_text(iter(steps), decode_bytes, end_id=2))
    assert pieces == [["a", ""], ["b", "ñ"], ["", "c"], ["", ""], ["", "\N{REPLACEMENT CHARACTER}"]]


def test_errors_of_text_name_what_is_wrong():
    with pytest.raises(ValueError, match="`hold_back` must be an integer of at least 0.*hold_back=-1"):
        TextStreamer(decode_bytes, -1)
