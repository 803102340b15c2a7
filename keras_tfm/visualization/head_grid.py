"""All heads of all layers of a model in one picture."""

import numpy as np

from keras_tfm.visualization.figures import finish_figure, new_figure


def plot_heads(records, path=None, *, row=0, kind=None, length=None, title=None):
    """Draws a small map for each head, a row of maps for each layer.

    Args:
        records: `AttentionRecord`s, as `collect_attention` returns them.
        path: Where to write the picture, a PNG unless the suffix names another format. Default None: nowhere.
        row: which row of the batch is drawn. Default 0.
        kind: `"encoder"`, `"decoder"` or `"cross"`, to draw these alone. Default None: all, in their order.
        length: how many tokens are drawn, on both sides, without the padding for instance: an int, or a pair (T, S).
            Default None: all.
        title: String above the picture. Default None.

    Returns:
        The `matplotlib.figure.Figure`.

    Raises:
        ValueError: If there is no record of the kind, or no such row.
        ImportError: If matplotlib, the extra `vis`, is not installed.

    Example:

    >>> import numpy as np
    >>> from keras_tfm.visualization import AttentionRecord
    >>> records = [AttentionRecord(f"block_{i}", "encoder", np.ones((1, 3, 4, 4)) / 4) for i in range(2)]
    >>> len(plot_heads(records).axes)
    6
    """
    chosen = [record for record in records if kind in (None, record.kind)]
    if not chosen or not all(0 <= row < len(record.scores) for record in chosen):
        raise ValueError(f"`records` must have that kind and row. Received: {len(chosen)} records, {kind=}, {row=}")
    targets, sources = length if isinstance(length, tuple) else (length, length)
    columns = max(record.scores.shape[1] for record in chosen)
    figure = new_figure(1.2 * columns + 0.7, 1.2 * len(chosen) + 0.4 + 0.3 * bool(title))
    grid = figure.subplots(len(chosen), columns, squeeze=False)
    for line, (record, cells) in enumerate(zip(chosen, grid, strict=True)):
        maps = np.asarray(record.scores, "float32")[row, :, :targets, :sources]
        for head, axes in enumerate(cells):
            axes.set(xticks=[], yticks=[])
            if head >= len(maps):
                axes.axis("off")
                continue
            axes.imshow(maps[head], cmap="Blues", vmin=0.0, vmax=maps[head].max() or 1.0, interpolation="nearest")
            if line == 0:
                axes.set_title(f"head {head}", fontsize=8)
        cells[0].set_ylabel(_short(record, line), fontsize=8, parse_math=False)
    if title:
        figure.suptitle(title, fontsize=11, parse_math=False)
    return finish_figure(figure, path)


def _short(record, line):
    blocks = [part for part in record.layer.split("/") if part.startswith("block_")]
    return f"{record.kind}\n{blocks[0] if blocks else f'layer {line}'}"
