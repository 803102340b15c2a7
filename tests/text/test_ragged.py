"""Ragged arrays pad as a loop would."""

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from keras_tfm.text.ragged import RaggedArray

SEQUENCES = st.lists(st.lists(st.integers(1, 99), max_size=7), min_size=1, max_size=11)


@given(SEQUENCES, st.data(), st.integers(1, 9))
def test_padding_equals_a_loop(sequences, data, width):
    rows = data.draw(st.lists(st.integers(-1, len(sequences) - 1), min_size=1, max_size=13))
    expected = np.full((len(rows), width), -7)
    for place, row in enumerate(rows):
        values = sequences[row][:width] if row >= 0 else []
        expected[place, : len(values)] = values
    padded = RaggedArray(sequences).pad(rows, width, pad_id=-7)
    np.testing.assert_array_equal(padded, expected)
    assert padded.dtype == "int32"


@given(SEQUENCES, st.integers(1, 99))
def test_a_value_is_found_in_the_first_sequence_that_holds_it(sequences, value):
    holders = [number for number, sequence in enumerate(sequences) if value in sequence]
    assert RaggedArray(sequences).find(value) == (holders[0] if holders else None)


@pytest.mark.parametrize(
    ("sequences", "message"),
    [
        ([[1, 2.5]], "`words` must be whole numbers. Received: 2.5"),
        ([["a", "b"]], "`words` must be lists of ints, one a sentence"),
        ([[2**40]], "`words` must fit into 32 bits"),
        ([[1], []], "`words` must not hold an empty sequence. Received: number 1"),
        ([[1], [2, 0]], "`words` must not hold pad_id=0, which is masked. Received: number 1"),
        ([[1], [-2]], r"`words` must be in \[0, vocabulary_size\)"),
        ([[1], [7]], "Received: words from 1 to 7, vocabulary_size=7"),
    ],
)
def test_what_is_no_list_of_ids_is_refused(sequences, message):
    with pytest.raises(ValueError, match=message):
        RaggedArray(sequences, "words").check(pad_id=0, vocabulary_size=7)
