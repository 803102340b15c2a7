"""Says at the end of a run how many random configurations were tried."""

from tests.properties import configurations


def pytest_terminal_summary(terminalreporter):
    terminalreporter.write_line(f"{configurations.num_tried} random configurations were tried.")
