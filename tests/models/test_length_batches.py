"""Batches of few shapes hold each sequence once."""

import hypothesis
import numpy as np
from hypothesis import strategies as st

from keras_tfm.models.length_batches import batches_by_length, bucket_width, round_up


def test_sizes_are_few_and_close():
    sizes = sorted({round_up(number) for number in range(1, 200)})
    assert sizes == [1, 2, 3, 4, 6, 8, 12, 16, 24, 32, 48, 64, 96, 128, 192, 256]
    assert all(number <= round_up(number) < 1.5 * number + 1 for number in range(1, 3000))


@hypothesis.given(
    st.lists(st.integers(0, 90), max_size=40), st.sampled_from([8, 64, 500]), st.sampled_from([None, 1, 5])
)
def test_each_sequence_is_in_one_batch_of_its_width(lengths, tokens, batch_size):
    seen, shapes = [], {}
    for width, rows, num_real in batches_by_length(lengths, tokens, batch_size):
        assert 1 <= num_real <= len(rows) and len(rows) <= (batch_size or len(rows))
        assert len(rows) * width <= tokens or len(rows) == 1
        assert all(bucket_width(lengths[row]) == width for row in rows)
        seen += rows[:num_real].tolist()
        shapes.setdefault(width, set()).add(len(rows))
    assert sorted(seen) == list(range(len(lengths)))
    assert all(len(sizes) == 1 for sizes in shapes.values())
    assert np.all(np.diff(list(shapes)) > 0)
