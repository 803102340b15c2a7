import re

import normalizations
import pytest
from normalizations import main

TINY = "--num-sentences 300 --updates 1 --num-layers 1 --hidden-dim 8 --intermediate-dim 8 --num-heads 2".split()

KINDS = ["batch", "batch, padding counted"]


@pytest.fixture(scope="module")
def changes():
    """name: how far padding moves logits in training, and the rest of the batch."""
    with pytest.MonkeyPatch.context() as patch:
        printed = []
        patch.setattr("builtins.print", lambda *words, **_: printed.append(" ".join(map(str, words))))
        main([*TINY, "--batch-sizes", "4", "--normalizations", *KINDS])
    found = re.findall(r"  (.*): by more padding (\S+) in .*, (\S+) at test .* batch (\S+) in", "\n".join(printed))
    assert sum(" %" in line and line.startswith("  ") for line in printed) == len(KINDS)
    return {name: [float(number) for number in numbers] for name, *numbers in found}


def test_a_run_trains_and_compares(monkeypatch, capsys):
    monkeypatch.setattr(normalizations, "largest_changes", lambda model, words: (1.0, 2.0, 3.0))
    main([*TINY, "--batch-sizes", "4", "--normalizations", "batch, padding counted"])
    printed = capsys.readouterr().out
    assert "accuracy on held-out sentences, trained on batches of 4" in printed
    assert "by more padding 1.0e+00 in training, 3.0e+00 at test time; by the rest of the batch 2.0e+00" in printed


def test_padding_moves_only_statistics_that_count_it(changes):
    assert changes["batch"][0] < 1e-4
    assert changes["batch, padding counted"][0] > 1e-2


def test_at_test_time_padding_moves_none(changes):
    assert max(at_test for _, at_test, _ in changes.values()) < 1e-4


def test_the_rest_of_the_batch_moves_batch_statistics(changes):
    assert min(by_batch for _, _, by_batch in changes.values()) > 1e-3
