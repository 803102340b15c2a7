"""The promise of phrase progress: it is what a search for the phrase in the whole text finds."""

import numpy as np
from hypothesis import given
from hypothesis import strategies as st
from keras import ops

from keras_tfm.generation.phrase_progress import Phrases, advance, next_tokens, num_missing

C, M = 3, 5
phrase = st.lists(st.integers(0, 1), min_size=0, max_size=M)


def begun(text, phrase):
    """How many tokens of `phrase` the `text` ends with; all of them once it contains the phrase."""
    windows = [text[i : i + len(phrase)] for i in range(len(text) + 1)]
    if phrase in windows:
        return len(phrase)
    return max(j for j in range(len(phrase)) if text[len(text) - j :] == phrase[:j])


@given(
    sentences=st.lists(st.lists(phrase, min_size=C, max_size=C), min_size=2, max_size=2),
    texts=st.lists(st.lists(st.integers(0, 1), min_size=8, max_size=8), min_size=4, max_size=4),
)
def test_progress_is_how_much_of_a_phrase_the_text_ends_with(sentences, texts):
    padded = np.array([[one + [-1] * (M - len(one)) for one in phrases] for phrases in sentences], "int32")
    phrases = Phrases.create(padded)
    texts = np.array(texts, "int32").reshape(2, 2, 8)  # two hypotheses of two sentences
    progress = ops.zeros((2, 2, C), "int32")
    for length in range(9):
        expected = np.array(
            [[[begun(list(text[:length]), one) for one in sentences[b]] for text in texts[b]] for b in range(2)]
        )
        lengths = np.array([[len(one) for one in each] for each in sentences])[:, None]
        np.testing.assert_array_equal(ops.convert_to_numpy(progress), expected)
        following = np.take_along_axis(
            np.concatenate([padded, np.full((2, C, 1), -1)], -1)[:, None].repeat(2, 1), expected[..., None], axis=-1
        )[..., 0]
        np.testing.assert_array_equal(ops.convert_to_numpy(next_tokens(progress, phrases)), following)
        open_lengths = np.where(expected < lengths, lengths, 0)
        missing = open_lengths.sum(-1) - np.where(expected < lengths, expected, 0).max(-1)
        np.testing.assert_array_equal(ops.convert_to_numpy(num_missing(progress, phrases)), missing)
        if length < 8:
            progress = advance(progress, ops.convert_to_tensor(texts[:, :, length]), phrases)
