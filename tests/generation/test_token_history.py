"""The promises of histories and counts of tokens."""

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from keras import ops

from keras_tfm.generation.token_history import decoded, ids_mask, remember, start_history, token_counts


def ids(rows):
    return ops.convert_to_tensor(np.array(rows, "int32"))


@given(data=st.data(), length=st.integers(1, 6), prompt_length=st.integers(0, 4))
def test_it_holds_the_newest_tokens_and_nothing_before_them(data, length, prompt_length):
    tokens = st.lists(st.integers(-1, 9), min_size=prompt_length, max_size=prompt_length)
    prompt = np.array([data.draw(tokens), data.draw(tokens)], "int32").reshape(2, prompt_length)
    read = np.array(data.draw(st.lists(st.tuples(st.integers(0, 9), st.integers(0, 9)), max_size=4)), "int32").reshape(
        -1, 2
    )
    history = start_history(ids([7, 8]), length, ids(prompt))
    for each in read:
        history = remember(history, ids(each))
    everything = np.concatenate([np.full((2, length), -1), prompt, read.T], axis=1)
    np.testing.assert_array_equal(ops.convert_to_numpy(history), everything[:, -length:])


def test_without_a_prompt_it_is_empty():
    np.testing.assert_array_equal(ops.convert_to_numpy(start_history(ids([7, 8]), 3)), np.full((2, 3), -1))


def test_the_start_token_is_not_decoded():
    for index, expected in ((0, [-1, -1]), (1, [7, 8])):
        found = decoded(ids([7, 8]), ops.convert_to_tensor(index, "int32"))
        np.testing.assert_array_equal(ops.convert_to_numpy(found), expected)


@given(data=st.data())
def test_counts_are_those_of_numpy(data):
    rows = data.draw(st.lists(st.lists(st.integers(-2, 8), min_size=5, max_size=5), min_size=3, max_size=3))
    expected = [np.bincount([each for each in row if 0 <= each < 7], minlength=7) for row in rows]
    counts = ops.convert_to_numpy(token_counts(ids(rows), 7))
    assert counts.dtype == "float32"
    np.testing.assert_array_equal(counts, expected)


def test_an_empty_batch_has_no_counts():
    assert tuple(token_counts(ids(np.zeros((0, 5))), 7).shape) == (0, 7)


def test_an_id_outside_the_vocabulary_is_named():
    np.testing.assert_array_equal(ids_mask("ids", (0, 2), 3), [True, False, True])
    with pytest.raises(ValueError, match="`ids` must be smaller than the vocabulary size 3. Received: ids=3"):
        ids_mask("ids", (3,), 3)
