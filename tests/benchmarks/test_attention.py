"""The benchmark runs."""

from benchmarks import attention


def test_a_tiny_run_gives_a_row_for_each_contestant():
    names = list(attention.contestants())
    table = attention.time_table(5, True, 1, names, attention.heads(5, num_heads=2, key_dim=3))
    assert [line.split(" | ")[0] for line in table.splitlines()[4:]] == [f"| {name}" for name in names]
    assert "5 tokens, causal" in table
    assert attention.peak("block", 5, is_causal=True) >= 0
