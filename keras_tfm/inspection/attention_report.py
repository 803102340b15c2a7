"""Which kernel every attention of a model runs on, and why not a faster one."""

from typing import NamedTuple

from keras_tfm.ops.attention import explain_request, observe_attention


class AttentionRow(NamedTuple):
    """One attention: its layer, T, S, N, K, the kernel that ran, and `(kernel, reason)` of those that could not."""

    layer: str
    query_length: int | None
    key_length: int | None
    num_heads: int
    num_key_value_heads: int
    kernel: str
    refused: tuple


class AttentionReport(NamedTuple):
    """The attentions of one call, in the order of computation."""

    rows: tuple

    def __str__(self):
        width = max([len(row.layer) for row in self.rows] + [5])
        lines = [f"{'layer':{width}}  {'T':>6} {'S':>6} {'N':>3} {'K':>3}  {'kernel':16} why not a faster one"]
        for row in self.rows:
            sizes = f"{row.query_length!s:>6} {row.key_length!s:>6} {row.num_heads:>3} {row.num_key_value_heads:>3}"
            reasons = [f"{name}: {reason}" for name, reason in row.refused] or ["-"]
            lines.append(f"{row.layer:{width}}  {sizes}  {row.kernel:16} {reasons[0]}")
            lines += [" " * (width + 40) + reason for reason in reasons[1:]]
        return "\n".join(lines)


def attention_report(model, *args, print_fn=print, **kwargs):
    """Calls a model or a layer, and prints which kernel each of its attentions ran on and why not one before it.

    Args:
        model: anything that can be called: a model, a layer, a function.
        *args, **kwargs: of the call. Ask with the shapes, masks and `training` of your use: they decide.
        print_fn: what prints the report; `None` to print nothing.

    Returns:
        An `AttentionReport`. Inside compiled code that was traced before nothing is seen: call eagerly.

    Example:

    >>> import keras, keras_tfm
    >>> block = keras_tfm.layers.TransformerEncoder(16, 2)
    >>> report = attention_report(block, keras.ops.ones((1, 5, 8)), print_fn=None, return_attention_scores=True)
    >>> report.rows[0].kernel
    'reference'
    """
    rows = []

    def observe(request, kernel):
        reasons = explain_request(request)
        before = [name for name, _ in reasons].index(kernel.name)
        rows.append(
            AttentionRow(
                request.label or "ops.attention",
                request.query.shape[1],
                request.key.shape[1],
                request.query.shape[2],
                request.key.shape[2],
                kernel.name,
                tuple(reasons[:before]),
            )
        )

    with observe_attention(observe):
        model(*args, **kwargs)
    report = AttentionReport(tuple(rows))
    if print_fn is not None:
        print_fn(str(report))
    return report
