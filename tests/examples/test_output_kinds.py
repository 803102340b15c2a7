from collections import Counter

import numpy as np
import pytest
from output_kinds import draw_sequences, main, read_digits


def test_the_answers_are_right():
    inputs, labels = draw_sequences(np.random.default_rng(0), 100, max_length=7)
    rows = zip(inputs["source_ids"], inputs["target_ids"], *labels.values(), strict=True)
    for source, target, repeats, evens, ordered in rows:
        digits = [int(token) - 3 for token in source if token]
        counts = Counter(digits)
        assert 2 <= len(digits) <= 7 and not source[len(digits) :].any()
        assert repeats.tolist() == [int(counts[digit] > 1) for digit in digits] + [-1] * (7 - len(digits))
        assert evens == (sum(digit % 2 == 0 for digit in digits) > len(digits) / 2)
        written = [digit + 3 for digit in sorted(counts)]
        assert ordered.tolist() == [*written, 2] + [0] * (10 - len(written))
        assert target.tolist() == [1, *written] + [0] * (10 - len(written))


def test_a_run_prints_all_three_kinds_of_output(capsys):
    main(
        ["--num-sequences", "64", "--max-length", "5", "--num-layers", "1", "--hidden-dim", "8", "--num-heads", "2"]
        + ["--epochs", "1", "--digits", "2,7,1,8,2"]
    )
    printed = capsys.readouterr().out
    for part in ("n labels", "one label", "written lists"):
        assert part in printed
    assert printed.splitlines()[-1].replace("*", "").split()[:5] == ["2", "7", "1", "8", "2"]


def test_digits_are_checked_before_training():
    assert read_digits("2,0,9", 5).tolist() == [5, 3, 12, 0, 0]
    for digits in ("2,17", "2,,7", "1,2,3,4"):
        with pytest.raises(SystemExit, match=f"up to 3 digits with commas between them.*Received: {digits}"):
            main(["--digits", digits, "--max-length", "3"])
