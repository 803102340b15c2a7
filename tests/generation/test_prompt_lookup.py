"""The promises of prompt look-up, against a plain search through a list."""

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from keras import ops

from keras_tfm.generation.prompt_lookup import PromptLookup, look_up
from keras_tfm.generation.speculative import speculative_search

B, M = 3, 13


def plain(known, num_tokens, ngram_size):
    """The same for one list of tokens, -1 where there is nothing."""
    for n in range(min(ngram_size, len(known) - 1), 0, -1):
        tail = known[-n:]
        for end in range(len(known) - 1, n - 1, -1):
            if -1 not in tail and known[end - n : end] == tail:
                return [max(known[end + i % (len(known) - end)], 0) for i in range(num_tokens)]
    return [max(known[-1], 0)] * num_tokens


@given(seed=st.integers(0, 2**16), ngram_size=st.sampled_from([1, 3]), num_tokens=st.sampled_from([1, 6]))
def test_it_finds_what_a_plain_search_finds(seed, ngram_size, num_tokens):
    rng = np.random.default_rng(seed)
    history = rng.integers(0, 3, (B, M)).astype("int32")
    history[np.arange(M) < rng.integers(0, 4, (B, 1))] = -1
    ends = rng.integers(1, M + 1, B).astype("int32")
    found = look_up(ops.convert_to_tensor(history), ops.convert_to_tensor(ends), num_tokens, ngram_size)
    expected = [plain(row[:end].tolist(), num_tokens, ngram_size) for row, end in zip(history, ends, strict=True)]
    np.testing.assert_array_equal(ops.convert_to_numpy(found), expected)


def test_text_that_is_copied_costs_a_call_for_many_tokens():
    text = np.random.default_rng(0).permutation(40).astype("int32")
    follows = np.zeros((40, 40), "float32")
    follows[text, np.roll(text, -1)] = 9.0

    def extend(tokens, index, state):
        return ops.take(follows, tokens, axis=0), state

    options = dict(prompt=np.stack([text, np.full(40, -1, "int32")]), max_length=30, num_draft_tokens=4)
    sequences, _, _, calls = speculative_search(extend, (), PromptLookup(), text[[9, 9]], **options)
    np.testing.assert_array_equal(ops.convert_to_numpy(sequences), [text[10:40]] * 2)
    assert ops.convert_to_numpy(calls).tolist() == [6, 30]


def test_a_wrong_size_is_named():
    with pytest.raises(ValueError, match="`ngram_size` must be an integer of at least 1. Received: ngram_size=0"):
        PromptLookup(0)
