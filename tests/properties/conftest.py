"""Small blocks of queries for all laws, and at the end of a run how many random configurations were tried."""

import pytest

from keras_tfm.ops import block_attention
from tests.properties import configurations


@pytest.fixture(autouse=True, scope="module")
def _small_blocks():
    """Lets the block kernel cut what is as short as the sequences of these tests."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(block_attention, "_block_size", lambda block_bytes, row_bytes: 4)
        patch.setattr(block_attention, "BLOCK_BYTES", 1)
        yield


def pytest_terminal_summary(terminalreporter):
    terminalreporter.write_line(f"{configurations.num_tried} random configurations were tried.")
